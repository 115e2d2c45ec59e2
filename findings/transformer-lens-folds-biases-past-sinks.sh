#!/bin/sh
# TransformerLens folds a GPT-OSS's value biases away as if its attention summed to one: the model says other things.
#
# Versions:  transformer-lens 4.3.0, transformers 5.24.0, torch 2.13.0 (1 GB for processors, more with CUDA)
# Expected:  `enable_compatibility_mode()` rewrites the weights so that they are easier to read. The steps are documented
#            to leave the log-probabilities as they are, the package's own tools build on that, and GPT-OSS is named
#            among the architectures that it works for.
# Observed:  One of the steps moves each value bias through the output matrix into the output bias, "because attention
#            patterns add up to 1". In a GPT-OSS they do not: every head has a sink that takes a part of the softmax, so
#            a value bias counts only for the rest. All published models of the family have such biases. Without them,
#            without sinks or without that step the rewritten model agrees; otherwise it differs and no word is said.
# Instead:   enable_compatibility_mode(fold_value_biases=False) for models with sinks.
#
# Seen, the largest difference of a log-probability from transformers:
#   as loaded:                                  0
#   compatibility mode:                         1.3
#   the same, fold_value_biases=False:          9.1e-06
#   compatibility mode, no sinks (-30):         8.4e-06
#   compatibility mode, no value biases:        1.3e-05
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformer-lens==4.3.0 transformers==5.24.0 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/hub" TRANSFORMERS_VERBOSITY=error
cat > show.py <<'PY'
import logging
import warnings

import torch
import transformers
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
transformers.utils.logging.disable_progress_bar()
SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
WORDS = [*SPECIAL, *(f"t{number}" for number in range(4, 80))]
IDS = torch.randint(4, len(WORDS), (1, 30), generator=torch.Generator().manual_seed(0))
CONFIG = transformers.GptOssConfig(
    vocab_size=len(WORDS), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=64,
    max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
)


def save_tokenizer(folder):
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokens = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **tokens).save_pretrained(folder)


@torch.no_grad()
def largest_difference(folder, options, sink=0.0, biased=True):
    """Save a random model, open it in TransformerLens and compare the log-probabilities; no options: as loaded."""
    torch.manual_seed(0)
    model = transformers.GptOssForCausalLM(CONFIG).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
        if "norm" in name:
            parameter += 1
        if name.endswith("sinks"):
            parameter.fill_(sink)
        if name.endswith("v_proj.bias") and not biased:
            parameter.zero_()
    model.save_pretrained(folder)
    save_tokenizer(folder)
    bridge = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)
    if options is not None:
        bridge.enable_compatibility_mode(disable_warnings=True, **options)
    expected = model(IDS, use_cache=False).logits.double().log_softmax(-1)
    return float((bridge(IDS).double().log_softmax(-1) - expected).abs().max())


loaded = largest_difference("loaded", None)
folded = largest_difference("folded", {})
kept = largest_difference("kept", {"fold_value_biases": False})
no_sinks = largest_difference("no-sinks", {}, sink=-30.0)
no_biases = largest_difference("no-biases", {}, biased=False)
print(f"as loaded:                                  {loaded:.2g}")
print(f"compatibility mode:                         {folded:.2g}")
print(f"the same, fold_value_biases=False:          {kept:.2g}")
print(f"compatibility mode, no sinks (-30):         {no_sinks:.2g}")
print(f"compatibility mode, no value biases:        {no_biases:.2g}")
if max(loaded, kept, no_sinks, no_biases) > 1e-3:
    raise SystemExit("changed: the two differ for another reason than the value biases beside sinks")
if folded < 0.05:
    raise SystemExit("changed: the value biases of a model with sinks are folded rightly, or not at all")
PY
"$work/venv/bin/python" show.py
