#!/bin/sh
# mlx-lm weighs the chosen experts of a Jamba by numbers that sum to one; in Jamba they do not.
#
# Versions:  mlx-lm 0.32.2, mlx 0.32.4, transformers 5.24.0, torch 2.13.0 (500 MB for processors, more where there is CUDA)
# Expected:  In Jamba an expert's weight is its share of the softmax over all experts, and the shares of the chosen ones
#            are not scaled up to one. mlx-lm's OLMoE does the same unless `norm_topk_prob` asks for more.
# Observed:  mlx-lm takes the softmax over the chosen experts alone. Without mixtures the two agree; with mixtures each
#            adds more to the stream than it was trained to, the more so the more experts there are.
# Instead:   Run Jamba's mixtures elsewhere; its dense members (`num_experts: 1`) are right.
#
# Seen, the largest differences of log-probabilities between mlx-lm and transformers:
#   1 expert:              4.1e-05
#   16 experts, 2 chosen:  3.4
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mlx-lm==0.32.2 "mlx[cpu]==0.32.4" transformers==5.24.0 torch==2.13.0 numpy==2.4.6
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'PY'
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
import transformers
from mlx_lm.utils import load_model

transformers.utils.logging.disable_progress_bar()
WORDS, LENGTH = 64, 20


def difference(experts):
    """Save a random Jamba with so many experts and compare mlx-lm's log-probabilities with transformers'."""
    config = transformers.JambaConfig(
        vocab_size=WORDS, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, attn_layer_period=4, attn_layer_offset=2, expert_layer_period=2, expert_layer_offset=1,
        num_experts=experts, num_experts_per_tok=min(2, experts), mamba_d_state=4, mamba_d_conv=4, mamba_expand=2,
        mamba_dt_rank=4, use_mamba_kernels=False, tie_word_embeddings=False, pad_token_id=None,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and not name.endswith("A_log"):
            torch.nn.init.normal_(parameter, std=0.3)
    folder = Path(f"jamba-{experts}")
    model.save_pretrained(folder)
    ids = torch.randint(WORDS, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    expected = torch.log_softmax(model(ids, use_cache=False).logits[0].double(), -1).detach().numpy()
    other, _ = load_model(folder)
    logits = other(mx.array(ids.numpy())).astype(mx.float32)
    seen = torch.log_softmax(torch.tensor(np.array(logits)[0]).double(), -1).numpy()
    return float(np.abs(seen - expected).max())


dense, mixture = difference(1), difference(16)
print(f"1 expert:              {dense:.2g}")
print(f"16 experts, 2 chosen:  {mixture:.2g}")
if dense > 1e-4:
    raise SystemExit("changed: the two differ without mixtures, too")
if mixture < 0.01:
    raise SystemExit("changed: mlx-lm no longer scales the weights of the chosen experts")
PY
