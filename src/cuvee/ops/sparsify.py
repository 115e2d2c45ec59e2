"""Surveys that decide which entries of the task vectors are kept, and by how much kept entries are multiplied."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cuvee.kernels import Block, Kernels
from cuvee.ops.arrays import Array, array_namespace, sum_models
from cuvee.ops.order import kept_by, largest
from cuvee.ops.survey import Argument, Constant, Fold, Run, Situation, Supplied, Survey, of_one_tensor, summing
from cuvee.ops.task_vectors import sparse


class Masks:
    """Masks of a tensor's blocks that one pass has drawn, kept for the next bit by bit as far as there is room."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._bits: dict[int, tuple[int, np.ndarray]] = {}

    def get(self, block: Block, draw: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the mask [.., n] of a block: the remembered mask, or else a new draw."""
        if block.start in self._bits:
            rows, bits = self._bits[block.start]
            mask = np.unpackbits(bits, count=rows * block.size)
            return mask.view(np.bool_).reshape(rows, -1)
        mask = draw()
        if mask.size // 8 < self._room:
            bits = np.packbits(mask.reshape(-1))
            self._bits[block.start] = len(mask), bits
            self._room -= bits.nbytes
        return mask


def masks_for(s: Situation) -> Masks:
    """Return room for a tensor's masks: none where one pass goes over them."""
    twice = s.settings.get("rescale") and s.semantics != "paper"
    return Masks(s.room if twice else 0)


@dataclass(frozen=True)
class AtRandom:
    """Keeps each entry with the model's density as probability."""

    keys: np.ndarray
    density: np.ndarray
    kernels: Kernels
    masks: Masks

    def begin(self) -> "AtRandom":
        return self

    def at(self, block: Block) -> Array:
        return self.masks.get(block, lambda: self.drawn(block.start, block.size))

    def drawn(self, start: int, count: int) -> np.ndarray:
        """Return the mask [models, count] of the elements from `start` on."""
        keep = np.empty((len(self.keys), count), np.bool_)
        self.kernels.keep_at_random(self.keys, self.density, start, keep)
        return keep


def kept_count(density: float, elements: int, semantics: str) -> int:
    """Return how many of a tensor's entries a density keeps. mergekit keeps one at least; the paper may keep none."""
    if density >= 1:
        return elements
    if density <= 0:
        return 0
    count = int(density * elements)
    return count if semantics == "paper" else min(max(1, count), elements)


def _largest(s: Situation) -> Run:
    counts = [kept_count(d, s.elements, s.semantics) for d in s.settings["density"]]
    return (yield from largest(s, list(enumerate(counts)), all_equal=s.semantics == "paper"))


def _largest_by_sorting(stack: Array, s: Situation) -> Array:
    xp = array_namespace(stack)
    rows = []
    for i, density in enumerate(s.settings["density"]):
        magnitude = xp.reshape(xp.abs(stack[i, ...]), (-1,))
        count = kept_count(float(density), magnitude.shape[0], s.semantics)
        order = xp.argsort(magnitude, descending=True, stable=True)
        keep = xp.argsort(order, stable=True) < count
        if s.semantics == "paper" and count:
            keep = magnitude >= magnitude[order[count - 1]]
        rows.append(xp.reshape(keep, stack.shape[1:]))
    return xp.stack(rows)


keep_largest = Survey(
    run=_largest,
    whole=_largest_by_sorting,
    scope=lambda semantics, settings: "model" if semantics == "paper" else "tensor",
    passes=lambda semantics, settings: 0 if min(settings["density"]) >= 1 else 2 if semantics == "paper" else 3,
    reads=("density",),
)
"""The `density` share of largest magnitudes of each model: of each tensor, equal ones by position, in mergekit's
semantics; of the whole model, all equal ones, in the paper's (TIES, arXiv:2306.01708)."""


def _at_random(s: Situation) -> AtRandom:
    return AtRandom(np.array(s.keys, np.int64), np.asarray(s.settings["density"]), s.kernels, masks_for(s))


def _random(s: Situation) -> Run:
    yield from ()
    return _at_random(s)


def _random_whole(stack: Array, s: Situation) -> Array:
    xp = array_namespace(stack)
    return xp.reshape(xp.asarray(_at_random(s).drawn(0, s.elements)), stack.shape)


keep_at_random = Survey(run=_random, whole=_random_whole, reads=("density", "rescale"))
"""Each entry with probability `density` (DARE, arXiv:2311.03099)."""


def _rescale(s: Situation) -> Run:
    if not s.settings["rescale"]:
        return Constant(np.ones(s.models))
    if s.semantics == "paper":
        return Constant(_inverse(np.asarray(s.settings["density"], np.float64)))
    (total, kept), _ = yield _magnitudes(s.found["keep"], s.models)
    return Constant(_restoring(total, kept, s.dtype))


def _magnitudes(keep: Supplied, models: int) -> Fold:
    """Return a fold into the sums of each model's magnitudes [2, models]: of all, and of the kept entries."""

    def add(state: tuple[np.ndarray, Argument], block: Block) -> tuple[np.ndarray, Argument]:
        sums, choice = state
        block.kernels.magnitude_sums(block, kept_by(choice, block), sums)
        return state

    return Fold(lambda: (np.zeros((2, models)), keep.begin()), add, of_one_tensor)


def _rescale_whole(stack: Array, s: Situation) -> Array:
    if not s.settings["rescale"]:
        return np.ones(s.models)
    if s.semantics == "paper":
        return _inverse(np.asarray(s.settings["density"], np.float64))
    xp = array_namespace(stack)
    wide = xp.abs(xp.astype(stack, xp.float64))
    axes = tuple(range(1, stack.ndim))
    total = xp.sum(wide, axis=axes)
    kept = xp.sum(xp.where(s.found["keep"], wide, xp.zeros_like(wide)), axis=axes)
    return _restoring(total, kept, stack.dtype)


def _restoring(total: Array, kept: Array, dtype: Any) -> Array:
    """Return total / kept; where 16 bits are computed in, of the sums rounded to them."""
    xp = array_namespace(total)
    if dtype.itemsize == 2:
        total, kept = xp.astype(total, dtype), xp.astype(kept, dtype)
    one = xp.ones_like(kept)
    return xp.where(kept > 0, total / xp.where(kept > 0, kept, one), one)


def _inverse(density: np.ndarray) -> np.ndarray:
    return 1 / np.where(density > 0, density, 1.0)


rescaling = Survey(
    run=_rescale,
    whole=_rescale_whole,
    passes=lambda semantics, settings: int(settings["rescale"] and semantics != "paper"),
    reads=("density", "rescale"),
)
"""With `rescale`, what the kept entries are multiplied by: in mergekit's semantics what restores the tensor's sum of
magnitudes, in the paper's 1 / density."""


def _majority(s: Situation) -> Run:
    if s.semantics != "paper":
        return Constant(1.0)
    keep: Supplied = s.found["keep"]

    def add(sums: np.ndarray, block: Block) -> None:
        # in the paper's semantics all equal magnitudes are kept: the choice needs no order
        kept = sparse(block.stack, keep.begin().at(block), np.ones(s.models))
        sums += np.sign(sum_models(kept)).sum(dtype=np.float64)

    return Constant(float(np.sign((yield summing(1, add))[0])))


def _majority_whole(stack: Array, s: Situation) -> Array:
    if s.semantics != "paper":
        return 1.0
    xp = array_namespace(stack)
    kept = xp.where(s.found["keep"], stack, xp.zeros_like(stack))
    return float(xp.sign(xp.sum(xp.sign(xp.sum(kept, axis=0)))))


majority_sign = Survey(
    run=_majority,
    whole=_majority_whole,
    scope=lambda semantics, settings: "model" if semantics == "paper" else "tensor",
    passes=lambda semantics, settings: int(semantics == "paper"),
)
"""The sign where an election is even: + in mergekit's semantics, the majority's over the model in the paper's."""
