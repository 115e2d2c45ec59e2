#!/bin/sh
# KerasHub takes the base of a model's rotary positions from config.json and leaves their scaling behind.
#
# Versions:  keras-hub 0.32.0, keras 3.15.1, transformers 5.24.0, torch 2.13.0 (2 GB for processors, TensorFlow
#            among it, several more where there is CUDA)
# Expected:  `from_preset` opens a folder of transformers and computes what transformers computes. transformers 5 keeps
#            base and scaling in one entry, `rope_parameters`, which KerasHub reads; and for a scaling that it cannot
#            compute its Llama has a ValueError.
# Observed:  Of that entry it takes `rope_theta` alone. A Llama 3.1 saved by transformers 5 is opened without its scaling,
#            and one with linear scaling past that ValueError; both are right or refused as transformers 4 wrote them. A
#            Qwen 2 or 3 with YaRN, as their cards advise for long texts, is opened without it in either form. Every
#            position behind the first is turned by other angles, and no word is said.
# Instead:   For a Llama 3.1 write `rope_scaling` at the top of config.json; run models with YaRN elsewhere.
#
# Seen, the largest difference of a number of the last layer from transformers:
#   llama, no scaling:   transformers 5: 3.2e-06; as transformers 4 wrote it: 3.2e-06
#   llama, llama3:       transformers 5: 3.9; as transformers 4 wrote it: 2.7e-06
#   llama, linear:       transformers 5: 4.2; as transformers 4 wrote it: ValueError
#   qwen2, yarn:         transformers 5: 4.4; as transformers 4 wrote it: 4.4
#   qwen3, yarn:         transformers 5: 2.7; as transformers 4 wrote it: 2.7
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet keras-hub==0.32.0 keras==3.15.1 transformers==5.24.0 torch==2.13.0
cd "$work"
export KERAS_BACKEND=torch KERAS_HOME="$work/keras" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
cat > show.py <<'PY'
import json
import warnings
from pathlib import Path

import keras_hub
import numpy as np
import torch
import transformers

warnings.simplefilter("ignore")
transformers.utils.logging.disable_progress_bar()
SMALL = {
    "vocab_size": 80, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "pad_token_id": None,
}
BASE = {"rope_type": "default", "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
IDS = torch.randint(3, 80, (1, 40), generator=torch.Generator().manual_seed(0))


def write_as_transformers_4(folder, rope):
    """Move the rotary parameters of a config.json to where transformers 4 had them."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = None if rope["rope_type"] == "default" else scaling
    path.write_text(json.dumps(config))


@torch.no_grad()
def difference(config_class, rope, old):
    """Save a random model, open it in KerasHub and return how far the last layer's output is off."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config_class(**SMALL, rope_parameters=dict(rope))).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    folder = Path(f"{config_class.model_type}-{rope['rope_type']}-{old}")
    model.save_pretrained(folder)
    if old:
        write_as_transformers_4(folder, rope)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    try:
        backbone = keras_hub.models.Backbone.from_preset(str(folder), dtype="float32")
    except ValueError:
        return None
    seen = backbone({"token_ids": IDS.numpy(), "padding_mask": np.ones(IDS.shape, "int32")})
    return float((seen - model.model(IDS, use_cache=False).last_hidden_state).abs().max())


def show(config_class, rope):
    new, old = (difference(config_class, rope, old) for old in (False, True))
    name = f"{config_class.model_type}, {'no scaling' if rope is BASE else rope['rope_type']}:"
    words = ["ValueError" if number is None else f"{number:.2g}" for number in (new, old)]
    print(f"{name:<20} transformers 5: {words[0]}; as transformers 4 wrote it: {words[1]}")
    return new, old


plain = show(transformers.LlamaConfig, BASE)
llama3 = show(transformers.LlamaConfig, LLAMA3)
linear = show(transformers.LlamaConfig, LINEAR)
yarn = show(transformers.Qwen2Config, YARN) + show(transformers.Qwen3Config, YARN)
if max(plain) > 1e-3 or llama3[1] is None or llama3[1] > 1e-3 or linear[1] is not None:
    raise SystemExit("changed: the two differ without scaling, or as transformers 4 wrote it")
if None in (llama3[0], linear[0], *yarn) or min(llama3[0], linear[0], *yarn) < 0.1:
    raise SystemExit("changed: a scaling is read or refused")
PY
"$work/venv/bin/python" show.py
