"""A base model and an adapter as one checkpoint: the change is added in float32, piece by piece, when it is read.

No model object, no copy on disk. Sums run over the rank in order: no number depends on how much is read at once.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.adapters.adapter import Adapter
from cuvee.adapters.changes import as_matrix
from cuvee.adapters.edits import Edit, Placed
from cuvee.adapters.places import place
from cuvee.adapters.replicated import replicated
from cuvee.adapters.starts import STARTS
from cuvee.checkpoint import StoredFile, TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.errors import CheckpointError
from cuvee.ops.blas import one_thread_a_matrix

PIECE = 1 << 17
"""Elements that are read at once."""

VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""Files that a folder of a tokenizer has one of."""

COPIES = 5
"""Matrices of float64 that a change of another kind than LoRA takes at most: the old, the new, and what is between."""

PART_COPIES = 2
"""Copies in float64 of what an adapter of another kind than LoRA stores for a module: as read, and as computed with."""

FACTOR_COPIES = 4
"""Copies of LoRA's factors in float32 that there are at most while they are read: as stored, scaled, one by one."""

STARTS_KEPT = 4
"""Matrices of which the parts that a training took out are kept, while threads read of them."""

BLOCK = 1 << 14
"""Elements to which products are added at once: they stay in a cache."""

Pair = tuple[np.ndarray, np.ndarray]


