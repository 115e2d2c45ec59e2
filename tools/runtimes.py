"""Write docs/reference/runtimes.md: which other programs load a merged folder and compute what transformers computes.

    python tools/runtimes.py            # asks the package index; it takes a few minutes
    python tools/runtimes.py --keep DIR # keeps the programs in DIR for the next time

Each program is installed into a folder of its own, without its dependencies, and run in a process of its own. There the
folder goes before the libraries of this environment, so that a program has the transformers that it asks for. Two tiny
random models of each family are merged; the program reads the folder and gives the logits after a prompt, which are
compared with those of transformers.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "runtimes.md"
PROMPT = [5, 17, 3, 44, 9, 21, 60, 2, 33, 12]
AGREES = 1e-3
"""The largest difference of log-probabilities that counts as agreement in float32."""

SIZES: dict[str, Any] = {
    "vocab_size": 72, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "max_position_embeddings": 128, "initializer_range": 0.2, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
"""No two of its widths are equal: onnxruntime-genai knows the head of a model by its number of rows."""
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": ROPE,
    "Mistral": {**ROPE, "head_dim": 16, "sliding_window": None},
    "Qwen2": ROPE,
    "Qwen3": {**ROPE, "head_dim": 16},
    "Qwen3Moe": {**ROPE, "head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48},
    "Gemma2": {**ROPE, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 4},
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


OPENVINO = """
import torch
from optimum.intel import OVModelForCausalLM
exact = {"INFERENCE_PRECISION_HINT": "f32"}
model = OVModelForCausalLM.from_pretrained(folder, export=True, load_in_8bit=False, ov_config=exact)
tokens = torch.tensor([prompt])
logits = model(tokens, attention_mask=torch.ones_like(tokens)).logits[0, -1].numpy()
"""
GENAI = """
import runpy
made = folder + "-genai"
sys.argv = ["builder", "-i", folder, "-o", made, "-c", made + "-cache", "-p", "fp32", "-e", "cpu"]
runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")
import onnxruntime_genai
model = onnxruntime_genai.Model(made)
generator = onnxruntime_genai.Generator(model, onnxruntime_genai.GeneratorParams(model))
generator.append_tokens(prompt)
logits = np.array(generator.get_logits())[0, -1]
"""


class Runtime(NamedTuple):
    """A program: its packages, the first `named` of which the page names, and the lines that run it."""

    packages: tuple[str, ...]
    named: int
    lines: str


RUNTIMES: dict[str, Runtime] = {
    "ctranslate2": Runtime(("ctranslate2",), 1, CTRANSLATE2),
    "mlx-lm": Runtime(("mlx-lm", "mlx", "mlx-cpu"), 2, MLX),
    "openvino": Runtime(
        (
            "openvino", "optimum-intel", "transformers<5.6", "optimum", "openvino-tokenizers", "openvino-telemetry",
            "nncf", "huggingface-hub<1.22", "tokenizers<=0.23.0", "networkx", "ninja", "pydot", "tabulate",
            "scikit-learn", "narwhals", "joblib", "threadpoolctl",
        ),
        3,
        OPENVINO,
    ),
    "onnxruntime-genai": Runtime(
        ("onnxruntime-genai", "onnxruntime", "onnx", "onnx-ir", "ml-dtypes", "flatbuffers", "protobuf"), 2, GENAI
    ),
}  # fmt: skip
"""All on a CPU."""

DRIVER = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import transformers

prompt = json.loads(sys.argv[2])

def logits_of(folder):
{lines}
    return logits

for folder in json.loads(sys.argv[3]):
    try:
        print("\\nFOUND", json.dumps([folder, [float(number) for number in logits_of(folder)], ""]), flush=True)
    except Exception as error:
        said = str(error).strip().splitlines() or [""]
        print("\\nFOUND", json.dumps([folder, None, f"{{type(error).__name__}}: {{said[0]}}"]), flush=True)
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

The Gemma 2 here sees four tokens back in every second layer. mlx-lm has no such window, so that it agrees on texts that
are shorter than the model's (4096 tokens); ctranslate2 leaves out the soft caps, too. optimum-intel wants an older
transformers for it. mlx-lm leaves out the windows of Phi 3, Mistral, Mixtral and StarCoder 2, too. Three families that
are not in the table come out as other models there at any length: GLM-4 9B (`glm`), the mixtures of ERNIE 4.5, and
those of Jamba. Where transformers 5 has saved a mixture, `config.json` says `num_local_experts`; mlx-lm asks for
`num_experts`, which transformers takes for the same: write both.

| program | family | as merged | with the older keys |
|---|---|---|---|"""


class Answer(NamedTuple):
    """A program's logits after the prompt, or what it said when it failed."""

    logits: list[float] | None
    problem: str


