#!/bin/sh
# A router's own rank or alpha, as adapters of Mixtral have them in `rank_pattern` and `alpha_pattern`, is lost.
#
# Versions:  peft 0.21.2, transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where there is CUDA)
# Expected:  A pattern counts for a router as it does for any other module that the adapter changes, such as `q_proj`.
# Observed:  transformers 5 keeps a Mixtral's router as a bare parameter. PEFT moves the adapter's tensors over to it and
#            the router from `target_modules` to `target_parameters`, but no name in a pattern reaches it there: with a
#            rank of its own the adapter cannot be loaded, and with an alpha of its own it is loaded with the general
#            one, so the router's change is 4 times too small here. A RuntimeWarning tells of the ignored alpha.
# Instead:   Fold such an alpha into lora_B, and give routers the rank of all other modules, before the adapter is used.
#
# Seen:
#   no pattern:                            q_proj scaled by 1, router scaled by 1
#   "alpha_pattern": q_proj 8:             q_proj scaled by 4, router scaled by 1
#   "alpha_pattern": router 8:             q_proj scaled by 1, router scaled by 1
#   "rank_pattern": q_proj 4:              loads
#   "rank_pattern": router 4:              RuntimeError, size mismatch
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet peft==0.21.2 transformers==5.24.0 torch==2.13.0
"$work/venv/bin/python" -W ignore - "$work" <<'PY'
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import MixtralConfig, MixtralForCausalLM

ROUTER, QUERY = "block_sparse_moe.gate", "self_attn.q_proj"
RANK, ALPHA = 2, 2
work = Path(sys.argv[1])
config = MixtralConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
    num_local_experts=4,
)


def loaded(name, *, router_rank=RANK, query_rank=RANK, **patterns):
    """Write an adapter of the only layer's query and router, and load it."""
    folder = work / name
    folder.mkdir()
    tensors = {}
    for module, rank, outputs in ((QUERY, query_rank, 16), (ROUTER, router_rank, 4)):
        place = f"base_model.model.model.layers.0.{module}"
        tensors[f"{place}.lora_A.weight"] = torch.ones(rank, 16)
        tensors[f"{place}.lora_B.weight"] = torch.ones(outputs, rank)
    save_file(tensors, folder / "adapter_model.safetensors")
    written = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "gate"],
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(written | patterns))
    return PeftModel.from_pretrained(MixtralForCausalLM(config), folder)


def scales(name, **patterns):
    layer = loaded(name, **patterns).base_model.model.model.layers[0]
    return layer.self_attn.q_proj.scaling["default"], layer.mlp.gate.scaling["default"]


def loads(name, **patterns):
    try:
        loaded(name, **patterns)
    except RuntimeError as error:
        assert "size mismatch" in str(error)
        return "RuntimeError, size mismatch"
    return "loads"


plain = scales("plain")
query = scales("query", alpha_pattern={QUERY: 4 * ALPHA})
router = scales("router", alpha_pattern={ROUTER: 4 * ALPHA})
query_rank = loads("query-rank", query_rank=4, rank_pattern={QUERY: 4})
router_rank = loads("router-rank", router_rank=4, rank_pattern={ROUTER: 4})
for what, (first, second) in (("no pattern:", plain), ('"alpha_pattern": q_proj 8:', query), ('"alpha_pattern": router 8:', router)):
    print(f"  {what:<38} q_proj scaled by {first:g}, router scaled by {second:g}")
print(f'  {chr(34)}rank_pattern{chr(34)}: q_proj 4:              {query_rank}')
print(f'  {chr(34)}rank_pattern{chr(34)}: router 4:              {router_rank}')
if (plain, query, router) != ((1, 1), (4, 1), (1, 1)) or (query_rank, router_rank) != ("loads", "RuntimeError, size mismatch"):
    raise SystemExit("changed: a pattern reaches a Mixtral's router, or is answered otherwise")
PY
