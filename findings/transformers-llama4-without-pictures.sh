#!/bin/sh
# A Llama 4 that sees cannot be asked in text alone: the forward pass ends in an AttributeError.
#
# Versions:  transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where the index offers CUDA)
# Expected:  Llama4ForConditionalGeneration takes text without pictures, as other models that see do, and its forward
#            pass gives the logits that its language model gives.
# Observed:  The pass computes the logits and then fails, with pictures or without: it reads `image_outputs` from the
#            output of its language model, which has no such field. The language model alone works.
# Instead:   Call `model.language_model` for text.
#
# Seen:
#   Gemma 3 that sees, text alone:        logits
#   Llama 4 that sees, text alone:        AttributeError: image_outputs
#   its language model, the same text:    logits
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.24.0 torch==2.13.0
"$work/venv/bin/python" - <<'PY'
import torch
import transformers as t

text = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
}
sight = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48, "image_size": 8,
    "patch_size": 4,
}
of_llama = text | {"intermediate_size_mlp": 48, "num_local_experts": 2, "attention_chunk_size": 8}
to_llama = {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}
gemma = t.Gemma3ForConditionalGeneration(
    t.Gemma3Config(text_config=text, vision_config=sight, mm_tokens_per_image=4, image_token_index=90)
).eval()
llama = t.Llama4ForConditionalGeneration(
    t.Llama4Config(text_config=of_llama, vision_config=sight | to_llama, image_token_index=90)
).eval()
ids = torch.arange(3, 13)[None]


def answer(model):
    try:
        with torch.no_grad():
            logits = model(input_ids=ids).logits
    except AttributeError as error:
        return f"AttributeError: {str(error).split()[-1].strip(chr(39))}"
    assert logits.shape == (1, 10, 96) and logits.isfinite().all()
    return "logits"


seen = answer(gemma), answer(llama), answer(llama.language_model)
print(f"  Gemma 3 that sees, text alone:        {seen[0]}")
print(f"  Llama 4 that sees, text alone:        {seen[1]}")
print(f"  its language model, the same text:    {seen[2]}")
if seen != ("logits", "AttributeError: image_outputs", "logits"):
    raise SystemExit("changed: a Llama 4 that sees answers text alone")
PY
