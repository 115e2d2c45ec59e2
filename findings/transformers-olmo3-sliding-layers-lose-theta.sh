#!/bin/sh
# transformers 5 gives the sliding layers of an OLMo 3 saved by transformers 4 another rotary base than its full ones.
#
# Versions:  transformers 5.24.0 (120 MB, no torch)
# Expected:  transformers 4 wrote one `rope_theta` for all layers of an OLMo 3 and turned each of them by it; only the
#            scaling of `rope_scaling` was for the layers of full attention alone. transformers 5 moves the values of
#            such a config.json into `rope_parameters`, one entry for each kind of layer.
# Observed:  The old value is taken out of the config for the full layers, and is gone when the sliding ones are asked:
#            three of four layers are turned by the default base of 500,000, without a word. Released OLMo 3 models have
#            that very base; a model trained with another one, or a small one for research, is computed otherwise.
# Instead:   Write `rope_parameters` with a base for each kind of layer before the folder is opened.
#
# Seen:
#   config.json as transformers 4 wrote it:  full_attention 10000.0, sliding_attention 500000.0
#   with rope_parameters in it:              full_attention 10000.0, sliding_attention 10000.0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.24.0
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'PY'
import json
from pathlib import Path

import transformers

KINDS, BASE = ("full_attention", "sliding_attention"), 10000.0
OLD = {
    "architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3", "transformers_version": "4.57.1", "eos_token_id": 1,
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 64, "sliding_window": 8, "rope_scaling": None,
    "rope_theta": BASE,
}


def bases(config):
    """Open a folder with this config.json; return the rotary base of each kind of layer."""
    folder = Path("olmo")
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    parameters = transformers.AutoConfig.from_pretrained(folder).rope_parameters
    return {kind: parameters[kind]["rope_theta"] for kind in KINDS}


def said(found):
    return ", ".join(f"{kind} {base}" for kind, base in found.items())


seen = bases(OLD)
mended = bases({**OLD, "rope_parameters": {kind: {"rope_type": "default", "rope_theta": BASE} for kind in KINDS}})
print(f"config.json as transformers 4 wrote it:  {said(seen)}")
print(f"with rope_parameters in it:              {said(mended)}")
if set(mended.values()) != {BASE} or seen["full_attention"] != BASE:
    raise SystemExit("changed: a base that is told is not taken")
if seen["sliding_attention"] == BASE:
    raise SystemExit("changed: the sliding layers take the old base, too")
PY
