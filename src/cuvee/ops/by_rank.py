"""Surveys that keep entries by the rank of their magnitude: the middle of a tensor or row; the larger, the likelier."""

from dataclasses import dataclass

import numpy as np
from array_api_compat import to_device

from cuvee.kernels import Block, Kept
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.order import AboveInOrder, InOrder, Ranks, Threshold, largest, ranks, ranks_by
from cuvee.ops.sparsify import Masks, kept_count, masks_for, rescaling
from cuvee.ops.survey import Run, Situation, Survey, row_length


def middle(elements: int, density: float, gamma: float, semantics: str) -> tuple[int, int]:
    """Return the ranks [first, last) from the largest down that are kept of so many elements.

    The `gamma` share of largest entries is left out, and the `density` share below is kept, at least one entry. Where
    both do not fit, mergekit leaves out fewer of the largest, the paper keeps fewer.
    """
    kept = kept_count(density, elements, "mergekit")
    outliers = int(gamma * elements)
    if semantics != "paper" or outliers >= elements:
        outliers = min(outliers, elements - kept)
    return outliers, min(outliers + kept, elements)


@dataclass(frozen=True)
class _Between:
    """The entries above the outer threshold and not above the inner threshold."""

    outer: Threshold
    inner: Threshold

    def begin(self) -> "_BetweenInOrder":
        return _BetweenInOrder(self.outer.begin(), self.inner.begin())


@dataclass(frozen=True)
class _BetweenInOrder(InOrder):
    outer: AboveInOrder
    inner: AboveInOrder

    def at(self, block: Block) -> Array:
        return self.outer.at(block) & ~self.inner.at(block)

    def kept(self, block: Block) -> Kept:
        return Kept(outer=self.outer.above, inner=self.inner.above)


@dataclass(frozen=True)
class _MiddleOfRows:
    situation: Situation

    def begin(self) -> "_MiddleOfRows":
        return self

    def at(self, block: Block) -> Array:
        return _middle_of(block.stack, self.situation, self.situation.row, ranks_by(block.kernels))


def _middle_of(stack: Array, s: Situation, length: int, rank_of: Ranks = ranks) -> Array:
    """Return the kept ranks of each vector of `length` entries that the stack consists of."""
    xp = array_namespace(stack)
    keep = []
    for i in range(s.models):
        density, gamma = float(s.settings["density"][i]), float(s.settings["gamma"][i])
        first, last = middle(length, density, gamma, s.semantics)
        rank = rank_of(xp.reshape(xp.abs(stack[i, ...]), (-1, length)))
        keep.append(xp.reshape((rank >= first) & (rank < last), stack.shape[1:]))
    return xp.stack(keep)


def _middle(s: Situation) -> Run:
    if s.semantics == "paper":
        return _MiddleOfRows(s)
    pairs = zip(s.settings["density"], s.settings["gamma"], strict=True)
    windows = [middle(s.elements, density, gamma, s.semantics) for density, gamma in pairs]
    outer, inner = [last for _, last in windows], [first for first, _ in windows]
    found = yield from largest(s, [*enumerate(outer), *enumerate(inner)])
    return _Between(
        Threshold(found.threshold[: s.models], found.accept[: s.models]),
        Threshold(found.threshold[s.models :], found.accept[s.models :]),
    )


keep_middle = Survey(
    run=_middle,
    whole=lambda stack, s: _middle_of(stack, s, s.row if s.semantics == "paper" else max(s.elements, 1)),
    passes=lambda semantics, settings: 0 if semantics == "paper" or min(settings["density"]) >= 1 else 3,
    reads=("density", "gamma"),
    unit=lambda shape, semantics, settings: row_length(shape) if semantics == "paper" else 1,
)
"""What is left without the largest and the smallest magnitudes of each model (Model Breadcrumbs, arXiv:2312.06795): of
each tensor in mergekit's semantics, of each row in the paper's."""


