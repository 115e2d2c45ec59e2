#!/bin/sh
# mlx-lm chooses the experts of an ERNIE 4.5 mixture without the correction bias that the checkpoint brings.
#
# Versions:  mlx-lm 0.32.2, mlx 0.32.4, transformers 5.24.0, torch 2.13.0 (500 MB for processors, more where there is CUDA)
# Expected:  The checkpoint has a `moe_statics.e_score_correction_bias` for each mixture. transformers adds it to the
#            scores where experts are chosen, as DeepSeek 3 does, whose bias mlx-lm reads.
# Observed:  mlx-lm throws the tensor away while it loads, with those of the heads for several tokens, and says nothing.
#            Tokens whose choice hangs on the bias are sent to other experts: the logits differ, more the larger it is.
# Instead:   Run ERNIE 4.5 mixtures elsewhere (llama.cpp and transformers add the bias).
#
# Seen, the largest differences of log-probabilities between mlx-lm and transformers:
#   biases of zero:            8.6e-06
#   biases of about 0.1:       2.4
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
from safetensors.torch import load_file

transformers.utils.logging.disable_progress_bar()
WORDS, LENGTH, BIAS = 64, 20, "e_score_correction_bias"
CONFIG = transformers.Ernie4_5_MoeConfig(
    vocab_size=WORDS, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, moe_num_experts=8, moe_k=2, moe_intermediate_size=16,
    moe_num_shared_experts=1, moe_layer_start_index=1, pad_token_id=None,
)


def difference(size):
    """Save a random model whose biases are of that size, and compare mlx-lm's log-probabilities with transformers'."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIG).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(BIAS):
            torch.nn.init.normal_(tensor, std=size)
        elif tensor.ndim > 1:
            torch.nn.init.normal_(tensor, std=0.3)
    folder = Path(f"ernie-{size}")
    model.save_pretrained(folder)
    stored = load_file(folder / "model.safetensors")
    if not any(name.endswith(BIAS) for name in stored):
        raise SystemExit("changed: transformers does not save the biases")
    path = folder / "config.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "rope_theta": written["rope_parameters"]["rope_theta"]}))
    ids = torch.randint(WORDS, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    expected = torch.log_softmax(model(ids, use_cache=False).logits[0].double(), -1).detach().numpy()
    other, _ = load_model(folder)
    logits = other(mx.array(ids.numpy())).astype(mx.float32)
    seen = torch.log_softmax(torch.tensor(np.array(logits)[0]).double(), -1).numpy()
    return float(np.abs(seen - expected).max())


without, with_biases = difference(0.0), difference(0.1)
print(f"biases of zero:            {without:.2g}")
print(f"biases of about 0.1:       {with_biases:.2g}")
if without > 1e-4:
    raise SystemExit("changed: the two differ without biases, too")
if with_biases < 0.01:
    raise SystemExit("changed: mlx-lm adds the biases")
PY
