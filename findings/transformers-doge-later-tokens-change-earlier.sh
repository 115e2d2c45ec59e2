#!/bin/sh
# A Doge in transformers gives a token other logits when more tokens follow, where a text repeats tokens.
#
# Versions:  transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where there is CUDA)
# Expected:  A causal model's logits after a token depend on it and on those before it. Behind `keep_window_size` tokens
#            (2,048 by default) each query of a Doge looks at that many keys, the highest by a number that is made of
#            each key's value.
# Observed:  In the first layer equal tokens have equal values, whatever their place, and so equal numbers. Among equals
#            `torch.topk` takes any, and takes others when the row is longer, as the keys of the future stand in it, too,
#            with the lowest number. A token that was read then sees other tokens of its past than it did alone. So the
#            log-likelihood of a text depends on how it is cut, and on its padding, and a text that is written with a
#            cache is not the one that the whole row gives. No two tokens of a row alike, or no more of them than are
#            kept: nothing differs.
# Instead:   Score each text by a row of its own length, and take differences of this size for noise.
#
# Seen, the largest difference of the logits after 50 tokens when 10 more follow, 24 being kept:
#   tokens all unlike:   0.0000
#   four tokens in turn: 0.0221
#   the same, 64 kept:   0.0000
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.24.0 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'PY'
import torch
from transformers import DogeConfig, DogeForCausalLM

UNLIKE, IN_TURN = [7 * place % 61 + 1 for place in range(60)], [1 + place % 4 for place in range(60)]


def largest_difference(row, kept):
    """Compare the logits after 50 tokens, alone and with ten more behind them, in a random model."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = DogeConfig(vocab_size=64, num_hidden_layers=2, keep_window_size=kept, **size)
    model = DogeForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(".A"):  # zeros before training, with which all keys would be alike
            torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        alone, followed = (model(torch.tensor([row[:end]]), use_cache=False).logits[0, 49] for end in (50, 60))
    return float((alone - followed).abs().max())


unlike, in_turn, wide = largest_difference(UNLIKE, 24), largest_difference(IN_TURN, 24), largest_difference(IN_TURN, 64)
print(f"tokens all unlike:   {unlike:.4f}")
print(f"four tokens in turn: {in_turn:.4f}")
print(f"the same, 64 kept:   {wide:.4f}")
if max(unlike, wide) > 1e-5:
    raise SystemExit("changed: rows differ for another reason")
if in_turn < 1e-3:
    raise SystemExit("changed: equal tokens are chosen alike")
PY
