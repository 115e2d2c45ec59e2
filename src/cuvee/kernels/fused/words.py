"""The data of compiled loops: arrays of words, and pieces of them.

bfloat16 goes as uint16, float16 as int16, float32 as itself. A word of any of these types, whatever its value, also
names the type that results are rounded to.
"""

from typing import Any

import ml_dtypes
import numpy as np

TILE = 1024
"""Elements for which a kernel keeps intermediate numbers; they stay in the first-level cache."""

BUCKETS = 511
"""Magnitudes of a row are put into these by their highest bits: 32 for each halving, down from the largest."""

BUCKET_SHIFT = 18
"""Bits of a magnitude that do not say its bucket."""

STREAMS = 4
"""Parts of a row that are counted in turn: where many magnitudes are equal, one counter would wait for itself."""

LISTED = 16
"""Marks that are listed at once."""

_WORDS = {np.dtype(ml_dtypes.bfloat16): np.uint16, np.dtype(np.float16): np.int16, np.dtype(np.float32): np.float32}


def words(array: np.ndarray) -> np.ndarray:
    """View an array of a type that compiled loops know as words."""
    return array.view(_WORDS[array.dtype])


def word(dtype: np.dtype) -> Any:
    """Return a word that names a type to round to."""
    return _WORDS[dtype](0)


def known(*dtypes: np.dtype) -> bool:
    return all(dtype in _WORDS for dtype in dtypes)
