"""Whole tensors as matrices: a matrix method's rule on each, and the modifiers that work on matrices."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cuvee.catalogue import modifiers
from cuvee.engine.inputs import InputNumbers
from cuvee.kernels import Block
from cuvee.method import Method
from cuvee.ops.arrays import Array
from cuvee.ops.cut import Cut
from cuvee.ops.small_space import small_space
from cuvee.recipe.recipe import Chosen

_PRECISION = {"BF16": 2.0**-7, "F16": 2.0**-10, "F32": 2.0**-23, "F64": 2.0**-52}
"""The distance of a number from the next one, relative to the power of two at or below it."""


def merged_matrix(method: Method, deltas: Array, rounding: Sequence[float], settings: Mapping[str, Any]) -> Array:
    """Return a matrix method's merged change [out, in] of `deltas` [models, out, in].

    Task vectors of low rank are merged in their small space; `rounding` is the energy of the rounding errors in each.
    """
    space = small_space(deltas, rounding) if method.equivariant else None
    if space is None:
        return method.rule(deltas, **settings)
    full = {"full_rank": min(deltas.shape[1:])} if method.takes_full_rank else {}
    return space.lifted(method.rule(space.cores, **settings, **full))


def modified_matrix(merged: Array, deltas: Array, post: Iterable[Chosen], inputs: InputNumbers) -> Array:
    """Return a merged change after the modifiers that work on matrices, in turn.

    A modifier that takes statistics of the base's inputs leaves matrices alone of which there are none.
    """
    for chosen in post:
        modifier = modifiers()[chosen.key]
        if modifier.work is None:
            continue
        supplied = inputs.of_base(modifier.inputs)
        if supplied is not None:
            merged = modifier.rule(merged, deltas, **chosen.settings, **supplied)
    return merged


class WholeTensor:
    """Task vectors of a step, gathered from its blocks, and the energy of the rounding errors in each.

    `types` are those that the models are stored in.
    """

    def __init__(self, shape: tuple[int, ...], types: Sequence[str], dtype: np.dtype) -> None:
        elements = int(np.prod(shape))
        self.shape = shape
        self.deltas = np.empty((len(types), elements), dtype)
        self.merged = np.zeros(elements, dtype)
        self.precision = [_PRECISION[kind] for kind in types]
        self.touched = np.zeros(len(types))

    def add(self, block: Block) -> None:
        """Take in a block."""
        stack = block.stack
        self.deltas[:, block.start : block.start + block.size] = stack
        for i, precision in enumerate(self.precision):
            self.touched[i] += rounding_energy(block.rows[i], stack[i], precision)

    def merge(self, cut: Cut, matrix: Callable[[Array, Sequence[float], Array], Array]) -> np.ndarray:
        """Put `matrix(deltas, rounding, merged)` of each matrix in its place; returns the merged change [elements]."""
        deltas, merged = self.deltas.reshape(-1, *self.shape), self.merged.reshape(self.shape)
        for place in cut.places():
            taken, before = cut.taken(deltas, place), cut.taken(merged[None], place)[0]
            share = before.size / max(merged.size, 1)
            cut.put(merged, place, matrix(taken, [float(energy) * share for energy in self.touched], before))
        return self.merged


def rounding_energy(values: np.ndarray, delta: np.ndarray, precision: float) -> float:
    """Return the squared norm that rounding `values` to numbers of that precision can be expected to have.

    It is counted where something changed: a model that was trained has exactly the base's numbers elsewhere.
    """
    power = values.astype(np.float32).view(np.uint32) & np.uint32(0x7F800000)
    spacing = power.view(np.float32).astype(np.float64)[delta != 0] * precision
    return float((spacing * spacing).sum()) / 12
