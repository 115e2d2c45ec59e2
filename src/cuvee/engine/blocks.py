"""The inputs of a step as a stream of blocks, read in chunks and checked."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.errors import CheckpointError
from cuvee.kernels import Block, Kernels
from cuvee.plan.plan import Input, MergeStep

CountBytes = Callable[[int], None]

_AHEAD = 1 << 24
"""Bytes of an input that are announced at once."""

_LINE = 64
"""Bytes of a line of the processor's cache: vectors that lie across two lines are slow."""


class Scratch:
    """Memory for the rows of one thread's blocks, used again step after step: fresh memory is slow at first touch."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    @property
    def nbytes(self) -> int:
        return int(self._bytes.size)

    def give_back(self) -> None:
        """Give the memory back to the system."""
        self._bytes = np.empty(0, np.uint8)

    def take(self, count: int, dtype: np.dtype) -> np.ndarray:
        """Return room for so many numbers, which the next call takes back."""
        if self._bytes.size < count * dtype.itemsize + _LINE:
            self._bytes = np.empty(0, np.uint8)  # give back what is too small before asking for more
            self._bytes = np.empty(count * dtype.itemsize + _LINE, np.uint8)
        begin = -self._bytes.ctypes.data % _LINE
        return self._bytes[begin : begin + count * dtype.itemsize].view(dtype)


class Blocks:
    """Streams a step's inputs, as often as asked, in chunks of whole blocks.

    Numbers stay as they are in the files where all inputs are of one type. Where they are not, they are converted to
    `dtype`, the type computed in, which holds them all, or to which models are to be rounded when they are loaded. A
    step to be `kept`, or of one chunk, is read once; else a block is valid until the next chunk. Steps of several
    merges may have `shared` blocks, which then remember the answers of surveys. `spare` are the bytes
    that the step leaves of its worker's share. With `trusting`, the blocks skip the check for non-finite inputs: a
    caller that sees a non-finite result must call `check_all`.
    """

    def __init__(
        self,
        step: MergeStep,
        sources: Sequence[TensorSource],
        kernels: Kernels,
        *,
        chunk: int,
        kept: bool,
        spare: int,
        scratch: Scratch,
        dtype: np.dtype,
        trusting: bool,
        count_bytes: CountBytes,
        shared: bool = False,
    ) -> None:
        self.step = step
        self.sources = sources
        self.kernels = kernels
        self.chunk = min(step.chunk(chunk), max(step.elements, 1))
        self.dtype = dtype
        self.trusting = trusting
        self.block = step.block
        self.count_bytes = count_bytes
        self._kept = kept or self.chunk >= step.elements
        self._kinds = [NUMPY[given.dtype] for given in step.all_inputs]
        self._kind = _common(self._kinds, dtype) if step.action != "copy" else self._kinds[0]
        self._rows = scratch.take(len(self._kinds) * (step.elements if self._kept else self.chunk), self._kind)
        self.room = max(0, spare + self._rows.nbytes - scratch.nbytes)
        """Bytes of the worker's share that nobody takes."""
        self.bytes_read = 0
        self._read_up_to = 0
        self._checked_up_to = 0
        self._answers: dict[Hashable, Any] | None = {} if shared else None

    @property
    def is_shared(self) -> bool:
        """Say whether several steps share these blocks."""
        return self._answers is not None

    def known(self, question: Hashable, find: Callable[[], Any]) -> Any:
        """Return the result of `find`, or its earlier result for the same question, where several steps share these."""
        if question is None or self._answers is None:
            return find()
        if question not in self._answers:
            self._answers[question] = find()
        return self._answers[question]

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Give (first element, end) of each chunk, with its numbers read."""
        if not self._kept:
            self._read_up_to = 0
        for first in range(0, self.step.elements, self.chunk):
            last = min(first + self.chunk, self.step.elements)
            if self._read_up_to <= first:
                self._read(first, last)
            yield first, last

    def in_chunk(self, first: int, last: int) -> Iterator[Block]:
        """Give the blocks of the chunk that `chunks` gave last."""
        for start, rows in self._blocks(first, last):
            yield Block(rows, start, self.dtype, self.step.base is not None, self.kernels)

    def __iter__(self) -> Iterator[Block]:
        for first, last in self.chunks():
            yield from self.in_chunk(first, last)

    def raw(self, first: int, last: int) -> Iterator[np.ndarray]:
        """Give the bytes of the chunk that `chunks` gave last, block by block: [inputs, bytes]."""
        for _, rows in self._blocks(first, last):
            yield rows.view(np.uint8)

    def check_all(self) -> None:
        """Raise CheckpointError for the first number that is not finite, if any."""
        for first, last in self.chunks():
            self._check(first, last)

    def _check(self, first: int, last: int) -> None:
        """Check the chunk that was read last, in one piece at first: its blocks lie next to each other."""
        begin = len(self._kinds) * (first if self._kept else 0)
        if self.kernels.finite(self._rows[begin : begin + len(self._kinds) * (last - first)]):
            return
        for start, rows in self._blocks(first, last):
            if self.kernels.finite(rows.reshape(-1)):
                continue
            which = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            place = int(np.flatnonzero(~np.isfinite(rows[which]))[0])
            given = self.step.all_inputs[which]
            message = f"'{given.tensor}' holds {rows[which][place]} at element {start + place}"
            hint = "repair the model, or pass --allow-nonfinite to let it through"
            raise CheckpointError(message, where=_whose(self.sources[given.model], given), hint=hint)

    def _blocks(self, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """Give where each block of a chunk starts, and its rows [inputs, n], which lie together."""
        inputs, origin = len(self._kinds), 0 if self._kept else first
        for start in range(first, last, self.block):
            end = min(start + self.block, last)
            yield start, self._rows[inputs * (start - origin) : inputs * (end - origin)].reshape(inputs, -1)

    def _read(self, first: int, last: int) -> None:
        blocks = [rows for _, rows in self._blocks(first, last)]
        for i, (given, kind) in enumerate(zip(self.step.all_inputs, self._kinds, strict=True)):
            self._read_rows(given, kind, first, [rows[i] for rows in blocks])
        nbytes = (last - first) * sum(kind.itemsize for kind in self._kinds)
        self.bytes_read += nbytes
        self.count_bytes(nbytes)
        if self.step.action != "copy" and first >= self._checked_up_to and not self.trusting:
            self._check(first, last)
        self._read_up_to = last
        self._checked_up_to = max(self._checked_up_to, last)

    def _read_rows(self, given: Input, kind: np.dtype, first: int, rows: list[np.ndarray]) -> None:
        source, position = self.sources[given.model], first * kind.itemsize
        nbytes = sum(row.size for row in rows) * kind.itemsize
        ahead = min(_AHEAD, self.step.elements * kind.itemsize - position - nbytes)
        begins = first == 0 or position // _AHEAD != (position - nbytes) // _AHEAD
        if first >= self._checked_up_to and ahead > 0 and begins:
            source.will_read(given.tensor, position + nbytes, ahead)
        if kind == self._kind:
            source.read_into(given.tensor, position, rows)
            return
        raw = np.empty(nbytes // kind.itemsize, kind)
        source.read_into(given.tensor, position, [raw])
        for row in rows:
            with np.errstate(over="ignore"):
                row[:] = raw[: row.size]
            raw = raw[row.size :]


def _common(kinds: Sequence[np.dtype], dtype: np.dtype) -> np.dtype:
    """Return the type that the rows of a block have: the inputs' own where computing in `dtype` loses nothing."""
    if len(set(kinds)) == 1 and (dtype.itemsize > 2 or kinds[0] == dtype):
        return kinds[0]
    return dtype


def _whose(source: TensorSource, given: Input) -> str:
    return str(source.tensors[given.tensor].file)
