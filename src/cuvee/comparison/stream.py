"""Reads the models once, piece by piece, and sums over each piece: bounded memory, any number of threads."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from queue import SimpleQueue
from typing import TypeVar

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.comparison.sums import Sums, sums_of
from cuvee.errors import CheckpointError
from cuvee.kernels import BLOCK

PIECE = 8 * BLOCK
"""Elements of a piece: reads of about a megabyte, which stay in a cache while they are summed."""

AHEAD = 3
"""Pieces for each worker that are announced or waiting, so that readers and sums overlap."""

_Seen = TypeVar("_Seen")


@dataclass(frozen=True)
class Piece:
    """Elements `first` up to `last` of a tensor."""

    tensor: str
    first: int
    last: int


def pieces(source: TensorSource, names: Sequence[str], size: int) -> Iterator[Piece]:
    """Cut tensors into pieces of at most `size` elements, whole rows where a row is no longer than that.

    A tensor without elements is one empty piece.
    """
    for name in names:
        spec = source.tensors[name]
        step = size // row_length(spec) * row_length(spec) or size
        for first in range(0, max(spec.elements, 1), step):
            yield Piece(name, first, min(first + step, spec.elements))


def row_length(spec: TensorSpec) -> int:
    """Return the elements of a row: the last axis of a matrix or a stack of them, 1 for other tensors."""
    return max(spec.shape[-1], 1) if len(spec.shape) > 1 else 1


class Reader:
    """Sums over pieces of several models, the base first. Holds the buffers of `workers` workers and no more."""

    def __init__(self, sources: Sequence[TensorSource], *, workers: int, piece: int) -> None:
        self.sources = sources
        self.workers = workers
        self.piece = piece
        self._buffers: SimpleQueue[_Buffers] = SimpleQueue()
        for _ in range(workers):
            self._buffers.put(_Buffers(len(sources), piece))

    def sums(self, names: Sequence[str]) -> Iterator[tuple[Piece, Sums]]:
        """Give each piece of the tensors with its sums, in order."""
        for piece, sums, _ in self.seen(names, lambda piece, stack: None):
            yield piece, sums

    def seen(
        self, names: Sequence[str], look: Callable[[Piece, np.ndarray], _Seen]
    ) -> Iterator[tuple[Piece, Sums, _Seen]]:
        """Give each piece with its sums, and the result of `look` at the numbers of all models [1 + models, n].

        `look` is called by the workers' threads, and must not keep the numbers.
        """
        waiting: deque[tuple[Piece, Future[tuple[Sums, _Seen]]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for piece in pieces(self.sources[0], names, self.piece):
                    self._announce(piece)
                    waiting.append((piece, pool.submit(self._see, piece, look)))
                    if len(waiting) > AHEAD * self.workers:
                        done, future = waiting.popleft()
                        yield done, *future.result()
                while waiting:
                    done, future = waiting.popleft()
                    yield done, *future.result()
            finally:  # an error, an interruption, or a caller that wants no more
                for _, future in waiting:
                    future.cancel()

    def nbytes(self, piece: Piece) -> int:
        """Return the bytes that a piece takes in all models."""
        sizes = (NUMPY[source.tensors[piece.tensor].dtype].itemsize for source in self.sources)
        return (piece.last - piece.first) * sum(sizes)

    def all_bytes(self, names: Sequence[str]) -> int:
        """Return the bytes of whole tensors in all models."""
        return sum(source.tensors[name].nbytes for source, name in product(self.sources, names))

    def _announce(self, piece: Piece) -> None:
        for source in self.sources:
            size = NUMPY[source.tensors[piece.tensor].dtype].itemsize
            source.will_read(piece.tensor, piece.first * size, (piece.last - piece.first) * size)

    def _see(self, piece: Piece, look: Callable[[Piece, np.ndarray], _Seen]) -> tuple[Sums, _Seen]:
        buffers = self._buffers.get()
        try:
            numbers = self._numbers(piece, buffers)
            sums = sums_of(numbers)
            if not (np.isfinite(sums.gram).all() and np.isfinite(sums.base)):
                self._refuse(piece)
            return sums, look(piece, numbers)
        finally:
            self._buffers.put(buffers)

    def _numbers(self, piece: Piece, buffers: "_Buffers") -> np.ndarray:
        """Read a piece of every model: as it is where all are of one type, else widened."""
        dtypes = [NUMPY[source.tensors[piece.tensor].dtype] for source in self.sources]
        if len(set(dtypes)) == 1:
            stack = buffers.numbers(piece, dtypes[0])
            for source, row in zip(self.sources, stack, strict=True):
                source.read_into(piece.tensor, piece.first * row.itemsize, [row])
            return stack
        stack = buffers.numbers(piece, np.dtype(np.float64 if np.dtype(np.float64) in dtypes else np.float32))
        for source, dtype, row in zip(self.sources, dtypes, stack, strict=True):
            raw = np.empty(row.size, dtype)
            source.read_into(piece.tensor, piece.first * dtype.itemsize, [raw])
            row[:] = raw
        return stack

    def _refuse(self, piece: Piece) -> None:
        """Raise CheckpointError that names the number that is not finite."""
        for source in self.sources:
            spec = source.tensors[piece.tensor]
            raw = np.empty(piece.last - piece.first, NUMPY[spec.dtype])
            source.read_into(piece.tensor, piece.first * raw.itemsize, [raw])
            for place in np.flatnonzero(~np.isfinite(raw))[:1]:
                message = f"'{piece.tensor}' holds {raw[place]} at element {piece.first + place}"
                raise CheckpointError(message, where=str(spec.file))
        raise CheckpointError(f"the numbers of '{piece.tensor}' are too large to be squared")


class _Buffers:
    """The memory that a worker reads into: room for the widest numbers of a piece of every model."""

    def __init__(self, models: int, piece: int) -> None:
        self.models = models
        self._raw = np.empty(models * piece * 8, np.uint8)

    def numbers(self, piece: Piece, dtype: np.dtype) -> np.ndarray:
        """Return rows that lie behind each other, as kernels want them."""
        n = piece.last - piece.first
        return self._raw[: self.models * n * dtype.itemsize].view(dtype).reshape(self.models, n)
