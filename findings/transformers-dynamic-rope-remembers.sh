#!/bin/sh
# With dynamic rotary positions the logits of a prompt depend on what the model read before.
#
# Versions:  transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where the index offers CUDA)
# Expected:  A model in evaluation mode without a cache is a function of its input: the same ids give the same logits.
# Observed:  `rope_type: dynamic` computes frequencies for the longest row so far, and keeps them for rows that are
#            shorter, until one comes that is shorter than max_position_embeddings. A prompt of 40 tokens after one of 60
#            gets the frequencies of 60. So scores depend on the order of the items, without a word.
# Instead:   Show the model one token before each prompt that is longer than max_position_embeddings, which takes the
#            frequencies back, or read each such prompt with a model that was loaded anew.
#
# Seen:
#   largest difference to a fresh model, first prompt:          0.0
#   after a longer prompt:                                      0.00016
#   after a longer prompt and a single token:                   0.0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.24.0 torch==2.13.0
"$work/venv/bin/python" - <<'PY'
import torch
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=32, rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
)
torch.manual_seed(0)
model = LlamaForCausalLM(config).eval()
weights = model.state_dict()
prompt, longer = torch.arange(40)[None] % 64, torch.arange(60)[None] % 64


def logits(network):
    with torch.no_grad():
        return network(input_ids=prompt, use_cache=False).logits


fresh = LlamaForCausalLM(config).eval()
fresh.load_state_dict(weights)
expected = logits(fresh)
first = float((logits(model) - expected).abs().max())
with torch.no_grad():
    model(input_ids=longer, use_cache=False)
second = float((logits(model) - expected).abs().max())
with torch.no_grad():
    model(input_ids=prompt[:, :1], use_cache=False)
third = float((logits(model) - expected).abs().max())
print("largest difference to a fresh model, first prompt:         ", first)
print("after a longer prompt:                                     ", second)
print("after a longer prompt and a single token:                  ", third)
if first or third:
    raise SystemExit("changed: the comparison itself no longer holds")
if second < 1e-4:
    raise SystemExit("changed: the logits no longer depend on what was read before")
PY
