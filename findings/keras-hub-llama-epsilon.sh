#!/bin/sh
# KerasHub runs every Llama that it converts with an epsilon of its own.
#
# Versions:  keras-hub 0.32.0, keras 3.15.1, transformers 5.24.0, torch 2.13.0 (2 GB for processors, TensorFlow
#            among it, several more where there is CUDA)
# Expected:  `from_preset` opens a folder of transformers and computes what transformers computes. The config.json says
#            `rms_norm_eps`, which its converters for Mistral, Mixtral, Qwen and SmolLM read.
# Observed:  The one for Llama does not: each norm adds KerasHub's default of 0.000001, where Llama 2, 3, 3.1 and 3.2 say
#            0.00001. In the first layers that counts most. The embeddings of these models are small, about 0.01 to 0.02
#            a number: their mean square is 10 to 40 times the right epsilon. Nothing is said, and what KerasHub
#            exports has the wrong epsilon too. (Gemma's converter does not read it either; there the default is right.)
# Instead:   Set `layer_norm_epsilon` in the constructor and copy the weights, or run Llamas elsewhere.
#
# Seen, the largest difference of a number of the last layer from transformers, for embeddings of about 0.01:
#   Llama, epsilon 0.000001:   2.2e-06
#   Llama, epsilon 0.00001:    0.6
#   Mistral, epsilon 0.00001:  2.5e-06
#   epsilon of KerasHub's Llama: 1e-06, exported again: 1e-06
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
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": None,
}
IDS = torch.randint(3, 80, (1, 20), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def difference(config):
    """Save a random model, open it in KerasHub; return how far the last layer's output is off, and the folder."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.01 if "embed" in name else 0.2)
        parameter.copy_(parameter.half().float())  # KerasHub's Mistral goes through float16
    folder = Path(f"{config.model_type}-{config.rms_norm_eps}")
    model.save_pretrained(folder)
    backbone = keras_hub.models.Backbone.from_preset(str(folder), dtype="float32")
    seen = backbone({"token_ids": IDS.numpy(), "padding_mask": np.ones(IDS.shape, "int32")})
    expected = model.model(IDS, use_cache=False).last_hidden_state
    return float((seen - expected).abs().max()), backbone


default, _ = difference(transformers.LlamaConfig(**SMALL, rms_norm_eps=1e-6))
published, backbone = difference(transformers.LlamaConfig(**SMALL, rms_norm_eps=1e-5))
mistral, _ = difference(transformers.MistralConfig(**SMALL, rms_norm_eps=1e-5, sliding_window=None))
backbone.export_to_transformers("exported")
exported = json.loads(Path("exported/config.json").read_text())["rms_norm_eps"]
print(f"Llama, epsilon 0.000001:   {default:.2g}")
print(f"Llama, epsilon 0.00001:    {published:.2g}")
print(f"Mistral, epsilon 0.00001:  {mistral:.2g}")
print(f"epsilon of KerasHub's Llama: {backbone.layer_norm_epsilon:g}, exported again: {exported:g}")
if max(default, mistral) > 1e-3:
    raise SystemExit("changed: the two differ with KerasHub's own epsilon, or for a Mistral")
if published < 0.01 or backbone.layer_norm_epsilon != 1e-6:
    raise SystemExit("changed: KerasHub reads the epsilon of a Llama")
PY
"$work/venv/bin/python" show.py
