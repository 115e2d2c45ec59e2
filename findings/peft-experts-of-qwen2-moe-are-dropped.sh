#!/bin/sh
# An adapter of Qwen2-MoE or Qwen3-MoE that names projections by expert, as all did before transformers 5, loads in part.
#
# Versions:  peft 0.21.2, transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where there is CUDA)
# Expected:  PEFT maps `experts.N.gate_proj` and its like to the fused stacks of transformers 5, as it says, and leaves
#            targets of the same names in dense layers alone. Or it warns that keys of the file are not used.
# Observed:  `PeftModel.from_pretrained` says nothing of keys. For Qwen2-MoE, of which PEFT's table of renamed targets has
#            an entry, no target is renamed, and all factors of experts are dropped. For Qwen3-MoE they are renamed in
#            every layer: experts arrive, and the factors of dense layers (`mlp_only_layers`) are lost. It warns of two
#            patterns without a module there, and does so as well where nothing is lost.
# Instead:   Compare the keys of `get_peft_model_state_dict` with the file's, or add each factor's product to its matrix.
#
# Seen: by how much the file's factors, added by hand, change the logits; how far the loaded model is from that.
#   qwen2_moe: the file's change 0.61, lost 0.62; warnings: []
#   qwen3_moe with a dense layer: the file's change 0.46, lost 0.43; warnings: ['The following alpha_pattern', 'The following rank_pattern']
#   qwen3_moe without one: the file's change 0.61, lost 0; warnings: ['The following alpha_pattern', 'The following rank_pattern']
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet peft==0.21.2 transformers==5.24.0 torch==2.13.0
cat > "$work/show.py" <<'PY'
import copy
import json
import pathlib
import tempfile
import warnings

import peft
import torch
import transformers
from safetensors.torch import save_file

transformers.utils.logging.set_verbosity_error()
SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 4, "num_experts_per_tok": 2,
}
TARGETS = ["gate_proj", "up_proj", "down_proj"]
RANK, ALPHA = 2, 4
IDS = torch.arange(8)[None]


def old_places(base):
    """Yield each targeted matrix of the model, named as in transformers 4, as a view of the weights."""
    for name, parameter in base.named_parameters():
        module, _, last = name.removesuffix(".weight").rpartition(".")
        if last == "gate_up_proj":
            for expert, matrix in enumerate(parameter.data):
                gate, up = matrix.chunk(2)
                yield f"{module}.{expert}.gate_proj", gate
                yield f"{module}.{expert}.up_proj", up
        elif last in TARGETS and parameter.dim() == 3:
            for expert, matrix in enumerate(parameter.data):
                yield f"{module}.{expert}.{last}", matrix
        elif last in TARGETS:
            yield f"{module}.{last}", parameter.data


def show(name, config):
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_config(config).eval()
    summed = copy.deepcopy(base)
    factors = {}
    for place, matrix in old_places(summed):
        a = torch.randn(RANK, matrix.shape[1]) * 0.3
        b = torch.randn(matrix.shape[0], RANK) * 0.3
        matrix += ALPHA / RANK * b @ a
        factors |= {
            f"base_model.model.{place}.lora_A.weight": a,
            f"base_model.model.{place}.lora_B.weight": b,
        }
    with tempfile.TemporaryDirectory() as folder:
        save_file(factors, f"{folder}/adapter_model.safetensors")
        settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": TARGETS, "peft_version": "0.17.1"}
        pathlib.Path(folder, "adapter_config.json").write_text(json.dumps(settings))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = peft.PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()
    told = {str(warning.message).split(" keys did")[0] for warning in caught if "_pattern" in str(warning.message)}
    of_files = [warning for warning in caught if "adapter keys" in str(warning.message)]
    with torch.no_grad():
        expected = summed(IDS).logits
        change = float((expected - base(IDS).logits).abs().max())
        lost = float((loaded(IDS).logits - expected).abs().max())
    print(f"{name}: the file's change {change:.2g}, lost {lost:.2g}; warnings: {sorted(told)}")
    if of_files:
        raise SystemExit(f"changed: PEFT warns of keys of the file: {of_files[0].message}")
    return change, lost


for name, config in (
    ("qwen2_moe", transformers.Qwen2MoeConfig(**SMALL, shared_expert_intermediate_size=24)),
    ("qwen3_moe with a dense layer", transformers.Qwen3MoeConfig(**SMALL, mlp_only_layers=[1])),
):
    change, lost = show(name, config)
    if lost < change / 3:
        raise SystemExit(f"changed: nothing is lost of the adapter of {name}")
change, lost = show("qwen3_moe without one", transformers.Qwen3MoeConfig(**SMALL))
if change < 0.1 or lost > 1e-4:
    raise SystemExit("changed: the adapter of a Qwen3-MoE without dense layers is not loaded whole")
PY
"$work/venv/bin/python" "$work/show.py"
