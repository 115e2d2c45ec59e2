"""Several objectives: the candidates that no other clearly beats in all of them, and how much they cover.

Each objective is a weighted mean over items, between 0 and 1, larger is better. "Clearly" is the bound by which a race
drops a candidate, on the paired differences of the same items: so chance alone pushes nobody off the front.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product

import numpy as np
from numpy.typing import NDArray

from cuvee.evaluation.resample import interval, macro_draws
from cuvee.evaluation.statistics import Estimate, average
from cuvee.search.racing import Scores, paired_differences, relative_radius

Array = NDArray[np.float64]

DRAWS = 1000


@dataclass(frozen=True)
class Objective:
    """A quantity to make large: `scores` by candidate and task, item by item, and the weights of the tasks."""

    name: str
    scores: Mapping[str, Scores]
    weights: Mapping[str, float]


@dataclass(frozen=True)
class Point:
    """A candidate of the front, and its value in each objective.

    `outer` points have the highest values; no other reaches them in all objectives. The others stay because the
    difference may be chance.
    """

    name: str
    values: tuple[Estimate, ...]
    outer: bool


@dataclass(frozen=True)
class Covered:
    """The share of the space above the reference that a front dominates, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Front:
    """The points that stay, outer points first, then by the first objective; the volume above `reference`."""

    objectives: tuple[str, ...]
    points: tuple[Point, ...]
    hypervolume: Covered
    reference: tuple[float, ...]


def front(objectives: Sequence[Objective], *, reference: Sequence[float] | None = None) -> Front:
    """Keep every candidate that no other is clearly better than in all objectives.

    `reference` is the corner from which the hypervolume is counted, 0 in each objective unless it is given; the other
    corner is 1. Two candidates whose scores are the same to the item both stay. Raises ValueError without objectives,
    or where any lacks a candidate.
    """
    names = _names(objectives)
    corner = _corner(reference, len(objectives))
    staying = _staying(objectives, names)
    values = {name: _estimates(objectives, name) for name in staying}
    points = [Point(name, values[name], _is_outer(name, values)) for name in staying]
    points.sort(key=_order)
    covered = _covered(objectives, [point.name for point in points], corner)
    return Front(tuple(objective.name for objective in objectives), tuple(points), covered, corner)


def hypervolume(points: Array, reference: Sequence[float]) -> float:
    """Return the volume between `reference` and the reach of any of the points, [points, objectives].

    It is cut into slices along the last objective, from the highest point down (While et al., "A faster algorithm for
    calculating hypervolume", IEEE Transactions on Evolutionary Computation 10, 2006).
    """
    inside = points[np.all(points > np.asarray(reference), axis=1)]
    if len(inside) == 0:
        return 0.0
    if inside.shape[1] == 1:
        return float(inside.max() - reference[0])
    if inside.shape[1] == 2:
        return _area(inside, reference)
    falling = inside[np.argsort(-inside[:, -1], kind="stable")]
    edges = [*falling[1:, -1], reference[-1]]
    volume = 0.0
    for count, edge in enumerate(edges, start=1):
        height = falling[count - 1, -1] - edge
        if height > 0:
            volume += height * hypervolume(falling[:count, :-1], reference[:-1])
    return float(volume)


def _area(points: Array, reference: Sequence[float]) -> float:
    """Sum the volume that each point adds above those that reach further along the first objective."""
    falling = points[np.argsort(-points[:, 0], kind="stable")]
    heights = np.maximum.accumulate(falling[:, 1])
    added = np.diff(heights, prepend=reference[1])
    return float((falling[:, 0] - reference[0]) @ added)


def _names(objectives: Sequence[Objective]) -> list[str]:
    if not objectives:
        raise ValueError("a front needs one objective at least")
    names = list(objectives[0].scores)
    for objective in objectives:
        if set(objective.scores) != set(names):
            raise ValueError(f"objective '{objective.name}' has other candidates than '{objectives[0].name}'")
    return names


def _corner(reference: Sequence[float] | None, objectives: int) -> tuple[float, ...]:
    if reference is None:
        return (0.0,) * objectives
    are_shares = all(0 <= number < 1 for number in reference)
    if len(reference) != objectives or not are_shares:
        raise ValueError(f"expected a number from 0 to below 1 for each objective as reference, got {reference}")
    return tuple(reference)


def _staying(objectives: Sequence[Objective], names: Sequence[str]) -> list[str]:
    beats = np.all([_clearly_better(objective, names) for objective in objectives], axis=0)
    beaten = beats.any(axis=0)
    return [name for place, name in enumerate(names) if not beaten[place]]


def _clearly_better(objective: Objective, names: Sequence[str]) -> "NDArray[np.bool_]":
    """Return [first, second]: whether the first is better by more than the paired bound."""
    gaps, items = [], 0
    for task in objective.weights:
        scores = np.array([objective.scores[name][task] for name in names], dtype=np.float64)
        gaps.append(scores[:, None, :] - scores[None, :, :])
        items += scores.shape[1]
    paired = paired_differences(gaps, list(objective.weights.values()))
    return paired.difference > paired.widened * relative_radius(items)


def _means(estimates: Sequence[Estimate]) -> list[float]:
    return [estimate.value for estimate in estimates]


def _is_outer(name: str, values: Mapping[str, Sequence[Estimate]]) -> bool:
    table = np.array(list(map(_means, values.values())))
    own = np.array(_means(values[name]))
    reached = np.all(table >= own, axis=1) & np.any(table > own, axis=1)
    return not reached.any()


def _order(point: Point) -> tuple[bool, list[float]]:
    return not point.outer, [-estimate.value for estimate in point.values]


def _estimates(objectives: Sequence[Objective], name: str) -> tuple[Estimate, ...]:
    return tuple(_estimate(objective, name) for objective in objectives)


def _estimate(objective: Objective, name: str) -> Estimate:
    scores = objective.scores[name]
    return average([scores[task] for task in objective.weights], list(objective.weights.values()))


def _covered(objectives: Sequence[Objective], names: Sequence[str], corner: Sequence[float]) -> Covered:
    """Resample the items of every task, for all points and objectives together."""
    drawn = np.zeros((DRAWS, len(names), len(objectives)))
    tasks = dict.fromkeys(chain.from_iterable(objective.weights for objective in objectives))
    for seed, task in enumerate(tasks):
        drawn += _task_draws(objectives, names, task, seed)
    means = np.empty((len(names), len(objectives)))
    for row, name in enumerate(names):
        means[row] = [estimate.value for estimate in _estimates(objectives, name)]
    space = float(np.prod(1 - np.asarray(corner)))
    value = hypervolume(means, corner) / space
    volumes = np.array([hypervolume(points, corner) for points in drawn])
    return Covered(value, *interval(volumes / space, value))


def _task_draws(objectives: Sequence[Objective], names: Sequence[str], task: str, seed: int) -> Array:
    """Draw the part of a task in each point and each objective, [draws, points, objectives]."""
    added = np.zeros((DRAWS, len(names), len(objectives)))
    users = [place for place, objective in enumerate(objectives) if task in objective.weights]
    columns = [objectives[user].scores[name][task] for user, name in product(users, names)]
    draws = macro_draws([np.array(columns, dtype=np.float64).T], [1.0], draws=DRAWS, seed=seed)
    for place, own in zip(users, np.split(draws, len(users), axis=1), strict=True):
        weights = objectives[place].weights
        added[:, :, place] = weights[task] / sum(weights.values()) * own
    return added
