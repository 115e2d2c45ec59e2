"""The inputs of a step as a stream of blocks, read in chunks and checked."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.errors import CheckpointError
from cuvee.kernels import Block, Kernels
from cuvee.plan.plan import Input, MergeStep

CountBytes = Callable[[int], None]


class Blocks:
    """Streams one step's inputs, as often as asked. Reuses its buffers: a block is valid until the next chunk.

    Numbers stay as they are in the files where all inputs are of one type. Where they are not, they are converted to
    `dtype`, the type computed in, which holds them all, or to which models are to be rounded when they are loaded. A
    step that fits in one chunk is read once.
    """

    def __init__(
        self,
        step: MergeStep,
        sources: Sequence[TensorSource],
        kernels: Kernels,
        *,
        chunk: int,
        dtype: np.dtype,
        allow_nonfinite: bool,
        count_bytes: CountBytes,
    ) -> None:
        self.step = step
        self.sources = sources
        self.kernels = kernels
        self.chunk = min(step.chunk(chunk), max(step.elements, 1))
        self.dtype = dtype
        self.allow_nonfinite = allow_nonfinite
        self.count_bytes = count_bytes
        self._kinds = [NUMPY[given.dtype] for given in step.all_inputs]
        self._kind = _common(self._kinds, dtype) if step.action == "merge" else self._kinds[0]
        self._rows = np.empty(len(self._kinds) * self.chunk, self._kind)
        self._held = -1
        self._checked = 0

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Give (first element, one past the last) of each chunk, with its numbers read."""
        for first in range(0, self.step.elements, self.chunk):
            last = min(first + self.chunk, self.step.elements)
            if self._held != first:
                self._read(first, last)
            yield first, last

    def in_chunk(self, first: int, last: int) -> Iterator[Block]:
        """Give the blocks of the chunk that was read last."""
        for start in range(first, last, self.step.block):
            rows = self._block(first, start, min(start + self.step.block, last))
            yield Block(rows, start, self.dtype, self.step.base is not None, self.kernels)

    def __iter__(self) -> Iterator[Block]:
        for first, last in self.chunks():
            yield from self.in_chunk(first, last)

    def raw(self, first: int, last: int) -> Iterator[np.ndarray]:
        """Give the bytes of the chunk that was read last, block by block: [inputs, bytes]."""
        for start in range(first, last, self.step.block):
            yield self._block(first, start, min(start + self.step.block, last)).view(np.uint8)

    def _block(self, first: int, start: int, end: int) -> np.ndarray:
        """Return the rows [inputs, n] of a block, which lie together."""
        inputs = len(self._kinds)
        return self._rows[inputs * (start - first) : inputs * (end - first)].reshape(inputs, -1)

    def _read(self, first: int, last: int) -> None:
        for start in range(first, last, self.step.block):
            rows = self._block(first, start, min(start + self.step.block, last))
            for given, kind, row in zip(self.step.all_inputs, self._kinds, rows, strict=True):
                self._read_row(given, kind, start, row)
        self._held = first
        self._checked = max(self._checked, last)
        for given, kind in zip(self.step.all_inputs, self._kinds, strict=True):
            self.count_bytes((last - first) * kind.itemsize)
            if last < self.step.elements:
                ahead = min(self.chunk, self.step.elements - last)
                self.sources[given.model].will_read(given.tensor, last * kind.itemsize, ahead * kind.itemsize)

    def _read_row(self, given: Input, kind: np.dtype, start: int, row: np.ndarray) -> None:
        source = self.sources[given.model]
        raw = row if kind == row.dtype else np.empty(row.size, kind)
        source.read_into(given.tensor, start * kind.itemsize, raw.view(np.uint8))
        if self.step.action == "merge" and start >= self._checked and not self.allow_nonfinite:
            self._check(given, start, raw)
        if raw is not row:
            with np.errstate(over="ignore"):
                row[:] = raw

    def _check(self, given: Input, start: int, raw: np.ndarray) -> None:
        if self.kernels.finite(raw):
            return
        place = int(np.flatnonzero(~np.isfinite(raw))[0])
        message = f"'{given.tensor}' holds {raw[place]} at element {start + place}"
        hint = "repair the model, or pass --allow-nonfinite to let it through"
        raise CheckpointError(message, where=_whose(self.sources[given.model], given), hint=hint)


def _common(kinds: Sequence[np.dtype], dtype: np.dtype) -> np.dtype:
    """Return the type that the rows of a block have: the inputs' own where computing in `dtype` loses nothing."""
    if len(set(kinds)) == 1 and (dtype.itemsize > 2 or kinds[0] == dtype):
        return kinds[0]
    return dtype


def _whose(source: TensorSource, given: Input) -> str:
    return str(source.tensors[given.tensor].file)
