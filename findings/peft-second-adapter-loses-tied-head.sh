#!/bin/sh
# Of two adapters that were trained with `ensure_weight_tying`, the one that is loaded second answers with the wrong head.
#
# Versions:  peft 0.21.2, transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where there is CUDA)
# Expected:  `load_adapter` and `set_adapter` give what each adapter gives when it is loaded alone. With
#            `ensure_weight_tying=True`, PEFT says, layers that are tied to an adapted embedding are tied to its adapter.
# Observed:  That holds for the first adapter of a model only. The second brings its embedding, and the head stays
#            without its half: no error, and no warning of a missing key. Which of the two is wrong depends on the order.
#            It is so for LoRA on the embedding and for an embedding in `modules_to_save`, and not without tying.
# Instead:   Load one adapter into one model, or merge each into a base of its own.
#
# Seen: the largest difference of a logit from the adapter loaded alone, for the first and the second that is loaded.
#   LoRA on embed_tokens: first 0, second 6.5
#   LoRA on embed_tokens, other order: first 0, second 4.6
#   embed_tokens saved: first 0, second 4
#   embed_tokens saved, other order: first 0, second 4
#   LoRA on q_proj alone: first 0, second 0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet peft==0.21.2 transformers==5.24.0 torch==2.13.0
cat > "$work/show.py" <<'PY'
import tempfile
import warnings

import peft
import torch
import transformers

transformers.utils.logging.set_verbosity_error()
CONFIG = transformers.LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    tie_word_embeddings=True,
)
IDS = torch.arange(3, 13)[None]


def base():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(CONFIG).eval()


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


@torch.no_grad()
def trained(folder, seed, options):
    """Save an adapter whose weights have all moved; return its folder, and its logits once it is loaded alone."""
    config = peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", ensure_weight_tying=True, **options)
    model = peft.get_peft_model(base(), config)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(f"{folder}/{seed}")
    alone = logits(peft.PeftModel.from_pretrained(base(), f"{folder}/{seed}"))
    assert torch.equal(alone, logits(model)), "an adapter alone is not saved or loaded as it was trained"
    return f"{folder}/{seed}", alone


def show(name, options, order):
    with tempfile.TemporaryDirectory() as folder:
        adapters = [trained(folder, seed, options) for seed in order]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            both = peft.PeftModel.from_pretrained(base(), adapters[0][0], adapter_name="first")
            both.load_adapter(adapters[1][0], adapter_name="second")
        missing = [str(warning.message) for warning in caught if "missing" in str(warning.message).lower()]
        if missing:
            raise SystemExit(f"changed: PEFT warns: {missing[0]}")
        differences = []
        for adapter, (_, alone) in zip(("first", "second"), adapters, strict=True):
            both.set_adapter(adapter)
            differences.append(float((logits(both) - alone).abs().max()))
    print(f"{name}: first {differences[0]:.2g}, second {differences[1]:.2g}")
    return differences


for name, options in (
    ("LoRA on embed_tokens", {"target_modules": ["q_proj", "embed_tokens"]}),
    ("embed_tokens saved", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
):
    for suffix, order in (("", (1, 2)), (", other order", (2, 1))):
        first, second = show(name + suffix, options, order)
        if first > 1e-4 or second < 0.1:
            raise SystemExit("changed: the second adapter is as it is alone, or the first is not")
if max(show("LoRA on q_proj alone", {"target_modules": ["q_proj"]}, (1, 2))) > 1e-4:
    raise SystemExit("changed: without an embedding two adapters are not as they are alone")
PY
"$work/venv/bin/python" "$work/show.py"
