#!/bin/sh
# LoRA on `dt_proj` of a Mamba layer is never run nor trained, and appears in the weights once it is merged.
#
# Versions:  peft 0.21.2, transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where there is CUDA)
# Expected:  A model with an adapter computes the same before and after `merge_and_unload`, as it does for `x_proj`. Or
#            PEFT refuses a module whose forward is not called, as it does for other kinds that it cannot follow.
# Observed:  The mixers of Mamba, Falcon Mamba and Jamba multiply by `dt_proj.weight` themselves instead of calling the
#            layer. PEFT's wrapper answers `weight` with that of the base, so the factors get no gradient and change no
#            logit. Merging adds them to that weight, and from then on they count.
# Instead:   Leave dt_proj out of `target_modules` ("all-linear" takes it), or train it whole by `modules_to_save`.
#
# Seen, the largest differences of logits from those of the base (torch 2.13.0 on an x86 processor):
#   mamba, dt_proj: with the adapter 1.2e-07, merged 0.43; gradient: False
#   falcon mamba, dt_proj: with the adapter 2.4e-07, merged 1.6; gradient: False
#   jamba, dt_proj: with the adapter 0, merged 0.037; gradient: False
#   mamba, x_proj: with the adapter 2.3, merged 2.3; gradient: True
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet peft==0.21.2 transformers==5.24.0 torch==2.13.0
cat > "$work/show.py" <<'PY'
import copy

import peft
import torch
import transformers

transformers.utils.logging.set_verbosity_error()
SMALL = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2}
MIXER = SMALL | {"state_size": 4, "time_step_rank": 2}
JAMBA = SMALL | {
    "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "num_experts": 2,
    "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
    "mamba_d_state": 4, "mamba_dt_rank": 2, "use_mamba_kernels": False,
}
LEAST = 1e-3
IDS = torch.arange(1, 9)[None]


def show(name, config, target):
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    lora = peft.LoraConfig(r=2, lora_alpha=64, target_modules=[target])
    model = peft.get_peft_model(copy.deepcopy(base), lora).eval()
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter)
    plain = base(IDS).logits.detach()
    adapted = model(IDS).logits
    gradient = adapted.requires_grad
    merged = model.merge_and_unload()(IDS).logits.detach()
    with_adapter = float((adapted.detach() - plain).abs().max())
    difference = float((merged - plain).abs().max())
    print(f"{name}, {target}: with the adapter {with_adapter:.2g}, merged {difference:.2g}; gradient: {gradient}")
    return with_adapter, difference, gradient


for name, config in (
    ("mamba", transformers.MambaConfig(**MIXER)),
    ("falcon mamba", transformers.FalconMambaConfig(**MIXER)),
    ("jamba", transformers.JambaConfig(**JAMBA)),
):
    with_adapter, merged, gradient = show(name, config, "dt_proj")
    if gradient or with_adapter > LEAST or merged < LEAST:
        raise SystemExit(f"changed: the factors on dt_proj of {name} are run, or no longer merged")
with_adapter, merged, gradient = show("mamba", transformers.MambaConfig(**MIXER), "x_proj")
if not gradient or merged < LEAST or abs(with_adapter - merged) > LEAST:
    raise SystemExit("changed: the factors on x_proj are not run, or not merged")
PY
"$work/venv/bin/python" "$work/show.py"
