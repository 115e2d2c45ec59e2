#!/bin/sh
# MLX stops reading a GGUF file at the first tensor of a newer type, and calls it done.
#
# Versions:  mlx 0.32.4, gguf 0.19.0 (100 MB installed)
# Expected:  `mx.load` documents that it loads the arrays of a file. A type that it cannot read is an error: so it is for
#            Q5_0 or IQ4_XS ("gguf_tensor_to_f16 failed").
# Observed:  At a tensor of MXFP4 (all of GPT-OSS), TQ1_0, TQ2_0 or NVFP4 the reading ends without a word. That tensor
#            and all behind it, of whatever type, are missing from the result; a file that begins so gives {}.
# Instead:   Compare the names with those of `gguf.GGUFReader(file).tensors` before using the result.
#
# Seen:
#   the file has: token_embd.weight blk.0.ffn_up_exps.weight output_norm.weight
#   mlx returns:  token_embd.weight
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "mlx[cpu]==0.32.4" gguf==0.19.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import gguf
import mlx.core as mx
import numpy as np

MXFP4 = gguf.GGMLQuantizationType.MXFP4
random = np.random.default_rng(0)
experts = gguf.quantize(random.standard_normal((4, 64), dtype=np.float32), MXFP4)

writer = gguf.GGUFWriter("model.gguf", "gpt-oss")
writer.add_tensor("token_embd.weight", random.standard_normal((8, 64), dtype=np.float32))
writer.add_tensor("blk.0.ffn_up_exps.weight", experts, raw_dtype=MXFP4)
writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

names = [tensor.name for tensor in gguf.GGUFReader("model.gguf").tensors]
loaded = mx.load("model.gguf")
print("the file has:", *names)
print("mlx returns: ", *loaded)
if list(loaded) != names[:1]:
    raise SystemExit("changed: MLX no longer returns just what stands before the MXFP4 tensor")
PY
