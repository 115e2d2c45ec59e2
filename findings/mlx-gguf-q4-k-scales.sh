#!/bin/sh
# MLX reads the GGUF type Q4_K with half of its scales wrong.
#
# Versions:  mlx 0.32.4, gguf 0.19.0 (100 MB installed)
# Expected:  The example for GGUF in mlx-examples says that types MLX does not keep quantised are cast to float16, so
#            `mx.load` should give the numbers that the file stands for. A Q4_K block has eight groups of 32 numbers,
#            each with a scale and a minimum of its own; llama.cpp and the package `gguf` read it so.
# Observed:  In each block the groups 1, 3, 5 and 7 are computed with scale and minimum of the group before them.
#            Shapes and types are right and nothing is said. Q4_K is most of a Q4_K_M file, the commonest download.
# Instead:   Read such files with `gguf.dequantize` and hand MLX the result, or take Q4_0, Q4_1, Q8_0 or Q6_K files.
#
# Seen:
#   error of gguf by group: 0.08 0.08 0.08 0.08 0.08 0.08 0.08 0.08
#   error of mlx by group:  0.08 0.71 0.08 0.71 0.08 0.80 0.08 0.88
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

Q4_K = gguf.GGMLQuantizationType.Q4_K


def q4_k_blocks(numbers):
    """Quantise [blocks, 256] numbers: per group of 32 a scale and a minimum in 6 bits, per number 4 bits."""
    groups = numbers.reshape(-1, 8, 32)
    lowest = np.minimum(groups.min(axis=2), 0)
    steps = (groups.max(axis=2) - lowest) / 15
    d = np.float16(steps.max(axis=1, keepdims=True) / 63)
    dmin = np.float16((-lowest).max(axis=1, keepdims=True) / 63)
    scales = np.clip(np.rint(steps / d), 1, 63).astype(np.uint8)
    minimums = np.clip(np.rint(-lowest / dmin), 0, 63).astype(np.uint8)
    offset = (dmin * minimums)[:, :, None]
    codes = np.clip(np.rint((groups + offset) / (d * scales)[:, :, None]), 0, 15).astype(np.uint8)

    packed = np.zeros((len(groups), 12), np.uint8)
    packed[:, 0:4] = scales[:, :4] | (scales[:, 4:] >> 4 << 6)
    packed[:, 4:8] = minimums[:, :4] | (minimums[:, 4:] >> 4 << 6)
    packed[:, 8:12] = (scales[:, 4:] & 15) | (minimums[:, 4:] << 4)
    nibbles = (codes[:, 0::2] | (codes[:, 1::2] << 4)).reshape(len(groups), 128)
    return np.concatenate([d.view(np.uint8), dmin.view(np.uint8), packed, nibbles], axis=1)


random = np.random.default_rng(0)
# groups differ in size, as those of trained matrices do
weights = random.standard_normal((64, 8, 32)) * random.uniform(0.5, 2, (64, 8, 1))
weights = weights.reshape(64, 256).astype(np.float32)

writer = gguf.GGUFWriter("model.gguf", "llama")
writer.add_tensor("blk.0.ffn_up.weight", q4_k_blocks(weights), raw_dtype=Q4_K)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()


def errors(read):
    """Return the relative error of each of the eight groups, over all blocks."""
    apart = (read - weights).reshape(64, 8, 32)
    return np.sqrt((apart**2).mean(axis=(0, 2)) / (weights.reshape(64, 8, 32) ** 2).mean(axis=(0, 2)))


by_gguf = errors(gguf.dequantize(gguf.GGUFReader("model.gguf").tensors[0].data, Q4_K))
by_mlx = errors(np.array(mx.load("model.gguf")["blk.0.ffn_up.weight"].astype(mx.float32)))
print("error of gguf by group:", *(f"{error:.2f}" for error in by_gguf))
print("error of mlx by group: ", *(f"{error:.2f}" for error in by_mlx))
if by_gguf.max() > 0.1:
    raise SystemExit("changed: gguf itself no longer reads these blocks back")
if not (by_mlx[0::2].max() < 0.1 and by_mlx[1::2].min() > 0.2):
    raise SystemExit("changed: MLX no longer reads every second group wrong")
PY
