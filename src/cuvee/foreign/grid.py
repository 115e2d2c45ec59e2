"""Scales and zero points: a number for each block of a matrix, read for the rows that are asked for."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import MERGEABLE, NUMPY
from cuvee.errors import CheckpointError

Rows = Callable[[int, int], np.ndarray]
"""Gives the rows of a matrix from one up to another, as float32."""

_EXPONENTS = ("U8", "F8_E8M0")
_OFFSET = 127


@dataclass(frozen=True)
class Grid:
    """A number for each block of a matrix, `rows` by `columns` elements large; there are `shape` blocks."""

    read: Rows
    shape: tuple[int, int]
    rows: int
    columns: int

    def over(self, low: int, high: int, width: int) -> np.ndarray:
        """Return the number of each element of the matrix's rows from `low` up to `high`, or one for each row."""
        first, last = low // self.rows, -(-high // self.rows)
        numbers = self.read(first, last)[np.arange(low, high) // self.rows - first]
        if self.shape[1] == 1:
            return numbers
        return np.repeat(numbers, self.columns, axis=1)[:, :width]


def rows_of(source: TensorSource, name: str, width: int) -> Callable[[int, int], np.ndarray]:
    """Return a function that reads rows of a stored tensor, seen as a matrix of that width, as they are stored."""
    dtype = NUMPY[source.tensors[name].dtype]

    def read(first: int, last: int) -> np.ndarray:
        raw = np.empty((last - first) * width, dtype)
        source.read_into(name, first * width * dtype.itemsize, [raw])
        return raw.reshape(-1, width)

    return read


def scales_of(source: TensorSource, name: str, width: int) -> Rows:
    """Return a function that reads scales. Those of one byte are exponents of two: 127 stands for 1."""
    read = rows_of(source, name, width)
    if source.tensors[name].dtype == "U8":
        return lambda first, last: np.ldexp(np.float32(1), read(first, last).astype(np.int32) - _OFFSET)
    return lambda first, last: read(first, last).astype(np.float32)


def is_exponent(dtype: str) -> bool:
    """Say whether scales of a type are powers of two."""
    return dtype in _EXPONENTS


def check_scales(source: TensorSource, name: str, *others: str) -> None:
    """Raise CheckpointError unless scales are there, of a type that has numbers, or of those others."""
    spec = source.tensors.get(name)
    if spec is None or spec.dtype not in (*MERGEABLE, *others):
        found = f"it is {spec.dtype}" if spec else "there is none"
        raise CheckpointError(f"expected scales of a type such as F32 in '{name}'; {found}", where=where(source))


def grid_of(source: TensorSource, name: str, shape: tuple[int, ...], block: tuple[int, int] | None = None) -> Grid:
    """Find the scales of a matrix, or of a stack of matrices as a tall matrix.

    `block` are the rows and columns that share a scale, where that is known: else the scales' own shape says it.
    Raises CheckpointError for scales that do not fit.
    """
    spec = source.tensors[name]
    stack, rows, columns = math.prod(shape[:-2]), shape[-2], shape[-1]
    if spec.elements == 1:
        one = scales_of(source, name, 1)
        return Grid(lambda first, last: one(0, 1), (1, 1), max(stack * rows, 1), max(columns, 1))
    blocks = spec.shape[-2:] if len(spec.shape) == len(shape) else (spec.elements, 1)
    down, across = max(1, rows // max(blocks[0], 1)), max(1, columns // max(blocks[1], 1))
    if block is not None and blocks != (rows, 1):
        down, across = block
    has_blocks = (math.ceil(rows / down), math.ceil(columns / across)) == blocks
    has_scales = spec.elements == stack * math.prod(blocks)
    cuts_a_block = stack > 1 and rows % down > 0
    fits = has_blocks and has_scales
    if cuts_a_block or not fits:
        message = f"'{name}' has shape {list(spec.shape)}, which does not fit a weight of shape {list(shape)}"
        raise CheckpointError(message, where=where(source))
    return Grid(scales_of(source, name, blocks[1]), (stack * blocks[0], blocks[1]), down, across)


def where(source: TensorSource) -> str | None:
    """Say where a checkpoint is, for a message."""
    return str(source.place) if source.place is not None else None
