#!/bin/sh
# mergekit extracts an adapter of a Mixtral without any of its experts.
#
# Versions:  mergekit 0.1.5, peft 0.21.2, transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where there
#            is CUDA)
# Expected:  An adapter that mergekit-extract-lora makes with full rank turns the base into the fine-tuned model. A module
#            that it cannot decompose it saves whole, and says so; to leave such out has an option of its own.
# Observed:  It goes through the modules that have a `weight`. Since transformers 5, which mergekit requires, the experts of
#            a Mixtral, a Qwen 2 or 3 MoE or an OLMoE are bare parameters of a module without one. They are passed by
#            without a word: routers and attention become those of the fine-tune, the experts stay the base's. They are
#            more than nine tenths of such a model, and the result is that of neither.
# Instead:   Count the keys of adapter_model.safetensors; take the difference of expert tensors yourself.
#
# Seen, the largest change that the fine-tune made to a logit, and how far base and adapter are from it:
#   llama:                 change 4.8, off 7.9e-06; experts: 0 tensors, 0 of them extracted
#   mixtral, experts kept: change 4.5, off 6.8e-06; experts: 4 tensors, 0 of them extracted
#   mixtral:               change 4.8, off 3.4; experts: 4 tensors, 0 of them extracted
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mergekit==0.1.5 peft==0.21.2 transformers==5.24.0 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/hub" TRANSFORMERS_VERBOSITY=error
cat > show.py <<'PY'
import subprocess
import sys
import warnings
from pathlib import Path

import peft
import torch
import transformers
from safetensors import safe_open

warnings.simplefilter("ignore")
transformers.utils.logging.disable_progress_bar()
COMMAND = Path(sys.executable).with_name("mergekit-extract-lora")
SMALL = {
    "vocab_size": 80, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": None,
}
MIXTRAL = {**SMALL, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}
IDS = torch.arange(3, 23)[None]


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


def experts(model):
    return {name: parameter for name, parameter in model.named_parameters() if ".experts." in name}


@torch.no_grad()
def fine_tune(name, config, *, tune_experts):
    """Save a random model and one that is moved a little from it; return the logits of both."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for key, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
        if "norm" in key:
            parameter += 1
    model.save_pretrained(f"{name}-base")
    before = logits(model)
    for key, parameter in model.named_parameters():
        if tune_experts or ".experts." not in key:
            parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(f"{name}-tuned")
    return before, logits(model)


def extract(name):
    """Extract the adapter and return what mergekit says of experts."""
    folders = [Path(f"{name}-{kind}").resolve() for kind in ("tuned", "base", "adapter")]
    options = ["--model", folders[0], "--base-model", folders[1], "--out-path", folders[2]]
    run = subprocess.run([COMMAND, *options, "--max-rank", "64"], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr[-600:])
    return [line for line in (run.stdout + run.stderr).splitlines() if "experts" in line]


def show(name, config, *, tune_experts=True):
    """Print the change and how far the adapter is from it; return that."""
    before, tuned = fine_tune(name, config, tune_experts=tune_experts)
    said = extract(name)
    base = transformers.AutoModelForCausalLM.from_pretrained(f"{name}-base")
    count = len(experts(base))
    off = float((logits(peft.PeftModel.from_pretrained(base, f"{name}-adapter")) - tuned).abs().max())
    with safe_open(f"{name}-adapter/adapter_model.safetensors", "pt") as file:
        keys = [key for key in file.keys() if ".experts" in key]
    change = float((tuned - before).abs().max())
    print(f"{name + ':':<22} change {change:.2g}, off {off:.2g}; experts: {count} tensors, {len(keys)} of them extracted")
    if said or keys:
        raise SystemExit(f"changed: experts are extracted, or mergekit speaks of them: {said}")
    return off


llama = show("llama", transformers.LlamaConfig(**SMALL))
same = show("mixtral, experts kept", transformers.MixtralConfig(**MIXTRAL), tune_experts=False)
mixtral = show("mixtral", transformers.MixtralConfig(**MIXTRAL))
if max(llama, same) > 1e-3:
    raise SystemExit("changed: what else the adapter has differs too")
if mixtral < 0.1:
    raise SystemExit("changed: the experts of a Mixtral are extracted")
PY
"$work/venv/bin/python" show.py
