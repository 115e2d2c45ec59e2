"""An adapter's folder: its config, and the changes that it holds. Numbers are read when they are asked for."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cuvee.adapters.changes import Change, Factors, Tokens, as_matrix
from cuvee.adapters.config import CONFIG, AdapterConfig, read_config
from cuvee.adapters.mlx import WEIGHTS as MLX_WEIGHTS
from cuvee.adapters.mlx import MlxAdapter, mlx_config
from cuvee.adapters.names import INTEGERS, PREFIX, TensorNames
from cuvee.checkpoint import TensorSource, open_checkpoint
from cuvee.checkpoint.dtypes import MERGEABLE, NUMPY
from cuvee.errors import CheckpointError, first_of_several

WEIGHTS = "adapter_model.safetensors"
OLD_WEIGHTS = "adapter_model.bin"
INDEX = f"{WEIGHTS}.index.json"
"""The index of an adapter in several files, which PEFT itself does not load."""

MOST_SHOWN = 8

PIECE = 1 << 20
"""Numbers of an adapter that are read at once where not all of them are needed."""


class Adapter:
    """An adapter. `full` are tensors that replace the base's, by the base's name for them.

    `factors` are LoRA's by their modules, and `changes` those of another kind.
    """

    def __init__(self, name: str, config: AdapterConfig, source: TensorSource, folder: Path | None = None) -> None:
        self.name = name
        self.config = config
        self.source = source
        self.folder = folder
        reader = TensorNames(name, config, source)
        self.factors: Mapping[str, Factors] = reader.factors()
        self.changes: Mapping[str, Change] = reader.changes()
        self.full: Mapping[str, str] = reader.full
        self.tokens: Mapping[str, Tokens] = reader.tokens
        if reader.problems:
            raise first_of_several(reader.problems, MOST_SHOWN, name)

    def shape(self, factors: Factors) -> tuple[int, int]:
        """Return the shape of the change as it is stored in a base: [out, in], of an embedding [tokens, width]."""
        first, second = (as_matrix(self.source.tensors[name].shape) for name in (factors.first, factors.second))
        if factors.kind == "embedding":
            return first[1], second[0]
        return second[0], factors.form.shape("A", (first[0], first[1]))[1]

    def pair(self, factors: Factors) -> tuple[np.ndarray, np.ndarray]:
        """Read left [rows, rank] and right [rank, columns], whose product is the change: the scale is in the left."""
        first, second = self.read_matrix(factors.first), self.read_matrix(factors.second)
        if factors.kind == "embedding":
            left, right = first.T, second.T
        else:
            left, right = factors.form.plain("B", second), factors.form.plain("A", first)
        if factors.diagonal is not None:
            left = left * self.read(factors.diagonal)
        return np.ascontiguousarray(left * np.float32(factors.scale)), np.ascontiguousarray(right)

    def expert_pair(self, factors: Factors, expert: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the pair of one expert, without the numbers of the others in memory."""
        rank, (rows, _) = factors.rank, self.source.tensors[factors.second].shape
        right = self.read_rows(factors.first, expert * rank, (expert + 1) * rank)
        left = np.empty((rows, rank), np.float32)
        step = max(1, PIECE // (rank * factors.experts))
        for low in range(0, rows, step):
            piece = self.read_rows(factors.second, low, min(low + step, rows))
            left[low : low + len(piece)] = piece.reshape(len(piece), rank, -1)[:, :, expert]
        return left * np.float32(factors.scale), right

    def expert_pairs(self, factors: Factors) -> list[tuple[np.ndarray, np.ndarray]]:
        """Read the pairs of the experts that lie in one pair of factors: A by expert and rank, B by rank and expert."""
        count, (left, right) = factors.experts, self.pair(factors)
        firsts = right.reshape(count, factors.rank, -1)
        seconds = left.reshape(len(left), factors.rank, count)
        return [(np.ascontiguousarray(seconds[:, :, e]), firsts[e]) for e in range(count)]

    def for_parameter(self, factors: Factors, parameter: str) -> Factors | None:
        """Return the factors as those of one parameter, whose name decides rank and scale; None if they do not fit."""
        rank = self.config.rank_of(parameter)
        held = self.source.tensors[factors.first].shape[0]
        if held % rank:
            return None
        return replace(factors, rank=rank, experts=held // rank, scale=self.config.scale_of(parameter))

    def parts(self, change: Change) -> dict[str, np.ndarray]:
        """Read the parts of a change in float64, places as whole numbers."""
        return {part: self._part(stored) for part, stored in change.parts}

    def _part(self, stored: str) -> np.ndarray:
        spec = self.source.tensors[stored]
        if spec.dtype in MERGEABLE:
            return self.read(stored).astype(np.float64)
        raw = np.empty(spec.nbytes, np.uint8)
        self.source.read_into(stored, 0, [raw])
        return np.asarray(raw.view(INTEGERS[spec.dtype]).reshape(spec.shape))

    def change_shapes(self, change: Change) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a module's own parts, by their names."""
        kind = self.config.kind
        shapes = {part: self.source.tensors[stored].shape for part, stored in change.parts}
        if kind is None:
            return shapes
        return {part: shape for part, shape in shapes.items() if not kind.is_shared(part)}

    def is_set(self, factors: Factors) -> bool:
        """Say whether a module's factors change anything: no B, with its bias and DoRA's lengths, may be zero then."""
        if factors.magnitude is not None or factors.start is not None:
            return True
        stored = [name for name in (factors.second, factors.bias) if name is not None]
        return factors.scale != 0 and any(map(self._has_numbers, stored))

    def _has_numbers(self, name: str) -> bool:
        shape = self.source.tensors[name].shape
        step = max(1, PIECE // max(int(np.prod(shape[1:])), 1))
        lows = range(0, shape[0], step)
        return any(self.read_rows(name, low, min(low + step, shape[0])).any() for low in lows)

    def read(self, name: str) -> np.ndarray:
        """Read a stored tensor as float32."""
        shape = self.source.tensors[name].shape
        if not shape:
            return self.read_rows(name, 0, 1).reshape(())
        return self.read_rows(name, 0, shape[0]).reshape(shape)

    def read_matrix(self, name: str) -> np.ndarray:
        """Read a stored factor as float32, with all axes after the first as one."""
        return self.read_rows(name, 0, self.source.tensors[name].shape[0])

    def read_rows(self, name: str, low: int, high: int) -> np.ndarray:
        """Read rows [low, high) of a stored tensor as float32 [rows, numbers of each]."""
        spec = self.source.tensors[name]
        rows = spec.shape[0] if spec.shape else 1
        size = spec.nbytes // rows
        raw = np.empty((high - low) * size, np.uint8)
        self.source.read_into(name, low * size, [raw])
        numbers = raw.view(NUMPY[spec.dtype]).reshape(high - low, -1).astype(np.float32)
        if not np.isfinite(numbers).all():
            raise CheckpointError(f"'{name}' holds numbers that are not finite", where=self.name)
        return numbers


def open_adapter(folder: Path, name: str | None = None) -> Adapter:
    """Open an adapter's folder by its config and headers. Raises CheckpointError that names what cannot be followed."""
    name = name or str(folder)
    if not folder.is_dir():
        raise CheckpointError("expected the folder of an adapter", where=name)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"expected {CONFIG}, found none: is this an adapter?", where=name, hint=_inner(folder))
    if is_of_mlx([file.name for file in folder.iterdir()]):
        stored = open_checkpoint(folder / MLX_WEIGHTS)
        return Adapter(name, mlx_config(folder / CONFIG), MlxAdapter(stored, name, PREFIX), folder)
    return Adapter(name, read_config(folder / CONFIG), _open_weights(folder), folder)


def _inner(folder: Path) -> str | None:
    """Say which adapters are in a folder that is none itself, as PEFT saves several of one model."""
    names = sorted(inner.parent.name for inner in folder.glob(f"*/{CONFIG}"))
    return f"name one of the adapters in it: {', '.join(names[:MOST_SHOWN])}" if names else None


def is_of_mlx(files: Collection[str]) -> bool:
    """Say whether a folder with these files holds an adapter as mlx-lm writes it."""
    return MLX_WEIGHTS in files and not {WEIGHTS, OLD_WEIGHTS, INDEX} & set(files)


def _open_weights(folder: Path) -> TensorSource:
    if (folder / WEIGHTS).is_file():
        return open_checkpoint(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return open_checkpoint(folder)
    if (folder / OLD_WEIGHTS).is_file():
        from cuvee.foreign import open_files

        return open_files(folder / OLD_WEIGHTS)
    raise CheckpointError(f"expected {WEIGHTS}, found none", where=str(folder))
