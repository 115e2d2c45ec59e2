#!/bin/sh
# mergekit extracts the biases of a Qwen 2 into its adapter, and PEFT loads the adapter without them.
#
# Versions:  mergekit 0.1.5, peft 0.21.2, transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where there
#            is CUDA)
# Expected:  An adapter that mergekit-extract-lora makes with full rank turns the base into the fine-tuned model, as it
#            does for a Llama.
# Observed:  The changes of biases are written, as `lora_B.bias`, but adapter_config.json does not say `lora_bias`, so that
#            PEFT makes no place for them and drops them without a warning. All query, key and value projections of Qwen
#            1.5, 2 and 2.5 have biases, and all linear layers of a StarCoder 2.
# Instead:   Write "lora_bias": true into adapter_config.json if `adapter_model.safetensors` has keys with lora_B.bias.
#
# Seen, the largest change that the fine-tune made to a logit, and how far base and adapter are from it:
#   llama:                       change 4.8, off 7.9e-06
#   qwen2:                       change 4.4, off 1.1; biases in the file: 6, warnings about them: 0
#   qwen2, "lora_bias": true:    change 4.4, off 6.1e-06
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mergekit==0.1.5 peft==0.21.2 transformers==5.24.0 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/hub" TRANSFORMERS_VERBOSITY=error
cat > show.py <<'PY'
import json
import subprocess
import sys
import warnings
from pathlib import Path

import peft
import torch
import transformers
from safetensors import safe_open

transformers.utils.logging.disable_progress_bar()
COMMAND = Path(sys.executable).with_name("mergekit-extract-lora")
SMALL = {
    "vocab_size": 80, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": None,
}
IDS = torch.arange(3, 23)[None]


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


@torch.no_grad()
def fine_tune(config):
    """Save a random model and one that is moved a little from it; return the logits of both."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
        if "norm" in name:
            parameter += 1
    model.save_pretrained(f"{config.model_type}-base")
    before = logits(model)
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(f"{config.model_type}-tuned")
    return before, logits(model)


def extract(name):
    folders = [Path(f"{name}-{kind}").resolve() for kind in ("tuned", "base", "adapter")]
    options = ["--model", folders[0], "--base-model", folders[1], "--out-path", folders[2]]
    run = subprocess.run([COMMAND, *options, "--max-rank", "64"], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr[-600:])


def biases(name):
    with safe_open(f"{name}-adapter/adapter_model.safetensors", "pt") as file:
        return [key for key in file.keys() if key.endswith("bias")]


def off(name, expected):
    """Load the adapter onto the base; return how far its logits are off, and the warnings about biases."""
    base = transformers.AutoModelForCausalLM.from_pretrained(f"{name}-base")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(base, f"{name}-adapter")
    about = [str(warning.message) for warning in caught if "bias" in str(warning.message)]
    return float((logits(model) - expected).abs().max()), about


def show(config):
    before, tuned = fine_tune(config)
    extract(config.model_type)
    distance, about = off(config.model_type, tuned)
    change = float((tuned - before).abs().max())
    print(f"{config.model_type + ':':<28} change {change:.2g}, off {distance:.2g}", end="")
    return change, tuned, distance, about


_, _, llama, _ = show(transformers.LlamaConfig(**SMALL))
print()
change, tuned, qwen2, about = show(transformers.Qwen2Config(**SMALL))
print(f"; biases in the file: {len(biases('qwen2'))}, warnings about them: {len(about)}")
path = Path("qwen2-adapter/adapter_config.json")
path.write_text(json.dumps({**json.loads(path.read_text()), "lora_bias": True}))
mended, _ = off("qwen2", tuned)
print(f'{"""qwen2, "lora_bias": true:""":<28} change {change:.2g}, off {mended:.2g}')
if llama > 1e-3 or mended > 1e-3 or not biases("qwen2"):
    raise SystemExit("changed: what else the adapter has differs, or it has no biases")
if qwen2 < 0.05 or about:
    raise SystemExit("changed: the biases are loaded, or PEFT warns of them")
PY
"$work/venv/bin/python" show.py
