"""Examples for the help of each command: what a person would type, two of each."""

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "demo": ("cuvee demo cuvee-demo", "cuvee demo /tmp/demo --json > ranking.json"),
    "plan": ("cuvee plan recipe.yaml", "cuvee plan recipe.yaml --all --memory 2GB"),
    "merge": ("cuvee merge recipe.yaml blend", "cuvee merge recipe.yaml blend --memory 2GB --threads 4 --overwrite"),
    "join": ("cuvee join blend", "cuvee join blend --overwrite"),
    "align": (
        "cuvee align blend aligned --expert sort=sort.jsonl --expert shift=shift.jsonl",
        "cuvee align blend repair --expert base+lora=chats.jsonl --as-adapter 32 --report where-it-hurt.html",
    ),
    "methods": ("cuvee methods", "cuvee methods ties"),
    "recipe-schema": ("cuvee recipe-schema", "cuvee recipe-schema > recipe.schema.json"),
    "calibrate": (
        "cuvee calibrate sort sort.jsonl statistics/sort",
        "cuvee calibrate statistics --expert sort=sort.jsonl --expert org/base+org/lora=texts.txt --tokens 16384",
    ),
    "upcycle": ("cuvee upcycle experts.yaml mixture", "cuvee upcycle experts.yaml mixture --shard-size 2GB"),
    "push": ("cuvee push blend me/my-blend", "cuvee push blend me/my-blend --private"),
    "inspect": ("cuvee inspect models/base", "cuvee inspect models/base/model.safetensors --json"),
    "compare": ("cuvee compare base expert-1 expert-2", "cuvee compare expert-1 expert-2 --base base --out heat.html"),
    "suggest": (
        "cuvee suggest base sort shift",
        "cuvee suggest org/base org/a org/base+lora --texts a.jsonl lora.jsonl --json",
    ),
    "verify": ("cuvee verify blend", "cuvee verify me/my-blend --json"),
    "doctor": ("cuvee doctor blend", "cuvee doctor blend --text passages.txt --device cpu"),
    "evaluate": (
        "cuvee evaluate blend sort reverse",
        "cuvee evaluate blend questions.csv --out scores --against-parents --card",
    ),
    "parents": ("cuvee parents blends sort reverse", "cuvee parents blend questions.csv --out scores --limit 100"),
    "report": ("cuvee report scores-1 scores-2", "cuvee report scores-1 scores-2 --out report.html"),
    "bench": (
        "cuvee bench --base base --experts sort shift --tasks sort shift",
        "cuvee bench --base org/base --experts org/a org/b --tasks q.csv --texts a.jsonl b.jsonl --budget 2h",
    ),
    "search run": (
        "cuvee search run space.yaml found",
        "cuvee search run space.yaml found --budget 30m --workers 2 --watch",
    ),
    "search new": (
        "cuvee search new --base base --models sort shift --tasks sort shift > space.yaml",
        "cuvee search new --base org/base --models org/a org/b --tasks questions.csv",
    ),
    "search show": ("cuvee search show found", "cuvee search show found --json"),
    "search recipe": ("cuvee search recipe found > best.yaml", "cuvee search recipe found 17"),
    "search again": (
        "cuvee search again found --tasks other.yaml",
        "cuvee search again found --tasks a b --top 5 --json",
    ),
    "adapters combine": (
        "cuvee adapters combine lora-1 lora-2 --out both",
        "cuvee adapters combine lora-1 lora-2 --out both --method ties --set density=0.5 --rank 16",
    ),
    "adapters apply": (
        "cuvee adapters apply base lora blend",
        "cuvee adapters apply org/base org/lora blend --memory 1GB",
    ),
    "adapters bake": ("cuvee adapters bake trained plain", "cuvee adapters bake trained plain --alpha 32"),
    "adapters extract": (
        "cuvee adapters extract expert base lora --rank 32",
        "cuvee adapters extract expert base lora --energy 0.99 --no-check",
    ),
    "adapters list": ("cuvee adapters list bank", "cuvee adapters list bank --json"),
    "adapters compare": ("cuvee adapters compare lora-1 lora-2", "cuvee adapters compare lora-1 lora-2 --json"),
    "tokenizer compare": ("cuvee tokenizer compare base expert", "cuvee tokenizer compare base expert --json"),
    "tokenizer resize": (
        "cuvee tokenizer resize model out --multiple 64",
        "cuvee tokenizer resize model out --add '<think>=mean' --add '</think>=mean' --special",
    ),
    "tokenizer transplant": (
        "cuvee tokenizer transplant model donor out",
        "cuvee tokenizer transplant model donor out --method subword",
    ),
    "task list": ("cuvee task list", "cuvee task list --json"),
    "task check-predictions": (
        "cuvee task check-predictions submission.csv sort",
        "cuvee task check-predictions submission.csv questions.csv --json",
    ),
    "task export": ("cuvee task export sort lm-eval-tasks", "cuvee task export questions.csv lm-eval-tasks"),
    "export rope": ("cuvee export rope blend", "cuvee export rope blend --json"),
    "export fp8": ("cuvee export fp8 blend blend-fp8", "cuvee export fp8 blend blend-fp8 --form compressed-tensors"),
    "export gguf": ("cuvee export gguf blend blend.gguf", "cuvee export gguf blend blend.gguf --type f16 --ollama"),
    "submission check": (
        "cuvee submission check recipe.yaml -c competition.yaml",
        "cuvee submission check --program program --model org/base",
    ),
    "submission lock": (
        "cuvee submission lock recipe.yaml",
        "cuvee submission lock recipe.yaml -c competition.yaml --out lock.json",
    ),
    "submission pack": (
        "cuvee submission pack recipe.yaml",
        "cuvee submission pack recipe.yaml --out mine.tar --name 'My blend'",
    ),
    "submission verify": (
        "cuvee submission verify submission.tar",
        "cuvee submission verify submission.tar -c competition.yaml --out verdict.json",
    ),
    "submission send": (
        "cuvee submission send submission.tar --token TOKEN",
        "cuvee submission send recipe.yaml --server https://host:8000 --token TOKEN --wait",
    ),
    "submission status": ("cuvee submission status --token TOKEN", "cuvee submission status 12 --token TOKEN"),
    "submission logs": ("cuvee submission logs 12 --token TOKEN", "cuvee submission logs 12 --token TOKEN --json"),
    "submission quota": (
        "cuvee submission quota --token TOKEN",
        "cuvee submission quota --server https://host:8000 --token TOKEN",
    ),
    "submission report": (
        "cuvee submission report report.pdf --token TOKEN",
        "cuvee submission report report.md --track report --server https://host:8000 --token TOKEN",
    ),
    "competition new": (
        "cuvee competition new my-competition",
        "cuvee competition new my-competition --title 'Blend day' --opens 2026-12-01T12:00Z",
    ),
    "competition check": (
        "cuvee competition check my-competition",
        "cuvee competition check my-competition/competition.yaml --offline",
    ),
    "competition get": (
        "cuvee competition get https://host:8000",
        "cuvee competition get https://host:8000 family --no-models",
    ),
    "competition check-verdict": (
        "cuvee competition check-verdict verdict-7-public.json",
        "cuvee competition check-verdict verdict-7-public.json --key ed25519:KEY --archive mine.tar",
    ),
    "competition serve": (
        "cuvee competition serve my-competition",
        "cuvee competition serve my-competition --port 9000 --workers 2",
    ),
    "competition work": (
        "cuvee competition work my-competition",
        "cuvee competition work my-competition --server https://host:8000 --token TOKEN",
    ),
    "competition token": (
        "cuvee competition token my-competition organiser ada",
        "cuvee competition token my-competition worker gpu-1",
    ),
    "competition final": (
        "cuvee competition final my-competition",
        "cuvee competition final my-competition freeze",
    ),
    "competition reports": (
        "cuvee competition reports --token TOKEN",
        "cuvee competition reports saved --server https://host:8000 --token TOKEN",
    ),
    "competition rate": (
        "cuvee competition rate 7 8.5 --token TOKEN",
        "cuvee competition rate 7 8.5 --rater 'Grace Hopper' --token TOKEN",
    ),
    "competition proposal": (
        "cuvee competition proposal my-competition --out proposal.md",
        "cuvee competition proposal my-competition --teams 120",
    ),
    "competition report": (
        "cuvee competition report my-competition paper",
        "cuvee competition report my-competition paper --database postgresql://user@host/name",
    ),
    "competition export": (
        "cuvee competition export my-competition site",
        "cuvee competition export my-competition all.json",
    ),
    "competition backup": (
        "cuvee competition backup my-competition monday.tar",
        "cuvee competition backup my-competition monday.tar --database postgresql://user@host/name",
    ),
    "competition restore": (
        "cuvee competition restore monday.tar my-competition",
        "cuvee competition restore monday.tar my-competition --database postgresql://user@host/name",
    ),
}


def epilog_of(command: str) -> str:
    """Return the lines below the help of a command."""
    return "\n\n".join(["Examples:", *EXAMPLES[command]])
