#!/bin/sh
# In Numba a uint64 array plus 1 is a float64 array, and above 2**63 it is negative.
#
# Versions:  numba 0.68.1, numpy 2.4.6 (250 MB installed)
# Expected:  NumPy 2 takes the type of the array (NEP 50): uint64, exact. Numba's notes on integer typing say that uint64
#            with int64 becomes float64: at least the size would be right then, 9.2e18.
# Observed:  The result has the type float64, but the sum itself is computed as int64 before: the sign is wrong. The same
#            with -, *, // and % by a plain number, and `words % 10`, as one deals hashes into buckets, is another bucket
#            than NumPy's. Hashes and random words have the top bit set half of the time.
# Instead:   Write the number with its type, `words + np.uint64(1)`, also for single words in loops.
#
# Seen:
#   numpy:                  uint64 9223372036854775811, and 0 of 10 buckets
#   numba, words + 1:       float64 -9.223372036854776e+18, and 4.0 of 10 buckets
#   numba, np.uint64(1):    uint64 9223372036854775811, and 0 of 10 buckets
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numba==0.68.1 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import numba
import numpy as np


def plain(words):
    return words + 1, words % 10


@numba.njit
def typed(words):
    return words + np.uint64(1), words % np.uint64(10)


def show(label, sums, buckets):
    print(label.ljust(23), f"{sums.dtype} {sums[0]}, and {buckets[0]} of 10 buckets")


words = np.array([2**63 + 2], np.uint64)
right, wrong, mended = plain(words), numba.njit(plain)(words), typed(words)
show("numpy:", *right)
show("numba, words + 1:", *wrong)
show("numba, np.uint64(1):", *mended)
if mended[0].dtype != np.uint64 or mended[0][0] != right[0][0] or mended[1][0] != right[1][0]:
    raise SystemExit("changed: numbers with a type no longer give NumPy's result")
if wrong[0].dtype != np.float64 or wrong[0][0] > 0 or wrong[1][0] == right[1][0]:
    raise SystemExit("changed: the sum is no longer a float64 of the wrong sign")
PY