class Found(NamedTuple):
    """The largest difference of log-probabilities, or what the program said when it failed."""

    difference: float | None
    problem: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=Path, help="a folder for the programs")
    with tempfile.TemporaryDirectory() as scratch:
        programs = parser.parse_args().keep or Path(scratch) / "programs"
        families = merged_models(Path(scratch))
        expected = {folder: log_probabilities(folder) for folder in families.values()}
        versions, rows = {}, {}
        for name, runtime in RUNTIMES.items():
            versions[name] = installed(runtime, programs / name)
            folders = [made for folder in families.values() for made in (folder, older(folder))]
            answers = asked(runtime, programs / name, folders)
            for family, folder in families.items():
                both = (answers[folder], answers[older(folder)])
                rows[name, family] = tuple(compared(answer, expected[folder]) for answer in both)
                print(name, family, *rows[name, family], flush=True)
        PAGE.write_text(page(versions, rows), encoding="utf-8")


def installed(runtime: Runtime, place: Path) -> str:
    """Install a program, and return the packages that the page names with their versions."""
    if not place.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place)]
        subprocess.run([*command, *runtime.packages], check=True)
    names = []
    for package in runtime.packages[: runtime.named]:
        name = package.partition("<")[0]
        (info,) = place.glob(f"{name.replace('-', '_')}-*.dist-info")
        version = info.name.removesuffix(".dist-info").rpartition("-")[2]
        names.append(f"{name} {version}")
    return ", ".join(names)


def merged_models(place: Path) -> dict[str, Path]:
    """Merge two models of each family, and lay a second copy beside it with the older keys of rotary embeddings."""
    import torch
    import transformers

    import cuvee
    from cuvee.export.older_rope import write_older_rope

    folders: dict[str, Path] = {}
    for family, changes in FAMILIES.items():
        for seed in range(2):
            torch.manual_seed(seed)
            config = getattr(transformers, f"{family}Config")(**{**SIZES, **changes})
            parent = place / f"{family}-{seed}"
            getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(parent)
            write_tokenizer(parent)
        models = "".join(f"  - {{model: {place / family}-{seed}, parameters: {{weight: 1}}}}\n" for seed in range(2))
        plan = cuvee.make_plan(cuvee.recipe_from_text(f"merge_method: linear\nmodels:\n{models}"))
        folders[family] = cuvee.run_plan(plan, place / family).folder
        shutil.copytree(folders[family], older(folders[family]))
        write_older_rope(older(folders[family]))
    return folders


def older(folder: Path) -> Path:
    """Return where the copy of a folder with the older keys is."""
    return folder.with_name(f"{folder.name}-older")


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer, which the converters ask for."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(4, SIZES["vocab_size"]))]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def log_probabilities(folder: Path) -> Any:
    """Return those after the prompt, as transformers computes them."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([PROMPT])).logits[0, -1].double().log_softmax(-1)


def asked(runtime: Runtime, programs: Path, folders: Sequence[Path]) -> dict[Path, Answer]:
    """Run a program on folders, one after another in one process."""
    driver = DRIVER.format(lines=textwrap.indent(runtime.lines.strip(), "    "))
    command = [sys.executable, "-c", driver, str(programs), json.dumps(PROMPT), json.dumps([*map(str, folders)])]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    said = [line for line in ended.stderr.strip().splitlines() if line.strip()]
    answers = dict.fromkeys(folders, Answer(None, said[-1] if said else "nothing"))
    for line in ended.stdout.splitlines():
        if line.startswith("FOUND "):
            folder, logits, problem = json.loads(line.removeprefix("FOUND "))
            family = Path(folder).name.removesuffix("-older")
            answers[Path(folder)] = Answer(logits, problem.replace(folder, family))
    return answers


def compared(answer: Answer, expected: Any) -> Found:
    """Compare a program's logits with the log-probabilities of transformers."""
    import torch

    if answer.logits is None:
        return Found(None, answer.problem[:160])
    theirs = torch.tensor(answer.logits).double()[: SIZES["vocab_size"]].log_softmax(-1)
    return Found(float((theirs - expected).abs().max()))


def page(versions: Mapping[str, str], rows: Mapping[tuple[str, str], tuple[Found, ...]]) -> str:
    """Return the page."""
    import transformers

    lines = [INTRODUCTION.format(version=transformers.__version__)]
    for (name, family), both in rows.items():
        lines.append(f"| {versions[name]} | {family} | {' | '.join(map(shown, both))} |")
    return "\n".join(lines) + "\n"


def shown(found: Found) -> str:
    """Write a difference, or the reason why there is none."""
    if found.difference is None:
        return f"refuses: `{found.problem.partition(' (')[0].replace('|', '/')}`"
    return f"{found.difference:.0e}" if found.difference < AGREES else f"**{found.difference:.2g}**"


if __name__ == "__main__":
    main()
