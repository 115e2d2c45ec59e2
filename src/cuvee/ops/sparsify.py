"""Surveys that decide which entries of the task vectors are kept, and by what the kept ones are multiplied."""

from dataclasses import dataclass

import numpy as np

from cuvee.kernels import Kernels, for_blocks
from cuvee.ops.arrays import Array, along_models, array_namespace
from cuvee.ops.survey import Constant, Fold, Run, Situation, Supplied, Survey, summing
from cuvee.ops.task_vectors import sparse

EVERY = np.iinfo(np.int64).max

DIGITS = {4: ((16, 15), (0, 16)), 8: ((48, 15), (32, 16), (16, 16), (0, 16))}
"""Bytes of a number -> (shift, width) of the digits its magnitude's bits are read in, from the top."""


@dataclass(frozen=True)
class _Above:
    """Keeps magnitudes above a threshold, and those equal to it up to an index. One of each a model."""

    threshold: np.ndarray
    last_equal: np.ndarray

    def at(self, stack: np.ndarray, start: int) -> Array:
        if (kernels := for_blocks(stack)) is not None:
            keep = np.empty(stack.shape, np.bool_)
            kernels.keep_above(stack, self.threshold, self.last_equal, start, keep)
            return keep
        threshold = along_models(self.threshold, stack)
        magnitude = np.abs(stack)
        if (self.last_equal == EVERY).all():
            return magnitude >= threshold
        index = np.arange(start, start + stack.shape[1])
        equal = (magnitude == threshold) & (index <= self.last_equal[:, None])
        return (magnitude > threshold) | equal


@dataclass(frozen=True)
class _AtRandom:
    """Keeps each entry with the model's density as probability."""

    keys: tuple[tuple[int, int], ...]
    density: np.ndarray
    kernels: Kernels

    def at(self, stack: np.ndarray, start: int) -> Array:
        keep = np.empty(stack.shape, np.bool_)
        draws = np.empty(stack.shape[1], np.float32)
        for i, key in enumerate(self.keys):
            self.kernels.uniform(key, start, draws)
            keep[i] = draws < np.float32(self.density[i])
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
    sought = [i for i, count in enumerate(counts) if 0 < count < s.elements]
    threshold = np.array([0.0 if count else np.inf for count in counts])
    last_equal = np.full(s.models, EVERY)
    if not sought:
        return _Above(threshold, last_equal)
    selection = _Selection([counts[i] for i in sought])
    for shift, width in DIGITS[s.dtype.itemsize]:
        selection.narrow_down((yield _digits(s, sought, selection.prefix, shift, width)), width)
    threshold[sought] = selection.magnitudes(s.dtype)
    if s.semantics != "paper" and selection.cuts_through_equals:
        places = yield _places_of_equals(s, sought, threshold, selection.remaining)
        last_equal[sought] = [place if place >= 0 else EVERY for place, _ in places]
    return _Above(threshold, last_equal)


class _Selection:
    """The k-th largest magnitude of each model, found digit by digit from the top of its bit pattern."""

    def __init__(self, counts: list[int]) -> None:
        self.remaining = list(counts)
        self.prefix = [0] * len(counts)
        self.equal = [0] * len(counts)

    def narrow_down(self, counts: np.ndarray, width: int) -> None:
        for i, row in enumerate(counts):
            from_top = np.cumsum(row[::-1])
            place = int(np.searchsorted(from_top, self.remaining[i]))
            digit = row.size - 1 - place
            self.remaining[i] -= int(from_top[place] - row[digit])
            self.equal[i] = int(row[digit])
            self.prefix[i] = (self.prefix[i] << width) | digit

    def magnitudes(self, dtype: np.dtype) -> np.ndarray:
        return np.array(self.prefix, f"u{dtype.itemsize}").view(dtype).astype(np.float64)

    @property
    def cuts_through_equals(self) -> bool:
        # at magnitude zero it makes no difference which entries are kept
        kept_some = zip(self.remaining, self.equal, self.prefix, strict=True)
        return any(remaining < equal and prefix for remaining, equal, prefix in kept_some)


def _digits(s: Situation, sought: list[int], prefix: list[int], shift: int, width: int) -> Fold:
    def add(state: np.ndarray, stack: np.ndarray, start: int) -> np.ndarray:
        for row, model in enumerate(sought):
            s.kernels.digit_counts(stack[model], prefix[row], shift, width, state[row])
        return state

    return Fold(lambda: np.zeros((len(sought), 1 << width), np.int64), add, lambda a, b: a + b)


def _places_of_equals(s: Situation, sought: list[int], threshold: np.ndarray, remaining: list[int]) -> Fold:
    def add(state: list[tuple[int, int]], stack: np.ndarray, start: int) -> list[tuple[int, int]]:
        result = []
        for (place, seen), model, wanted in zip(state, sought, remaining, strict=True):
            here, count = s.kernels.nth_equal(stack[model], float(threshold[model]), wanted - seen)
            result.append((place if place >= 0 or here < 0 else start + here, seen + count))
        return result

    def merge(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> list[tuple[int, int]]:
        raise AssertionError("places are those of one tensor")

    return Fold(lambda: [(-1, 0)] * len(sought), add, merge)


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
    passes=lambda semantics, settings: 0 if min(settings["density"]) >= 1 else 3,
    reads=("density",),
)
"""The `density` share of largest magnitudes of each model: of each tensor, equal ones by position, in mergekit's
semantics; of the whole model, all equal ones, in the paper's (TIES, arXiv:2306.01708)."""


def _random(s: Situation) -> Run:
    yield from ()
    return _AtRandom(s.keys, np.asarray(s.settings["density"]), s.kernels)


def _random_whole(stack: Array, s: Situation) -> Array:
    xp = array_namespace(stack)
    flat = np.broadcast_to(np.float32(0), (s.models, s.elements))
    keep = _AtRandom(s.keys, np.asarray(s.settings["density"]), s.kernels).at(flat, 0)
    return xp.reshape(xp.asarray(keep), stack.shape)


keep_at_random = Survey(run=_random, whole=_random_whole, reads=("density",))
"""Each entry with probability `density` (DARE, arXiv:2311.03099)."""


def _rescale(s: Situation) -> Run:
    if not s.settings["rescale"]:
        return Constant(np.ones(s.models))
    if s.semantics == "paper":
        return Constant(_inverse(np.asarray(s.settings["density"], np.float64)))
    keep: Supplied = s.found["keep"]

    def add(sums: np.ndarray, stack: np.ndarray, start: int) -> None:
        s.kernels.absolute_sums(stack, sums[0])
        s.kernels.absolute_sums(sparse(stack, keep.at(stack, start), np.ones(s.models)), sums[1])

    total, kept = yield summing(2, add, (s.models,))
    return Constant(np.where((kept > 0) & (total > 0), total / np.where(kept > 0, kept, 1), 1.0))


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

    def add(sums: np.ndarray, stack: np.ndarray, start: int) -> None:
        kept = sparse(stack, keep.at(stack, start), np.ones(s.models))
        sums += np.sign(kept.sum(axis=0)).sum(dtype=np.float64)

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
