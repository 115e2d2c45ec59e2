#!/bin/sh
# transformers reads a GGUF file of a Llama 3.1, and leaves out how its positions are scaled.
#
# Versions:  transformers 5.24.0, gguf 0.19.0, accelerate 1.15.0, torch 2.13.0 (large: torch alone is 1 GB or more)
# Expected:  The page about GGUF says that the file carries the configuration and that its tensors are read into the
#            model, with Llama among the architectures that work: the model should compute what llama.cpp computes.
# Observed:  llama.cpp keeps Llama 3.1's scaling as a tensor, rope_freqs.weight, and others as keys, llama.rope.scaling.*.
#            from_pretrained(gguf_file=...) uses neither: the config has rope_type "default", the logits are those of a
#            file without scaling. The tensor is not even named in what loading reports as unexpected.
# Instead:   Take config.json of the original model: from_pretrained(folder, gguf_file=..., config=original).
#
# Seen:
#   file                          rope_type  unexpected  logits differ from the plain file's by
#   with rope_freqs.weight        default    -           0.0
#   with rope.scaling linear, 4   default    -           0.0
#   the same, scaling in config   linear     -           3.12
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.24.0 gguf==0.19.0 accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
"$work/venv/bin/python" - 2>"$work/talk" <<'PY' || { status=$?; tail -3 "$work/talk" >&2; exit $status; }
import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

HIDDEN, INNER, HEADS, GROUPS, WORDS, LAYERS = 32, 64, 4, 2, 20, 2
HEAD = HIDDEN // HEADS
SHAPES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (GROUPS * HEAD, HIDDEN),
    "attn_v": (GROUPS * HEAD, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (INNER, HIDDEN),
    "ffn_up": (INNER, HIDDEN),
    "ffn_down": (HIDDEN, INNER),
}


def write(name, *, frequencies=False, scaling=False):
    """Write a tiny random Llama, with the scaling of its positions in a tensor or in keys."""
    writer = gguf.GGUFWriter(name, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(WORDS)
    if scaling:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)
    random = np.random.default_rng(0)

    def matrix(*shape):
        return (random.standard_normal(shape) * 0.3).astype(np.float32)

    ones = np.ones(HIDDEN, np.float32)
    writer.add_tensor("token_embd.weight", matrix(WORDS, HIDDEN))
    writer.add_tensor("output.weight", matrix(WORDS, HIDDEN))
    writer.add_tensor("output_norm.weight", ones)
    if frequencies:
        writer.add_tensor("rope_freqs.weight", np.array([1, 2, 4, 8], np.float32))
    for layer in range(LAYERS):
        for part, shape in SHAPES.items():
            writer.add_tensor(f"blk.{layer}.{part}.weight", matrix(*shape))
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(name, **options):
    """Return the model, what loading found unexpected, and logits."""
    model, report = AutoModelForCausalLM.from_pretrained(
        ".", gguf_file=name, dtype=torch.float32, output_loading_info=True, **options
    )
    with torch.no_grad():
        logits = model.eval()(torch.arange(16)[None] % WORDS).logits[0, -1]
    return model.config, report["unexpected_keys"], logits


write("plain.gguf")
write("frequencies.gguf", frequencies=True)
write("scaling.gguf", scaling=True)
plain_config, _, plain = read("plain.gguf")
linear = plain_config.to_dict()
linear.pop("quantization_config", None)
linear["rope_parameters"] = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
found = {
    "with rope_freqs.weight": read("frequencies.gguf"),
    "with rope.scaling linear, 4": read("scaling.gguf"),
    "the same, scaling in config": read("scaling.gguf", config=LlamaConfig(**linear)),
}
apart = {}
print("file".ljust(28), " rope_type  unexpected  logits differ from the plain file's by")
for label, (config, unexpected, logits) in found.items():
    apart[label] = float((logits - plain).abs().max())
    names = ", ".join(sorted(unexpected)) or "-"
    print(label.ljust(28), f" {config.rope_parameters['rope_type']:9}  {names:10}  {apart[label]:.3}")
if apart["with rope_freqs.weight"] or apart["with rope.scaling linear, 4"]:
    raise SystemExit("changed: the scaling in the file is used")
if not apart["the same, scaling in config"]:
    raise SystemExit("changed: scaling in the config makes no difference either, so that this shows nothing")
PY
