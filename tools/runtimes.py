"""Write docs/reference/runtimes.md: which other programs load a merged folder and compute what transformers computes.

    python tools/runtimes.py            # asks the package index; it takes a few minutes
    python tools/runtimes.py --keep DIR # keeps the programs in DIR for the next time

Each program is installed into a folder of its own, without its dependencies, and run in a process of its own beside the
libraries of this environment. Two tiny random models of each family are merged; the program reads the folder and gives
the logits after a prompt, which are compared with those of transformers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "runtimes.md"
PROMPT = [5, 17, 3, 44, 9, 21, 60, 2, 33, 12]
AGREES = 1e-3
"""The largest difference of log-probabilities that counts as agreement in float32."""

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "max_position_embeddings": 128, "initializer_range": 0.2, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": ROPE,
    "Mistral": {**ROPE, "head_dim": 16, "sliding_window": None},
    "Qwen2": ROPE,
    "Qwen3": {**ROPE, "head_dim": 16},
    "Gemma2": {**ROPE, "head_dim": 16, "query_pre_attn_scalar": 16},
    "Olmo2": ROPE,
    "Granite": ROPE,
    "Phi3": ROPE,
}

CTRANSLATE2 = """
import ctranslate2
from ctranslate2.converters import TransformersConverter
made = folder + "-ct2"
TransformersConverter(folder).convert(made, force=True)
generator = ctranslate2.Generator(made, device="cpu", compute_type="float32", intra_threads=1)
tokens = transformers.AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens(prompt)
logits = np.array(generator.forward_batch([tokens]))[0, -1]
"""
MLX = """
import mlx.core as mx
from pathlib import Path
from mlx_lm.utils import load_model
model, _ = load_model(Path(folder))
logits = np.array(model(mx.array([prompt])).astype(mx.float32))[0, -1]
"""


class Runtime(NamedTuple):
    """A program: its packages, the first of which names its version, and the lines that run it."""

    packages: tuple[str, ...]
    lines: str


RUNTIMES: dict[str, Runtime] = {
    "ctranslate2": Runtime(("ctranslate2",), CTRANSLATE2),
    "mlx-lm on a CPU": Runtime(("mlx-lm", "mlx", "mlx-cpu"), MLX),
}

DRIVER = """
import json, sys
import numpy as np
sys.path.append(sys.argv[1])
import transformers
folder, prompt = sys.argv[2], json.loads(sys.argv[3])
{lines}
print("LOGITS " + json.dumps([float(number) for number in logits]))
"""


INTRODUCTION = """\
# Other runtimes

<!-- Written by tools/runtimes.py; change it, then run it. -->

Two tiny random models of each family were merged, and the folder given to each program as it is. The numbers are the
largest differences of its log-probabilities from those of transformers {version}, in float32; those in bold are another
model. llama.cpp, by GGUF files, has [a page of its own](gguf.md).

transformers 5 writes `rope_parameters` in `config.json`. A program that reads only the older keys takes its own default
for them, and computes another model without a word. `cuvee export rope FOLDER` writes `rope_theta` and `rope_scaling`
beside them; transformers reads the same out of both.

| program | family | as merged | with the older keys |
|---|---|---|---|"""


class Found(NamedTuple):
    """The largest difference of log-probabilities, or what the program said when it failed."""

    difference: float | None
    problem: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=Path, help="a folder for the programs")
    with tempfile.TemporaryDirectory() as scratch:
        place = parser.parse_args().keep or Path(scratch) / "programs"
        folders = merged_models(Path(scratch))
        versions, rows = {}, {}
        for name, runtime in RUNTIMES.items():
            versions[name] = installed(runtime, place / name.partition(" ")[0])
            for family, folder in folders.items():
                for with_older in (False, True):
                    own = folder["older" if with_older else "plain"]
                    rows[name, family, with_older] = compared(runtime, place / name.partition(" ")[0], own)
                print(name, family, rows[name, family, False], rows[name, family, True], flush=True)
        PAGE.write_text(page(versions, rows), encoding="utf-8")


def installed(runtime: Runtime, place: Path) -> str:
    """Install a program and return its version."""
    if not place.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place)]
        subprocess.run([*command, *runtime.packages], check=True)
    (found,) = place.glob(f"{runtime.packages[0].replace('-', '_')}-*.dist-info")
    return found.name.removesuffix(".dist-info").rpartition("-")[2]


def merged_models(place: Path) -> dict[str, dict[str, Path]]:
    """Merge two models of each family, and lay a second copy beside it with the older keys of rotary embeddings."""
    import shutil

    import torch
    import transformers

    import cuvee
    from cuvee.export.older_rope import write_older_rope

    folders: dict[str, dict[str, Path]] = {}
    for family, changes in FAMILIES.items():
        for seed in range(2):
            torch.manual_seed(seed)
            config = getattr(transformers, f"{family}Config")(**{**SIZES, **changes})
            parent = place / f"{family}-{seed}"
            getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(parent)
            write_tokenizer(parent)
        models = "".join(f"  - {{model: {place / family}-{seed}, parameters: {{weight: 1}}}}\n" for seed in range(2))
        plan = cuvee.make_plan(cuvee.recipe_from_text(f"merge_method: linear\nmodels:\n{models}"))
        cuvee.run_plan(plan, place / family)
        shutil.copytree(place / family, place / f"{family}-older")
        write_older_rope(place / f"{family}-older")
        folders[family] = {"plain": place / family, "older": place / f"{family}-older"}
    return folders


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of 64 words, which the converters ask for."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(60))]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def compared(runtime: Runtime, programs: Path, folder: Path) -> Found:
    """Run a program on a folder, and compare its log-probabilities with those of transformers."""
    import numpy as np
    import torch
    import transformers

    driver = DRIVER.format(lines=runtime.lines)
    command = [sys.executable, "-c", driver, str(programs), str(folder), json.dumps(PROMPT)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=False)
    answer = next((line for line in ended.stdout.splitlines() if line.startswith("LOGITS ")), None)
    if answer is None:
        said = [line for line in ended.stderr.strip().splitlines() if line.strip()]
        return Found(None, said[-1][:160] if said else "nothing")
    theirs = torch.tensor(json.loads(answer.removeprefix("LOGITS "))).double().log_softmax(-1)[: SIZES["vocab_size"]]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        ours = model(torch.tensor([PROMPT])).logits[0, -1].double().log_softmax(-1)
    return Found(float(np.abs((theirs - ours).numpy()).max()))


def page(versions: Mapping[str, str], rows: Mapping[tuple[str, str, bool], Found]) -> str:
    """Return the page."""
    import transformers

    lines = [INTRODUCTION.format(version=transformers.__version__)]
    for (name, family, with_older), found in rows.items():
        if not with_older:
            older = rows[name, family, True]
            lines.append(f"| {name} {versions[name]} | {family} | {shown(found)} | {shown(older)} |")
    return "\n".join(lines) + "\n"


def shown(found: Found) -> str:
    """Write a difference, or the reason why there is none."""
    if found.difference is None:
        return f"refuses: `{found.problem.partition(' (')[0].replace('|', '/')}`"
    return f"{found.difference:.0e}" if found.difference < AGREES else f"**{found.difference:.2g}**"


if __name__ == "__main__":
    main()
