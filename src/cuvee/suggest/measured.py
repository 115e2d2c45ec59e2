"""The measured blends, and the part of them that rules predict.

`blends.csv` has a row for each blend: its family, its experts, its method and scale, and its score on the task of each
expert; rows of the method `parent` are the models themselves, on the tasks of all experts. `families.json` has the
`Changes` of each family. `benchmarks/suggest.py` writes both.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.suggest.changes import Changes, mean

FOLDER = Path(__file__).parent
BLENDS, FAMILIES = FOLDER / "blends.csv", FOLDER / "families.json"
PARENT = "parent"

FITTED_POINTS = 2
"""So many scales on either side of the best one are taken for a parabola."""

LEAST_GAIN = 0.1
"""Experts that gain less on their own task than this share of the items say nothing of what a blend retains."""


@dataclass(frozen=True)
class Line:
    """One method over its scales, ascending; `scores` are means over the tasks of the experts."""

    scales: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def peak(self) -> tuple[float, float]:
        """The best scale and its score, by a parabola in ln(scale) about the best point, within the line."""
        best = int(np.argmax(self.scores))
        near = slice(max(best - FITTED_POINTS, 0), best + FITTED_POINTS + 1)
        logs, scores = np.log(self.scales[near]), np.array(self.scores[near])
        curve = np.polyfit(logs, scores, 2)
        if curve[0] >= 0:
            return self.scales[best], self.scores[best]
        top = float(np.clip(-curve[1] / (2 * curve[0]), logs[0], logs[-1]))
        return math.exp(top), float(np.polyval(curve, top))

    def at(self, scale: float) -> float:
        """Return the score at a scale, between measured scales by straight lines in ln(scale)."""
        return float(np.interp(math.log(scale), np.log(self.scales), self.scores))


@dataclass(frozen=True)
class Case:
    """A group of experts of a family: their changes, and the scores of their blends by method.

    `base` and `own` are the scores of the base and of each expert on the experts' tasks; `retained` are the shares of
    the experts' gains that the best blend by task arithmetic has.
    """

    family: str
    changes: Changes
    base: tuple[float, ...]
    own: tuple[float, ...]
    lines: Mapping[str, Line]
    best_plain: tuple[float, ...]

    @property
    def retained(self) -> float | None:
        """The mean share of the experts' gains that task arithmetic keeps at its best scale; None without gains."""
        shares = [
            (blend - base) / (own - base)
            for blend, base, own in zip(self.best_plain, self.base, self.own, strict=True)
            if own - base >= LEAST_GAIN
        ]
        return mean(shares) if shares else None


def measured_cases(blends: Path = BLENDS, families: Path = FAMILIES) -> tuple[Case, ...]:
    """Read the measurements: a case for each group of experts that every method was tried on."""
    changes = read_families(families)
    with blends.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    parents: dict[tuple[str, str], tuple[float, ...]] = {}
    for row in rows:
        key = row["family"], row["experts"]
        if row["method"] == PARENT:
            parents[key] = _numbers(row["scores"])
        else:
            groups.setdefault(key, []).append(row)
    return tuple(_case(*key, group, changes[key[0]], parents) for key, group in groups.items())


def read_families(file: Path = FAMILIES) -> dict[str, Changes]:
    """Return the changes of each family by its name."""
    document: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return {name: _read_changes(entry) for name, entry in document.items()}


def _read_changes(entry: Mapping[str, Any]) -> Changes:
    fields = {name: tuple(value) for name, value in entry.items()}
    fields["losses"] = tuple(tuple(row) for row in fields["losses"])
    return Changes(**fields)


def _case(
    family: str,
    experts: str,
    rows: Sequence[Mapping[str, str]],
    changes: Changes,
    parents: Mapping[tuple[str, str], tuple[float, ...]],
) -> Case:
    names = experts.split()
    places = [changes.models.index(name) for name in names]
    scores: dict[str, dict[float, tuple[float, ...]]] = {}
    for row in rows:
        scores.setdefault(row["method"], {})[float(row["scale"])] = _numbers(row["scores"])
    lines = {}
    for method, by_scale in scores.items():
        scales = sorted(by_scale)
        lines[method] = Line(tuple(scales), tuple(mean(by_scale[scale]) for scale in scales))
    plain = scores["task_arithmetic"]
    base = parents[family, ""]
    return Case(
        family,
        changes.of(names),
        tuple(base[place] for place in places),
        tuple(parents[family, name][place] for name, place in zip(names, places, strict=True)),
        lines,
        max(plain.values(), key=mean),
    )


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split())