class Adapted:
    """Reads as a plain checkpoint does. Changed tensors are presented as float32 (float64 over a base of that type).

    `meant` are the types that the base stores them in, to be written again.
    """

    def __init__(self, base: TensorSource, adapter: Adapter) -> None:
        if adapter.config.layer_spans:
            base = replicated(base, adapter.config.layer_spans, adapter.name)
        self.base = base
        self.adapter = adapter
        self.placed: Placed = place(base, adapter)
        self.config: dict[str, Any] = {**base.config, **self.placed.config_changes}
        self.place: Path | None = base.place
        self.notes: tuple[str, ...] = (*getattr(base, "notes", ()), *self.placed.notes)
        self.warnings: tuple[str, ...] = self.placed.warnings
        base_dtypes: Mapping[str, str] = getattr(base, "meant", {})
        copies = {name: base.tensors[origin] for name, origin in self.placed.copies.items()}
        specs = {**base.tensors, **copies}
        specs |= {name: replace(specs[name], shape=shape) for name, shape in self.placed.resized.items()}
        self.tokenizer_place: Path | None = tokenizer_folder(adapter.folder)
        self.meant: Mapping[str, str] = dict(base_dtypes) | {
            name: base_dtypes.get(self.placed.origin(name), specs[name].dtype) for name in self.placed.edits
        }
        self.tensors: Mapping[str, TensorSpec] = {name: self._presented(name, spec) for name, spec in specs.items()}
        self._own = threading.local()
        self._norms: dict[str, np.ndarray] = {}
        self._starts: dict[str, Pair] = {}
        self._lock = threading.RLock()

    def _presented(self, name: str, spec: TensorSpec) -> TensorSpec:
        """Return the spec under which a tensor is presented: a changed tensor in the type of its new numbers."""
        dtype = _presented(spec.dtype) if name in self.placed.edits else spec.dtype
        return replace(spec, name=name, dtype=dtype)

    def held_bytes(self, name: str) -> int:
        """Return the bytes that a read of a tensor keeps in memory beside the tensor itself."""
        edit = self.placed.edits.get(name)
        if edit is None:
            return 0
        if edit.change is not None:
            matrix = self.tensors[edit.weight or name].elements
            stored = self.adapter.source.tensors
            parts = sum(stored[part].elements for _, part in edit.change.parts)
            return matrix * 8 * COPIES + parts * 8 * PART_COPIES
        if edit.expert is None:
            rank = sum(factors.rank * factors.experts for factors in edit.factors)
        else:
            rank = sum(factors.rank for factors in edit.factors)
        shape = self._shape(edit)
        row = shape[-1] if shape else 1
        column = shape[-2] if len(shape) > 1 else 1
        if any(factors.start is not None for factors in edit.factors):
            return self.tensors[name].elements * 8 * COPIES + 2 * rank * (column + row) * 4 * FACTOR_COPIES
        return rank * (column + row) * 4 * FACTOR_COPIES + max(PIECE, row) * 24

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        edit = self.placed.edits.get(name)
        if edit is None:
            self.base.read_into(self.placed.origin(name), start, out)
            return
        size = NUMPY[self.tensors[name].dtype].itemsize
        for part in out:
            numbers = part.view(np.uint8).view(NUMPY[self.tensors[name].dtype])
            for at in range(0, numbers.size, PIECE):
                last = min(at + PIECE, numbers.size)
                numbers[at:last] = self._numbers(edit, start // size + at, start // size + last)
            start += part.nbytes

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        if name not in self.placed.edits:
            self.base.will_read(self.placed.origin(name), start, nbytes)

    def files(self) -> dict[str, StoredFile]:
        config = StoredFile(0, self.placed.digest, sample=lambda: self.placed.digest)
        own = {**self.adapter.source.files(), "adapter_config": config}
        return self.base.files() | {f"+{name}": file for name, file in own.items()}

    def _numbers(self, edit: Edit, first: int, last: int) -> np.ndarray:
        """Return the elements [first, last) of a changed tensor."""
        shape = self._shape(edit)
        width = shape[-1] if shape else 1
        low, high = first // width, -(-last // width)
        if edit.change is not None:
            return self._changed(edit)[first:last]
        rows = self._changed_rows(edit, low, high)
        if edit.magnitude is not None:
            rows = self._scaled(edit, rows, low, high)
        flat: np.ndarray = rows.reshape(-1)[first - low * width : last - low * width]
        return flat

    def _shape(self, edit: Edit) -> tuple[int, ...]:
        """Return the shape in which a tensor is changed: that of a convolution has one axis beside its outputs."""
        shape = self.tensors[edit.name].shape
        is_convolution = any(factors.kernel for factors in edit.factors)
        return as_matrix(shape) if is_convolution else shape

    def _changed(self, edit: Edit) -> np.ndarray:
        """Return all elements of a tensor that another kind than LoRA changes. A thread keeps those of one."""
        name, numbers = getattr(self._own, "changed", ("", np.zeros(0)))
        if name == edit.name:
            kept: np.ndarray = numbers
            return kept
        self._own.changed = ("", np.zeros(0))
        changed = self._compute(edit)
        self._own.changed = (edit.name, changed)
        return changed

    def _compute(self, edit: Edit) -> np.ndarray:
        """Compute in float64, on one thread of the linear algebra library: the bytes are the same on any number."""
        kind, change = self.adapter.config.kind, edit.change
        assert kind is not None, "only called for another kind than LoRA"
        assert change is not None, "only called for another kind than LoRA"
        parts, settings = self.adapter.parts(change), dict(change.settings)
        matrix = self._matrix(edit.weight or edit.name, edit)
        dtype = NUMPY[self.tensors[edit.name].dtype]
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"), one_thread_a_matrix():
                if edit.weight is not None and kind.bias is not None:
                    bias = self._stored_or_base(edit, self.tensors[edit.name].elements)
                    result = kind.bias(bias, matrix, parts, settings)
                elif kind.change is not None:
                    result = kind.change(matrix, parts, settings)
                    result = result.T if edit.turned else result
                else:
                    raise ValueError("nothing to change")
        except (ValueError, IndexError, np.linalg.LinAlgError) as error:
            message = f"what it holds for '{change.module}' does not fit the base: {error}"
            raise CheckpointError(message, where=self.adapter.name) from error
        if result.shape != self.tensors[edit.name].shape:
            message = (
                f"'{edit.name}' would have shape {list(result.shape)} and not {list(self.tensors[edit.name].shape)}"
            )
            raise CheckpointError(message, where=self.adapter.name)
        return np.ascontiguousarray(result.astype(dtype)).reshape(-1)

    def _matrix(self, name: str, edit: Edit) -> np.ndarray:
        """Read the matrix of a module as [out, in] in float64, as it is before the change."""
        spec = self.tensors[name]
        own = edit if edit.weight is None else Edit(name, full=self.adapter.full.get(name))
        matrix = self._rows_of(own, 0, spec.shape[0], spec.shape[1]).astype(np.float64)
        return matrix.T if edit.turned else matrix

    def _stored_or_base(self, edit: Edit, size: int) -> np.ndarray:
        return self._rows_of(edit, 0, 1, size).astype(np.float64).reshape(-1)

    def _changed_rows(self, edit: Edit, low: int, high: int) -> np.ndarray:
        """Return rows [low, high) of W + s B A, where W is the base's or what the adapter has in its place."""
        shape = self._shape(edit)
        width = shape[-1] if shape else 1
        rows = self._rows_of(edit, low, high, width).astype(NUMPY[self.tensors[edit.name].dtype])
        for position, row in edit.rows_within(low, high):
            rows[position - low] = self._stored(edit.tokens, row, row + 1, width)[0]
        for bias in edit.biases:
            vector = self.adapter.read(bias.stored) * np.float32(bias.scale)
            rows += vector.reshape(-1, width)[low:high]
        if edit.factors:
            self._add(edit, rows, low)
        return rows

    def _rows_of(self, edit: Edit, low: int, high: int, width: int) -> np.ndarray:
        if edit.full is not None:
            first = self._first_row(edit)
            return self._stored(edit.full, first + low, first + high, width)
        return read_rows(self.base, self.placed.origin(edit.name), low, high, width)

    def _first_row(self, edit: Edit) -> int:
        """Return where a tensor begins in what the adapter has in its place: an expert's within a whole stack."""
        if edit.expert is None or edit.full is None:
            return 0
        return edit.expert * self.adapter.source.tensors[edit.full].shape[1] + edit.first_row

    def _stored(self, name: str | None, low: int, high: int, width: int) -> np.ndarray:
        assert name is not None, "only called for what the adapter stores"
        return read_rows(self.adapter.source, name, low, high, width)

    def _add(self, edit: Edit, rows: np.ndarray, low: int) -> None:
        """Add the low-rank change to rows from `low` on. A stack of experts is one matrix after another."""
        height = self._shape(edit)[-2]
        pairs = self._pairs_of(edit)
        at = 0
        while at < len(rows):
            expert, within = divmod(low + at, height)
            end = min(len(rows), at + height - within)
            left, right = pairs[expert]
            add_product(rows[at:end], left[within : within + end - at], right)
            at = end

    def _pairs_of(self, edit: Edit) -> list[Pair]:
        """Return left and right factors for each matrix of a tensor, as it is stored. A thread keeps those of one."""
        name, pairs = getattr(self._own, "pairs", ("", []))
        if name == edit.name:
            kept: list[Pair] = pairs
            return kept
        self._own.pairs = ("", [])
        if edit.expert is not None:
            read = [self.adapter.expert_pair(edit.factors[0], edit.expert)]
        else:
            read = self.adapter.expert_pairs(edit.factors[0])
        if edit.factors[0].start is not None:
            read = [self._without_start(edit, read[0])]
        if edit.turned:
            read = [(np.ascontiguousarray(right.T), np.ascontiguousarray(left.T)) for left, right in read]
        if edit.expert is not None:
            (left, right), height = read[0], self.tensors[edit.name].shape[0]
            read = [(left[edit.first_row : edit.first_row + height], right)]
        self._own.pairs = (edit.name, read)
        return read

    def _without_start(self, edit: Edit, pair: Pair) -> Pair:
        """Put beside a change [out, in] what the training took out of the matrix. Some are kept, for other threads."""
        factors = edit.factors[0]
        assert factors.start is not None, "only called with a start"
        with self._lock:
            if edit.name not in self._starts:
                matrix = self._matrix(edit.name, replace(edit, factors=(), biases=()))
                try:
                    with one_thread_a_matrix():
                        lost = STARTS[factors.start](matrix, factors.rank, factors.scale)
                except (ValueError, np.linalg.LinAlgError) as error:
                    message = f"the start '{factors.start}' of '{factors.module}' does not fit the base: {error}"
                    raise CheckpointError(message, where=self.adapter.name) from error
                while len(self._starts) >= STARTS_KEPT:
                    del self._starts[next(iter(self._starts))]
                self._starts[edit.name] = lost[0].astype(np.float32), lost[1].astype(np.float32)
            left, right = self._starts[edit.name]
        return np.concatenate([pair[0], -left], axis=1), np.concatenate([pair[1], right])

    def _scaled(self, edit: Edit, rows: np.ndarray, low: int, high: int) -> np.ndarray:
        """Give rows the lengths that DoRA learnt: each output's weights have the length of its magnitude."""
        assert edit.magnitude is not None, "only called with DoRA"
        magnitude = self.adapter.read(edit.magnitude).reshape(-1)
        if not edit.by_column:
            norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
            factors = magnitude[low:high] / norms
            return np.asarray(rows * factors.astype(rows.dtype)[:, None])
        factors = magnitude / self._column_norms(edit)
        return np.asarray(rows * factors.astype(rows.dtype))

    def _column_norms(self, edit: Edit) -> np.ndarray:
        """Return the lengths of the columns of W + s B A, summed over the rows in order, once."""
        with self._lock:
            if edit.name not in self._norms:
                height, width = self.tensors[edit.name].shape
                total = np.zeros(width)
                step = max(1, PIECE // width)
                for low in range(0, height, step):
                    rows = self._changed_rows(edit, low, min(low + step, height))
                    for row in np.square(rows, dtype=np.float64):
                        total += row
                self._norms[edit.name] = np.sqrt(total)
            return self._norms[edit.name]


def add_product(rows: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Add left @ right to rows, term by term over the rank in order.

    Not `@`: a BLAS adds in an order that depends on how many rows it is given, and on the machine.
    """
    step = max(1, BLOCK // max(rows.shape[1], 1))
    for at in range(0, len(rows), step):
        block, factors = rows[at : at + step], left[at : at + step]
        change, term = np.zeros_like(block), np.empty_like(block)
        for k in range(right.shape[0]):
            np.multiply(factors[:, k, None], right[k], out=term)
            change += term
        block += change


def tokenizer_folder(folder: Path | None) -> Path | None:
    """Return an adapter's folder if it holds the tokenizer that the adapter was trained with."""
    if folder is None:
        return None
    holds_tokenizer = any((folder / name).is_file() for name in VOCABULARIES)
    return folder if holds_tokenizer else None


def read_rows(source: TensorSource, name: str, low: int, high: int, width: int) -> np.ndarray:
    """Read rows [low, high) of a tensor as rows of `width` numbers, in the type that it is stored in."""
    dtype = NUMPY[source.tensors[name].dtype]
    raw = np.empty((high - low) * width * dtype.itemsize, np.uint8)
    source.read_into(name, low * width * dtype.itemsize, [raw])
    return raw.view(dtype).reshape(-1, width)


def _presented(dtype: str) -> str:
    return "F64" if dtype == "F64" else "F32"
