"""A checkpoint whose embedding and head have the rows of another vocabulary, made as they are read."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
from blake3 import blake3

from cuvee.checkpoint import StoredFile, TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import NUMPY, promoted

FILLED = -1
MEAN = -2
OWN_MEAN = -3
"""In place of a row's number: it is filled from rows of models; it is the mean of all rows of tokens, filled ones among
them; or it is the mean of those that are the model's own."""

CHUNK_BYTES = 1 << 20
"""About how much is made at once."""

Fill = tuple[tuple[int, int], ...]
"""Rows, each by model and number, whose mean makes a row; none of them makes zeros."""


@dataclass(frozen=True, eq=False)
class RowMap:
    """For each row of the output the model's own row or a word above. The first `tokens` rows are of tokens."""

    own: np.ndarray
    fills: Mapping[int, Fill]
    tokens: int

    @cached_property
    def digest(self) -> str:
        """Identifies the map, for the plan's digest."""
        text = repr((sorted(self.fills.items()), self.tokens))
        return blake3(np.ascontiguousarray(self.own, np.int64).tobytes() + text.encode()).hexdigest()

    @property
    def is_identity(self) -> bool:
        return bool((self.own == np.arange(len(self.own))).all())


class AlignedCheckpoint:
    """A model in a family of aligned models. `names` are its tensors that have rows of tokens.

    Rows that are filled are read from the other models. A tensor is presented in a type that holds all of its rows.
    """

    def __init__(self, sources: Sequence[TensorSource], which: int, rows: RowMap, names: frozenset[str]) -> None:
        self.source = sources[which]
        self.sources = sources
        self.rows = rows
        self.names = names
        self.which = which
        self.config = self.source.config
        self.place = self.source.place
        fills = rows.fills.values()
        self._used = sorted({model for model, _ in chain.from_iterable(fills)})
        has_means = bool((rows.own <= MEAN).any())
        self._averages = has_means or any(len(fill) > 1 for fill in fills)
        self.stored: Mapping[str, str] = {name: spec.dtype for name, spec in self.source.tensors.items()}
        tensors = dict(self.source.tensors)
        for name in tensors.keys() & names:
            tensors[name] = self._presented(tensors[name])
        self.tensors: Mapping[str, TensorSpec] = tensors
        self._means: dict[tuple[str, int], np.ndarray] = {}
        self._lock = threading.Lock()

    def over(self, sources: Sequence[TensorSource]) -> "AlignedCheckpoint":
        """Return the same alignment over the same models from another place."""
        return AlignedCheckpoint(sources, self.which, self.rows, self.names)

    def files(self) -> dict[str, StoredFile]:
        return self.source.files()

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        if name not in self.names:
            self.source.will_read(name, start, nbytes)

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        if name not in self.names:
            self.source.read_into(name, start, out)
            return
        for part in out:
            self._fill(name, start, part.view(np.uint8))
            start += part.nbytes

    def _fill(self, name: str, start: int, raw: np.ndarray) -> None:
        """Fill `raw` with the aligned tensor's bytes from byte `start` on, some rows at a time."""
        spec = self.tensors[name]
        row_bytes = spec.nbytes // len(self.rows.own)
        end = start + raw.nbytes
        step = max(1, CHUNK_BYTES // row_bytes)
        for first in range(start // row_bytes, -(-end // row_bytes), step):
            last = min(first + step, -(-end // row_bytes))
            made = self._made(name, first, last, NUMPY[spec.dtype]).reshape(-1).view(np.uint8)
            left, right = max(start, first * row_bytes), min(end, last * row_bytes)
            raw[left - start : right - start] = made[left - first * row_bytes : right - first * row_bytes]

    def _presented(self, spec: TensorSpec) -> TensorSpec:
        others = [self.sources[m].tensors[spec.name].dtype for m in self._holders(spec.name)]
        dtype = promoted([spec.dtype, *others])
        if self._averages and dtype in ("F16", "BF16"):
            dtype = "F32"  # a mean is not rounded before it is merged
        axis = int(len(spec.shape) == 2 and spec.shape[0] == 1)
        shape = (*spec.shape[:axis], len(self.rows.own), *spec.shape[axis + 1 :])
        return replace(spec, dtype=dtype, shape=shape)

    def _holders(self, name: str) -> list[int]:
        return [model for model in self._used if name in self.sources[model].tensors]

    def _made(self, name: str, first: int, last: int, dtype: np.dtype) -> np.ndarray:
        """Return rows [first, last) of the output."""
        made, own = self._without_means(name, first, last, dtype), self.rows.own[first:last]
        for kind in (MEAN, OWN_MEAN):
            if (own == kind).any():
                made[own == kind] = self._mean(name, made.shape[1], kind)
        return made

    def _without_means(self, name: str, first: int, last: int, dtype: np.dtype) -> np.ndarray:
        made, own = self._own_rows(name, first, last, dtype), self.rows.own[first:last]
        for place in map(int, np.flatnonzero(own == FILLED)):
            made[place] = self._filled(name, self.rows.fills[first + place], made.shape[1])
        return made

    def _own_rows(self, name: str, first: int, last: int, dtype: np.dtype) -> np.ndarray:
        """Return rows [first, last) of the output as far as they are the model's own, else zeros."""
        own = self.rows.own[first:last]
        width = self.tensors[name].elements // len(self.rows.own)
        made = np.zeros((last - first, width), dtype)
        for at, length in _runs(own):
            made[at : at + length] = _read(self.source, name, int(own[at]), length, width)
        return made

    def _filled(self, name: str, fill: Fill, width: int) -> np.ndarray:
        holders = self._holders(name)
        rows = []
        for model, row in fill:
            if model in holders:
                rows.append(_read(self.sources[model], name, row, 1, width)[0])
        if not rows:
            return np.zeros(width, np.float32)
        if len(rows) == 1:
            return np.asarray(rows[0])
        wide = np.stack([row.astype(np.float64) for row in rows])
        return np.asarray(wide.mean(axis=0))

    def _mean(self, name: str, width: int, kind: int) -> np.ndarray:
        """Return a mean of rows of tokens that are no means themselves, summed once in their order."""
        with self._lock:
            if (name, kind) not in self._means:
                own = self.rows.own[: self.rows.tokens]
                rows = self._without_means if kind == MEAN else self._own_rows
                count = int((own >= (FILLED if kind == MEAN else 0)).sum())
                total = np.zeros(width)
                step = max(1, CHUNK_BYTES // (8 * width))
                for first in range(0, len(own), step):
                    total += rows(name, first, min(first + step, len(own)), np.dtype(np.float64)).sum(axis=0)
                self._means[name, kind] = total / max(count, 1)
            return self._means[name, kind]


def _runs(own: np.ndarray) -> list[tuple[int, int]]:
    """Return (place, length) of the runs of a model's own rows that follow each other."""
    places = np.flatnonzero(own >= 0)
    if not len(places):
        return []
    breaks = np.flatnonzero((np.diff(places) != 1) | (np.diff(own[places]) != 1)) + 1
    return [(int(run[0]), len(run)) for run in np.split(places, breaks)]


def _read(source: TensorSource, name: str, first: int, count: int, width: int) -> np.ndarray:
    dtype = NUMPY[source.tensors[name].dtype]
    raw = np.empty(count * width * dtype.itemsize, np.uint8)
    source.read_into(name, first * width * dtype.itemsize, [raw])
    return raw.view(dtype).reshape(count, width)