def chances(s: Situation) -> np.ndarray:
    """Return the probability of staying by the rank in a row, [models, row] (DELLA, arXiv:2406.11617).

    It falls from density + epsilon for the largest magnitude to density - epsilon. The window is made smaller where it
    does not fit into [0, 1]; a row of one entry has the density.
    """
    rows = []
    for density, epsilon in zip(s.settings["density"], s.settings["epsilon"], strict=True):
        window = max(min(epsilon, density, 1 - density), 0.0) if s.row > 1 else 0.0
        rows.append(np.linspace(density + window, density - window, s.row))
    return np.asarray(rows, np.float32)


def probability(stack: Array, s: Situation, rank_of: Ranks = ranks) -> Array:
    """Return the probability of staying for each entry of a stack of whole rows."""
    xp = array_namespace(stack)
    result = []
    for of_rank, deltas in zip(chances(s), stack, strict=True):
        rank = rank_of(xp.reshape(xp.abs(deltas), (-1, s.row)))
        result.append(xp.reshape(xp.take(xp.asarray(of_rank), xp.reshape(rank, (-1,))), deltas.shape))
    return xp.stack(result)


@dataclass(frozen=True)
class ByRank:
    """Keeps each entry with its probability."""

    situation: Situation
    chance: np.ndarray
    keys: np.ndarray
    masks: Masks

    def begin(self) -> "ByRank":
        return self

    def at(self, block: Block) -> Array:
        return self.masks.get(block, lambda: self._drawn(block))

    def _drawn(self, block: Block) -> np.ndarray:
        keep = np.empty((block.models, block.size), np.bool_)
        block.kernels.keep_by_rank(block, self.chance, self.keys, keep)
        return keep

    def probability(self, block: Block) -> np.ndarray:
        return np.asarray(probability(block.stack, self.situation, ranks_by(block.kernels)))


def _drawn(chance: np.ndarray, s: Situation, start: int) -> np.ndarray:
    draws = np.empty(chance.shape, np.float32)
    for row, key in zip(draws, s.keys, strict=True):
        s.kernels.uniform(key, start, row)
    return draws < chance


def _by_rank(s: Situation) -> Run:
    yield from ()
    return ByRank(s, chances(s), np.array(s.keys, np.int64), masks_for(s))


def _by_rank_whole(stack: Array, s: Situation) -> Array:
    xp = array_namespace(stack)
    chance = np.asarray(to_device(probability(stack, s), "cpu"))
    keep = _drawn(chance.reshape(s.models, -1), s, 0)
    return xp.reshape(xp.asarray(keep), stack.shape)


keep_by_rank = Survey(
    run=_by_rank,
    whole=_by_rank_whole,
    reads=("density", "epsilon", "rescale"),
    unit=lambda shape, semantics, settings: row_length(shape),
)
"""Each entry with a probability that rises with its magnitude's rank in its row (DELLA)."""


@dataclass(frozen=True)
class Inverse:
    kept: ByRank

    def begin(self) -> "Inverse":
        return self

    def at(self, block: Block) -> Array:
        return _inverse(self.kept.probability(block))


def _inverse(chance: Array) -> Array:
    xp = array_namespace(chance)
    return 1 / xp.where(chance > 0, chance, xp.ones_like(chance))


def _rescale(s: Situation) -> Run:
    if s.semantics == "paper" and s.settings["rescale"]:
        return Inverse(s.found["keep"])
    return (yield from rescaling.run(s))


def _rescale_whole(stack: Array, s: Situation) -> Array:
    if s.semantics == "paper" and s.settings["rescale"]:
        return _inverse(probability(stack, s))
    return rescaling.whole(stack, s)


rescaling_by_rank = Survey(run=_rescale, whole=_rescale_whole, passes=rescaling.passes, reads=rescaling.reads)
"""With `rescale`, what the kept entries are multiplied by: as with DARE in mergekit's semantics, 1 / the probability of
staying, one for each entry, in the paper's."""
