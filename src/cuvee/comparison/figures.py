"""Figures that people read, from sums: lengths, cosines, shares. An undefined figure, an angle to nothing, is None."""

import math
from dataclasses import dataclass
from itertools import combinations

from cuvee.comparison.sums import Sums


@dataclass(frozen=True)
class ModelFigures:
    """A task vector: its norm, that as a share of the base's norm, and how many entries differ from the base."""

    norm: float
    relative_norm: float | None
    changed: int
    changed_share: float


@dataclass(frozen=True)
class PairFigures:
    """Two task vectors, by the positions of their models.

    `both` and `either` count changed entries; `overlap` is both / either. `conflicts` counts entries that both changed
    in opposite directions; `sign_conflict` is conflicts / both.
    """

    first: int
    second: int
    cosine: float | None
    both: int
    either: int
    overlap: float | None
    conflicts: int
    sign_conflict: float | None


@dataclass(frozen=True)
class Figures:
    """Some tensors: how many, their entries, the base's norm over them, each task vector and each pair."""

    tensors: int
    entries: int
    base_norm: float
    models: tuple[ModelFigures, ...]
    pairs: tuple[PairFigures, ...]


def figures(sums: Sums) -> Figures:
    """Return the figures of the sums."""
    count = len(sums.gram)
    base = math.sqrt(sums.base)
    pairs = [_pair(sums, i, j) for i, j in combinations(range(count), 2)]
    models = tuple(_model(sums, i, base) for i in range(count))
    return Figures(sums.tensors, sums.entries, base, models, tuple(pairs))


def _model(sums: Sums, i: int, base: float) -> ModelFigures:
    norm, changed = math.sqrt(sums.gram[i, i]), int(sums.both[i, i])
    return ModelFigures(norm, _share(norm, base), changed, _share(changed, sums.entries) or 0.0)


def _pair(sums: Sums, i: int, j: int) -> PairFigures:
    both, conflicts = int(sums.both[i, j]), int(sums.conflicts[i, j])
    either = int(sums.both[i, i] + sums.both[j, j]) - both
    cosine = _share(float(sums.gram[i, j]), math.sqrt(sums.gram[i, i]) * math.sqrt(sums.gram[j, j]))
    return PairFigures(
        i, j, None if cosine is None else min(max(cosine, -1.0), 1.0),
        both, either, _share(both, either), conflicts, _share(conflicts, both),
    )  # fmt: skip


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
