#!/bin/sh
# One NaN leaves a bfloat16 array unsorted in NumPy.
#
# Versions:  ml-dtypes 0.6.0, numpy 2.4.6 (60 MB installed)
# Expected:  numpy.sort documents that NaNs come last, for real and complex numbers, since NumPy 1.4. float16, float32
#            and float64 do so.
# Observed:  For bfloat16 and the float8 types of ml_dtypes, a comparison with NaN is false in the sort too, so that
#            numbers do not get past one. np.sort, argsort and partition return wrong orders without a word, np.unique
#            lists a number twice, and the k largest of a tensor with a single NaN are not its k largest.
# Instead:   Sort `array.astype(np.float32)`: each bfloat16 is a float32, so that the order is exact.
#
# Seen:
#   np.sort, float16:      1.0 2.0 3.0 nan
#   np.sort, bfloat16:     3.0 nan 1.0 2.0
#   np.argsort, bfloat16:  0 1 2 3
#   np.unique, bfloat16:   3.0 nan 1.0 3.0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ml-dtypes==0.6.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import ml_dtypes
import numpy as np

numbers = np.array([3, np.nan, 1, 2])
plain = np.sort(numbers.astype(np.float16))
brain = numbers.astype(ml_dtypes.bfloat16)
repeated = np.array([3, np.nan, 1, 3], ml_dtypes.bfloat16)


def show(label, values):
    print(label.ljust(22), *values.tolist())


show("np.sort, float16:", plain)
show("np.sort, bfloat16:", np.sort(brain))
show("np.argsort, bfloat16:", np.argsort(brain))
show("np.unique, bfloat16:", np.unique(repeated))
if plain[:3].tolist() != [1, 2, 3]:
    raise SystemExit("changed: NumPy's own float16 is no longer sorted with NaN last")
if np.sort(brain).astype(np.float32)[:3].tolist() == [1, 2, 3]:
    raise SystemExit("changed: bfloat16 is sorted with NaN last now")
PY
