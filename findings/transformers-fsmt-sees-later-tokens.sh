#!/bin/sh
# The decoder of an FSMT in transformers sees later tokens, unless it is called with `use_cache=False` and the encoder's ids.
#
# Versions:  transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where there is CUDA)
# Expected:  A decoder's logits at a place depend on the tokens up to there. `use_cache` says whether keys and values are
#            kept for a next call, and `encoder_outputs` saves reading the encoder's text again: neither changes logits.
# Observed:  The mask that hides later tokens is made only where `use_cache` is false and `input_ids` are given. A config of
#            FSMT has `use_cache` on, so the plain call of the model with a whole translation has no such mask; nor has one
#            with `use_cache=False` and `encoder_outputs`. Scores of translations, as for choosing among some or for
#            perplexity, are made with the answer in sight. Training is right, as `labels` switch the cache off, and so is
#            `generate`, which shows one token at a time.
# Instead:   Call it with `use_cache=False` and with `input_ids`, also where `encoder_outputs` are given.
#
# Seen, the largest difference of the first three logits when a fourth token follows:
#   as the config says:                   0.5056
#   use_cache=False, encoder_outputs:     0.5056
#   use_cache=False, input_ids:           0.0000
#   both ids and outputs, no cache:       0.0000
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.24.0 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'PY'
import torch
from transformers import FSMTConfig, FSMTForConditionalGeneration

SIZE = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
torch.manual_seed(0)
config = FSMTConfig(
    langs=["en", "de"], src_vocab_size=64, tgt_vocab_size=64, encoder_ffn_dim=48, decoder_ffn_dim=48, init_std=0.2, **SIZE
)
model = FSMTForConditionalGeneration(config).eval()
read = torch.tensor([[5, 9, 33, 40, 2]])


@torch.no_grad()
def difference(**how):
    """Compare the logits of three tokens, alone and with a fourth behind them."""
    alone = model(decoder_input_ids=torch.tensor([[2, 30, 41]]), **how).logits
    followed = model(decoder_input_ids=torch.tensor([[2, 30, 41, 52]]), **how).logits[:, :3]
    return float((alone - followed).abs().max())


with torch.no_grad():
    outputs = model.get_encoder()(read)
usual = difference(input_ids=read)
outputs_alone = difference(encoder_outputs=outputs, use_cache=False)
ids = difference(input_ids=read, use_cache=False)
both = difference(input_ids=read, encoder_outputs=outputs, use_cache=False)
print(f"as the config says:                   {usual:.4f}")
print(f"use_cache=False, encoder_outputs:     {outputs_alone:.4f}")
print(f"use_cache=False, input_ids:           {ids:.4f}")
print(f"both ids and outputs, no cache:       {both:.4f}")
if max(ids, both) > 1e-4:
    raise SystemExit("changed: rows differ for another reason")
if min(usual, outputs_alone) < 1e-2:
    raise SystemExit("changed: later tokens are hidden")
PY
