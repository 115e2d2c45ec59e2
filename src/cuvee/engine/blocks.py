"""The inputs of a step as a stream of blocks: read in chunks, widened, checked, the base subtracted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import NAMES, NUMPY
from cuvee.errors import CheckpointError
from cuvee.kernels import Kernels
from cuvee.plan.plan import Input, MergeStep

CountBytes = Callable[[int], None]


@dataclass(frozen=True)
class Block:
    """Elements `start` and following: the models' tensors (or task vectors) [models, n], and the base's [n]."""

    start: int
    stack: np.ndarray
    base: np.ndarray | None


class Blocks:
    """Streams one step's inputs, as often as asked. Reuses its buffers: a block is valid until the next one.

    A step that fits in one chunk is read once.
    """

    def __init__(
        self,
        step: MergeStep,
        sources: Sequence[TensorSource],
        kernels: Kernels,
        *,
        chunk: int,
        wide: np.dtype,
        compute_dtype: str | None,
        allow_nonfinite: bool,
        count_bytes: CountBytes,
    ) -> None:
        self.step = step
        self.sources = sources
        self.kernels = kernels
        self.chunk = min(step.chunk(chunk), max(step.elements, 1))
        self.allow_nonfinite = allow_nonfinite
        self.count_bytes = count_bytes
        self.wide = wide
        self.loaded = NUMPY[NAMES[compute_dtype]] if compute_dtype else None
        kinds = {i.dtype for i in step.all_inputs}
        self._rows = np.empty((len(step.all_inputs), self.chunk), NUMPY[kinds.pop()]) if len(kinds) == 1 else None
        self._raw = self._buffers()
        self._stack = np.empty((len(step.inputs), step.block), self.wide)
        self._base = np.empty(step.block, self.wide)
        self._held = -1

    def _buffers(self) -> list[np.ndarray]:
        """Return bytes for a chunk of each input: rows of one array where they are all of one type."""
        if self._rows is not None:
            return [row.view(np.uint8) for row in self._rows]
        return [np.empty(self.chunk * NUMPY[i.dtype].itemsize, np.uint8) for i in self.step.all_inputs]

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Give (first element, one past the last) of each chunk, with its bytes read."""
        for first in range(0, self.step.elements, self.chunk):
            last = min(first + self.chunk, self.step.elements)
            if self._held != first:
                self._read(first, last)
            yield first, last

    def raw(self, which: int, first: int, last: int) -> np.ndarray:
        """Return the bytes of an input's elements in the chunk that was read last, which begins at `first`."""
        return self._raw[which][: (last - first) * NUMPY[self.step.all_inputs[which].dtype].itemsize]

    def in_chunk(self, first: int, last: int) -> Iterator[Block]:
        """Give the blocks of the chunk that was read last."""
        for start in range(first, last, self.step.block):
            yield self._block(first, start, min(start + self.step.block, last))

    def __iter__(self) -> Iterator[Block]:
        for first, last in self.chunks():
            yield from self.in_chunk(first, last)

    def _read(self, first: int, last: int) -> None:
        for which, given in enumerate(self.step.all_inputs):
            size = NUMPY[given.dtype].itemsize
            source = self.sources[given.model]
            source.read_into(given.tensor, first * size, self.raw(which, first, last))
            if last < self.step.elements:
                source.will_read(given.tensor, last * size, self.chunk * size)
            self.count_bytes((last - first) * size)
        self._held = first

    def _block(self, first: int, start: int, end: int) -> Block:
        n = end - start
        # a whole array even when short: kernels want rows that lie one behind the other
        stack = self._stack if n == self.step.block else np.empty((len(self.step.inputs), n), self.wide)
        base = self._base[:n] if self.step.base is not None else None
        if self.loaded is None and self._rows is not None:
            nothing = self._base[:0]
            finite = self.kernels.widen_rows(self._rows, start - first, stack, nothing if base is None else base)
            if finite or self.allow_nonfinite:
                return Block(start, stack, base)
        for which, given in enumerate(self.step.inputs):
            self._widen(which, given, first, start, end, stack[which])
        if self.step.base is not None and base is not None:
            self._widen(len(self.step.inputs), self.step.base, first, start, end, base)
        if self.loaded is not None:
            return self._as_loaded(start, stack, base)
        if base is not None:
            np.subtract(stack, base, out=stack)
        return Block(start, stack, base)

    def _as_loaded(self, start: int, stack: np.ndarray, base: np.ndarray | None) -> Block:
        """Round to the loaded type before and after subtracting, as mergekit does; the numbers stay wide."""
        stack = self._rounded(stack)
        if base is None:
            return Block(start, stack, None)
        base = self._rounded(base)
        return Block(start, self._rounded(stack - base), base)

    def _rounded(self, numbers: np.ndarray) -> np.ndarray:
        assert self.loaded is not None, "only called when a type to round to is set"
        return numbers.astype(self.loaded).astype(self.wide)

    def _widen(self, which: int, given: Input, first: int, start: int, end: int, out: np.ndarray) -> None:
        dtype = NUMPY[given.dtype]
        raw = self._raw[which].view(dtype)[start - first : end - first]
        if not self.kernels.widen(raw, out) and not self.allow_nonfinite:
            place = start + int(np.flatnonzero(~np.isfinite(out))[0])
            message = f"'{given.tensor}' holds {out[place - start]} at element {place}"
            hint = "repair the model, or pass --allow-nonfinite to let it through"
            raise CheckpointError(message, where=_whose(self.sources[given.model], given), hint=hint)


def _whose(source: TensorSource, given: Input) -> str:
    return str(source.tensors[given.tensor].file)
