"""Whole numbers of 2 to 8 bits in 32-bit words along the rows, as compressed-tensors packs them.

The lowest bits come first, bit behind bit: a number of 3, 5, 6 or 7 bits may begin in one word and end in the next.
Half the codes' range is added to each.
"""

import math
from functools import cache

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.errors import CheckpointError
from cuvee.foreign.decoded import Decoding
from cuvee.foreign.grid import Grid, Rows, check_scales, grid_of, rows_of, where
from cuvee.foreign.product import product
from cuvee.foreign.scheme_groups import number, weights_of
from cuvee.foreign.schemes import Scheme

_BITS = range(2, 9)
_WORD = 32
"""Bits of a word; so many numbers fill whole words, however many bits each has."""


def unpacked(source: TensorSource, scheme: Scheme, spec: TensorSpec, plain: str, hidden: set[str]) -> Decoding:
    """View packed words as the tensor `plain`. Raises CheckpointError for words that do not fit their scales."""
    hidden |= {spec.name, f"{plain}_shape", f"{plain}_scale"}
    settings = weights_of(scheme, plain, where(source))
    bits, size = number(settings, "num_bits"), number(settings, "group_size")
    scale = source.tensors.get(f"{plain}_scale")
    is_packed = bits in _BITS and len(spec.shape) == 2 and spec.dtype == "I32"
    if not is_packed or scale is None:
        message = f"'{spec.name}' does not hold codes of 2 to 8 bits with scales, in 32-bit words"
        raise CheckpointError(message, where=where(source))
    check_scales(source, scale.name)
    width = scale.shape[-1] * size if size > 0 else spec.shape[1] * 32 // bits
    shape, words = (spec.shape[0], width), spec.shape[1]
    if math.ceil(width * bits / 32) != words:
        message = f"'{spec.name}' of shape {list(spec.shape)} does not hold {bits}-bit codes of shape {list(shape)}"
        raise CheckpointError(message, where=where(source))
    grid = grid_of(source, scale.name, shape)
    zero = _zero_point(source, plain, grid, bits, hidden)
    read = rows_of(source, spec.name, words)

    @cache
    def check_shape() -> None:
        stated = _stated_shape(source, plain)
        if stated != list(shape):
            message = f"'{plain}_shape' says {stated}; its codes and scales are of {list(shape)}"
            raise CheckpointError(message, where=where(source))

    def codes(low: int, high: int) -> np.ndarray:
        check_shape()
        return _codes(read(low, high).view(np.uint8), bits)[:, :width].astype(np.float32)

    return product(spec, plain, shape, scale.dtype, codes, grid, zero)


def _stated_shape(source: TensorSource, plain: str) -> list[int]:
    name = f"{plain}_shape"
    spec = source.tensors.get(name)
    if spec is None or spec.dtype not in ("I64", "I32"):
        raise CheckpointError(f"has no '{name}', which its codes need", where=where(source))
    shape: list[int] = rows_of(source, name, spec.elements)(0, 1)[0].tolist()
    return shape


def _zero_point(source: TensorSource, plain: str, grid: Grid, bits: int, hidden: set[str]) -> Grid | None:
    """Find zero points. They are packed down the columns: those of row i lie in word i * bits / 32."""
    name = f"{plain}_zero_point"
    spec = source.tensors.get(name)
    if spec is None:
        return None
    hidden.add(name)
    if spec.dtype != "I32" or spec.shape != (math.ceil(grid.shape[0] * bits / 32), grid.shape[1]):
        raise CheckpointError(f"'{name}' does not fit the scales", where=where(source))
    read = rows_of(source, name, grid.shape[1])

    def points(first: int, last: int) -> np.ndarray:
        start = first // _WORD * _WORD  # its bits begin with a word
        words = read(start * bits // _WORD, -(-last * bits // _WORD))
        columns = np.ascontiguousarray(words.T).view(np.uint8)
        return _codes(columns, bits).T[first - start : last - start].astype(np.float32)

    rows: Rows = points
    return Grid(rows, grid.shape, grid.rows, grid.columns)


def _codes(packed: np.ndarray, bits: int) -> np.ndarray:
    """Return the signed codes in rows of bytes."""
    half = 1 << bits - 1
    if 8 % bits == 0:
        parts = [packed >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)]
        return np.stack(parts, axis=-1).reshape(len(packed), -1).astype(np.int16) - half
    single = np.unpackbits(packed, axis=1, bitorder="little")
    whole = single[:, : single.shape[1] // bits * bits].reshape(len(packed), -1, bits)
    codes: np.ndarray = (whole << np.arange(bits, dtype=np.uint8)).sum(axis=-1, dtype=np.int16) - half
    return codes
