#!/bin/sh
# mlx-lm turns a Llama saved by transformers 5 by the base 10,000, and drops its scaling.
#
# Versions:  mlx-lm 0.32.2, mlx 0.32.4, transformers 5.24.0 (220 MB installed, no torch)
# Expected:  Both read the same config.json. transformers 5 keeps all about rotary embeddings in `rope_parameters`, and
#            mlx-lm requires transformers 5; its own Qwen 3 reads that key.
# Observed:  Its Llama (and Mistral, Mixtral, Gemma 2, OLMo 2, Phi 3, StarCoder 2 and others) knows the keys of
#            transformers 4 only, `rope_theta` and `rope_scaling`. Both are missing, the default of the class is taken,
#            and unknown keys are dropped without a word: a Llama 3.1 saved anew has base 10,000 instead of 500,000 and
#            no scaling.
# Instead:   Write `rope_theta` (and `rope_scaling`) at the top of config.json too before the folder goes to mlx-lm.
#
# Seen:
#   config.json of transformers:  {'rope_parameters': {'rope_theta': 500000.0, 'rope_type': 'default'}}
#   base used by mlx-lm:          10000, largest difference of the logits 8.00
#   with rope_theta at the top:   500000.0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mlx-lm==0.32.2 "mlx[cpu]==0.32.4" transformers==5.24.0 safetensors==0.8.0 \
    numpy==2.4.6
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'PY'
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.utils import load_model
from safetensors.numpy import save_file
from transformers import LlamaConfig

HIDDEN, INNER, WORDS, LAYERS, BASE = 64, 96, 40, 2, 500000.0
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}


def save_llama(folder):
    """Write a tiny random Llama whose rotary base is 500,000, its config by transformers."""
    config = LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=WORDS, rope_parameters={"rope_type": "default", "rope_theta": BASE},
    )
    config.save_pretrained(folder)
    random = np.random.default_rng(0)

    def matrix(*shape):
        return (random.standard_normal(shape) * 0.3).astype(np.float32)

    ones = np.ones(HIDDEN, np.float32)
    tensors = {"model.embed_tokens.weight": matrix(WORDS, HIDDEN), "lm_head.weight": matrix(WORDS, HIDDEN)}
    tensors["model.norm.weight"] = ones
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        tensors |= {f"{prefix}{name}.weight": matrix(*shape) for name, shape in SHAPES.items()}
        tensors |= {f"{prefix}{name}.weight": ones for name in ("input_layernorm", "post_attention_layernorm")}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def base_and_logits(folder):
    model, _ = load_model(folder)
    tokens = mx.array([list(range(WORDS)) * 3])
    return model.args.rope_theta, np.array(model(tokens)[0, -1].astype(mx.float32))


folder = Path("llama")
save_llama(folder)
config = json.loads((folder / "config.json").read_text())
base, logits = base_and_logits(folder)
(folder / "config.json").write_text(json.dumps({**config, "rope_theta": BASE}))
mended_base, mended = base_and_logits(folder)
print("config.json of transformers: ", {key: value for key, value in config.items() if "rope" in key})
print(f"base used by mlx-lm:          {base}, largest difference of the logits {np.abs(logits - mended).max():.2f}")
print(f"with rope_theta at the top:   {mended_base}")
if mended_base != BASE:
    raise SystemExit("changed: mlx-lm no longer reads rope_theta at the top")
if base == BASE:
    raise SystemExit("changed: mlx-lm reads the base from rope_parameters")
PY
