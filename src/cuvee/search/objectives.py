"""Several objectives in a race: a candidate's value in each, and whether another is clearly better in all.

Each objective is a weighted mean over the items of some tasks, so that the bound of `racing` holds for it.
"""

from collections.abc import Iterable, Mapping, Sequence

from cuvee.search.racing import Race, Scores, decision, weighted_mean

Weights = Mapping[str, float]


def worth(scores: Scores, incumbent: Scores | None, objectives: Sequence[Weights]) -> tuple[float, ...]:
    """Return a candidate's value in each objective: the incumbent's value plus the paired difference from it."""
    if incumbent is None:
        return tuple(weighted_mean(scores, weights) for weights in objectives)
    return tuple(_look(scores, incumbent, weights).told for weights in objectives)


def is_beaten(scores: Scores, rival: Scores, objectives: Sequence[Weights]) -> bool:
    """Say whether the rival, who has answered all items, is better by more than the bound in every objective."""
    return all(_look(scores, rival, weights).drop for weights in objectives)


def outer(candidates: Mapping[str, Scores], objectives: Sequence[Weights]) -> list[str]:
    """Return the candidates that no other reaches in all objectives, the best of the first objective first."""
    values = {}
    for name, scores in candidates.items():
        values[name] = tuple(weighted_mean(scores, weights) for weights in objectives)
    names = [name for name, own in values.items() if not _is_reached(own, values.values())]
    return sorted(names, key=values.__getitem__, reverse=True)


def _is_reached(own: tuple[float, ...], others: Iterable[tuple[float, ...]]) -> bool:
    return any(_reaches(other, own) for other in others)


def _reaches(other: tuple[float, ...], own: tuple[float, ...]) -> bool:
    return other != own and all(theirs >= ours for theirs, ours in zip(other, own, strict=True))


def _look(scores: Scores, incumbent: Scores, weights: Weights) -> Race:
    return decision(_of(scores, weights), _of(incumbent, weights), weights)


def _of(scores: Scores, weights: Weights) -> dict[str, Sequence[float]]:
    return {task: scores[task] for task in weights}
