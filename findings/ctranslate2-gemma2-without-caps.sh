#!/bin/sh
# CTranslate2 converts a Gemma 2 without its soft caps, and says nothing.
#
# Versions:  ctranslate2 4.8.5, transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where there is CUDA)
# Expected:  `TransformersConverter` has a loader for Gemma2Config, so the converted model scores texts as transformers
#            does. All published models of the family cap their attention at 50 and their logits at 30 by tanh.
# Observed:  Neither `attn_logit_softcapping` nor `final_logit_softcapping` gets into the converted model. Without them
#            in the config both programs agree to rounding; with either one the log-probabilities differ.
# Instead:   Score or generate with transformers or llama.cpp, which read both.
#
# Seen, the largest difference of a token's log-probability:
#   no caps: 2.4e-06
#   attention capped at 5: 0.38
#   logits capped at 30: 0.12
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ctranslate2==4.8.5 transformers==5.24.0 torch==2.13.0
cat > "$work/show.py" <<'PY'
import sys
from pathlib import Path

import ctranslate2
import torch
import transformers
from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer, models

work = Path(sys.argv[1])
transformers.utils.logging.set_verbosity_error()
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
WORDS = [*SPECIAL, *(f"t{number}" for number in range(4, 64))]
IDS = list(range(4, 20))
SMALL = {
    "vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8,
    "sliding_window": 64, "max_position_embeddings": 64,
}


def largest_difference(name, attention, logits):
    config = transformers.Gemma2Config(**SMALL, attn_logit_softcapping=attention, final_logit_softcapping=logits)
    torch.manual_seed(0)
    model = transformers.Gemma2ForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.dim() > 1 else 0.1)
    model.save_pretrained(work / name)
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokens = dict(zip(("pad_token", "eos_token", "bos_token", "unk_token"), SPECIAL))
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **tokens).save_pretrained(work / name)
    converted = str(work / f"{name}-converted")
    TransformersConverter(str(work / name)).convert(converted)
    scores = ctranslate2.Generator(converted, compute_type="float32").score_batch([[WORDS[id] for id in IDS]])
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits[0].log_softmax(-1)[range(len(IDS) - 1), IDS[1:]]
    return float((torch.tensor(scores[0].log_probs) - expected).abs().max())


plain = largest_difference("plain", None, None)
attention = largest_difference("attention", 5.0, None)
logits = largest_difference("logits", None, 30.0)
print(f"no caps: {plain:.2g}")
print(f"attention capped at 5: {attention:.2g}")
print(f"logits capped at 30: {logits:.2g}")
if plain > 1e-4 or attention < 0.01 or logits < 0.01:
    raise SystemExit("changed: the caps are converted, or the models differ without them")
PY
"$work/venv/bin/python" "$work/show.py" "$work"
