#!/bin/sh
# A DoRA that torchtune exports for PEFT is another adapter there: a LoRA, and with the right key still a wrong DoRA.
#
# Versions:  torchtune 0.6.1, torchao 0.9.0, peft 0.21.2, transformers 5.24.0, torch 2.13.0 (1 GB for processors, several
#            more where there is CUDA)
# Expected:  The LoRA recipes write adapter_config.json and adapter_model.safetensors for PEFT beside the merged model.
#            For LoRA, PEFT's logits are then torchtune's. The converter has a mapping for DoRA's magnitudes too.
# Observed:  The recipes never write `use_dora`, so that PEFT reads the adapter as LoRA and drops the magnitudes without a
#            word. With `"use_dora": true` written by hand it is still wrong: torchtune orders the rows of query and key
#            heads in its own way and turns back those of lora_B, but not the magnitudes, one for each of the same rows.
#            With these brought into the same order the logits agree.
# Instead:   Use the merged model, in a folder of its own (transformers adds an adapter that lies beside a model); or write
#            `use_dora` and reorder the magnitudes of q_proj and k_proj.
#
# Seen, the largest difference of a logit between PEFT's model and torchtune's:
#   LoRA, as exported:                 3.2e-06
#   DoRA, as exported:                 2.7, of a change of 5.2
#   DoRA, "use_dora": true:            1.8
#   the same, magnitudes reordered:    3.6e-06
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torchtune==0.6.1 torchao==0.9.0 peft==0.21.2 transformers==5.24.0 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/hub" TRANSFORMERS_VERBOSITY=error
cat > train.py <<'PY'
"""Make a base model, give torchtune's adapters random numbers, and let its checkpointer write them."""

import logging
import warnings
from pathlib import Path

import torch
import transformers
from torchtune import training
from torchtune.models.llama3_1._component_builders import lora_llama3_1
from torchtune.modules.peft import get_adapter_params, get_adapter_state_dict, get_lora_module_names

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
transformers.utils.logging.disable_progress_bar()
CONFIG = transformers.LlamaConfig(
    vocab_size=80, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64,
    rope_parameters={
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
)
IDS = torch.arange(3, 23)[None]
MODULES = ["q_proj", "k_proj", "v_proj", "output_proj"]


@torch.no_grad()
def export(name, *, use_dora):
    """Write an adapter as the recipe lora_finetune_single_device does; save the logits with and without it."""
    checkpointer = training.FullModelHFCheckpointer(
        checkpoint_dir="base", checkpoint_files=["model.safetensors"], model_type="LLAMA3", output_dir=name
    )
    model = lora_llama3_1(
        lora_attn_modules=MODULES, vocab_size=80, num_layers=2, num_heads=4, num_kv_heads=2, embed_dim=32,
        max_seq_len=64, intermediate_dim=48, norm_eps=CONFIG.rms_norm_eps, lora_rank=4, lora_alpha=8,
        use_dora=use_dora,
    ).eval()
    weights = checkpointer.load_checkpoint()[training.MODEL_KEY]
    model.load_state_dict(weights, strict=False)
    for module in model.modules():
        if hasattr(module, "initialize_dora_magnitude"):
            module.initialize_dora_magnitude()
    before = model(IDS)
    torch.manual_seed(1)
    for key, parameter in get_adapter_params(model).items():
        if "magnitude" in key:
            parameter *= 1 + 0.3 * torch.rand_like(parameter)
        else:
            parameter += 0.2 * torch.randn_like(parameter)
    torch.save({"before": before, "after": model(IDS)}, f"{name}.pt")
    adapter_config = {
        "r": 4, "lora_alpha": 8, "target_modules": get_lora_module_names(MODULES, False, False), "peft_type": "LORA",
    }
    parts = {
        training.MODEL_KEY: weights,
        training.ADAPTER_KEY: get_adapter_state_dict(model.state_dict()),
        training.ADAPTER_CONFIG: adapter_config,
    }
    checkpointer.save_checkpoint(parts, epoch=0, intermediate_checkpoint=False, adapter_only=True)


torch.manual_seed(0)
base = transformers.LlamaForCausalLM(CONFIG).eval()
for parameter in base.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.2)
base.save_pretrained("base")
export("lora", use_dora=False)
export("dora", use_dora=True)
for name in ("lora", "dora"):
    with torch.no_grad():
        off = float((torch.load(f"{name}.pt")["before"] - base(IDS).logits).abs().max())
    if off > 1e-3:
        raise SystemExit("changed: torchtune computes the base otherwise than transformers")
PY
cat > show.py <<'PY'
"""Load the adapters into PEFT and compare."""

import json
import warnings
from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

transformers.utils.logging.disable_progress_bar()
IDS = torch.arange(3, 23)[None]


def folder(name):
    return next(Path(name).rglob("adapter_config.json")).parent


@torch.no_grad()
def off(name):
    """Return how far PEFT's logits are from torchtune's."""
    base = transformers.LlamaForCausalLM.from_pretrained("base")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(base, folder(name)).eval()
    told = [str(warning.message) for warning in caught if "magnitude" in str(warning.message)]
    if told:
        raise SystemExit(f"changed: PEFT warns of the magnitudes: {told[0]}")
    return float((model(IDS).logits - torch.load(f"{name}.pt")["after"]).abs().max())


def write_use_dora():
    path = folder("dora") / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_dora": True}))


def reorder_magnitudes():
    """Bring the magnitudes of heads of 8 from torchtune's order of rows into that of transformers."""
    path = folder("dora") / "adapter_model.safetensors"
    tensors = load_file(path)
    for key, tensor in tensors.items():
        if "magnitude" in key and ("q_proj" in key or "k_proj" in key):
            tensors[key] = tensor.reshape(-1, 4, 2).transpose(1, 2).reshape(-1).contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


logits = torch.load("dora.pt")
change = float((logits["after"] - logits["before"]).abs().max())
lora, exported = off("lora"), off("dora")
write_use_dora()
named = off("dora")
reorder_magnitudes()
ordered = off("dora")
print(f"LoRA, as exported:                 {lora:.2g}")
print(f"DoRA, as exported:                 {exported:.2g}, of a change of {change:.2g}")
print(f'DoRA, "use_dora": true:            {named:.2g}')
print(f"the same, magnitudes reordered:    {ordered:.2g}")
if max(lora, ordered) > 1e-3:
    raise SystemExit("changed: the adapters differ in more than the magnitudes")
if min(exported, named) < 0.05:
    raise SystemExit("changed: torchtune exports a DoRA that PEFT reads rightly")
PY
"$work/venv/bin/python" train.py > train.log 2>&1 || { tail -n 20 train.log; exit 1; }
# PEFT refuses the torchao that torchtune needs, and needs none itself.
rm -rf "$work"/venv/lib/python*/site-packages/torchao*
"$work/venv/bin/python" show.py
