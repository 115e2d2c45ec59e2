#!/bin/sh
# mlx-lm turns every number of a GLM's heads by its position, where the config asks for half of them.
#
# Versions:  mlx-lm 0.32.2, mlx 0.32.4, transformers 5.24.0, torch 2.13.0 (500 MB for processors, more where there is CUDA)
# Expected:  GLM-4 9B (`model_type: glm`) has `partial_rotary_factor: 0.5`, as a value of its own or, since transformers
#            5, within `rope_parameters`. mlx-lm heeds the value in the next type of the family, `glm4`.
# Observed:  Its class for `glm` has no such setting; the value is dropped without a word in either place, and whole
#            heads are turned. All tokens but the first get other logits. With a factor of 1 the two agree.
# Instead:   Run models of type `glm` elsewhere; `glm4` is right once the value stands at the top of config.json.
#
# Seen, the largest differences of log-probabilities between mlx-lm and transformers:
#   glm, factor 1.0:   3e-05
#   glm, factor 0.5:   9.1
#   glm4, factor 0.5:  1.3e-05
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mlx-lm==0.32.2 "mlx[cpu]==0.32.4" transformers==5.24.0 torch==2.13.0 numpy==2.4.6
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'PY'
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
import transformers
from mlx_lm.utils import load_model

transformers.utils.logging.disable_progress_bar()
WORDS, LENGTH, BASE = 64, 20, 10000.0


def difference(config_class, factor):
    """Save a random model of that class and compare mlx-lm's log-probabilities with transformers'."""
    config = config_class(
        vocab_size=WORDS, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=64, attention_bias=True, pad_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": BASE, "partial_rotary_factor": factor},
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    folder = Path(f"{config.model_type}-{factor}")
    model.save_pretrained(folder)
    path = folder / "config.json"
    at_the_top = {"rope_theta": BASE, "partial_rotary_factor": factor}
    path.write_text(json.dumps({**json.loads(path.read_text()), **at_the_top}))
    ids = torch.randint(WORDS, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    expected = torch.log_softmax(model(ids, use_cache=False).logits[0].double(), -1).detach().numpy()
    other, _ = load_model(folder)
    logits = other(mx.array(ids.numpy())).astype(mx.float32)
    seen = torch.log_softmax(torch.tensor(np.array(logits)[0]).double(), -1).numpy()
    return float(np.abs(seen - expected).max())


whole = difference(transformers.GlmConfig, 1.0)
half = difference(transformers.GlmConfig, 0.5)
next_type = difference(transformers.Glm4Config, 0.5)
print(f"glm, factor 1.0:   {whole:.2g}")
print(f"glm, factor 0.5:   {half:.2g}")
print(f"glm4, factor 0.5:  {next_type:.2g}")
if whole > 1e-4 or next_type > 1e-4:
    raise SystemExit("changed: the two differ where whole heads are turned, or for glm4")
if half < 0.1:
    raise SystemExit("changed: mlx-lm turns the part that the config asks for")
PY
