"""A search as it could have gone: a smooth function of the recipe's numbers decides how often an item is right.

Run as a script, it writes the pages of a finished, an empty and a running search into a folder, for people to look at.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cuvee.report.search import render_search
from cuvee.search.choice import choose, pick
from cuvee.search.front import Front, Objective, front
from cuvee.search.racing import Scores, decision, weighted_mean
from cuvee.search.report import Candidate, Cost, Curve, Dimension, SearchReport, TaskItems

EXPERTS = ("arith", "logic", "sort", "reverse", "shift")
ROLES = ("attention", "mlp")
DIMENSIONS = ("lambda", *(f"{expert}.{role}" for expert in EXPERTS for role in ROLES))
WEIGHTS = dict.fromkeys(EXPERTS, 1.0)
SEARCH, SELECT, REPORT = 80, 100, 120
TOKENS = 24
ANCHORS = ("sort", "base", "average", "task_arithmetic at 0.5")
RECIPE = """\
merge_method: task_arithmetic
base_model: models/base
models:
  - model: models/sort
    parameters:
      weight: [0.62, 0.48, 0.71]
  - model: models/<reverse> & more
    parameters:
      weight: [0.31, 0.55, 0.42]
parameters:
  lambda: 0.83
"""


class World:
    """Candidates and items. A candidate is a place, [1 + experts * roles]; larger `gain` is more to be found."""

    def __init__(self, seed: int, gain: float) -> None:
        self.generator = np.random.default_rng(seed)
        self.gain = gain
        self.difficulty = {
            size: {task: self.generator.random(size) for task in EXPERTS} for size in (SEARCH, SELECT, REPORT)
        }

    def place(self, best: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Draw a place: anywhere, or near the best one so far."""
        if best is None or self.generator.random() < 0.25:
            return self.generator.uniform(0.2, 1.2, len(DIMENSIONS))
        near: NDArray[np.float64] = np.clip(best + self.generator.normal(0, 0.1, len(DIMENSIONS)), 0.2, 1.2)
        return near

    def scores(self, place: NDArray[np.float64], size: int, level: float = 0.0) -> dict[str, list[float]]:
        """Answer all items of a part, task by task."""
        answered = {}
        for number, task in enumerate(EXPERTS):
            own = place[1 + 2 * number : 3 + 2 * number]
            chance = 0.66 + level + self.gain * (0.2 - np.mean((own - 0.7) ** 2) - 0.3 * (place[0] - 0.8) ** 2)
            shared = self.generator.random(size) < 0.7
            luck = np.where(shared, self.difficulty[size][task], self.generator.random(size))
            answered[task] = (luck < chance).astype(float).tolist()
        return answered


def searched(*, seed: int = 0, gain: float = 0.9, candidates: int = 140) -> SearchReport:
    """Search a made-up world from the first block to the verdict."""
    world = World(seed, gain)
    middle = np.full(len(DIMENSIONS), 0.45)
    places = dict.fromkeys(ANCHORS, middle)
    levels = dict(zip(ANCHORS, (-0.12, -0.3, -0.06, 0.0), strict=True))
    measured: dict[str, Scores] = {name: world.scores(middle, SEARCH, levels[name]) for name in ANCHORS}
    rows = [_anchor(number, name, measured[name]) for number, name in enumerate(ANCHORS)]
    for number in range(len(ANCHORS), len(ANCHORS) + candidates):
        best = max(measured, key=lambda name: weighted_mean(measured[name], WEIGHTS))
        place = world.place(None if best in ANCHORS else places[best])
        row, scores = _raced(number, place, world.scores(place, SEARCH), measured[best])
        rows.append(row)
        if row.state == "measured":
            places[row.name], measured[row.name] = place, scores
    return _ended(world, rows, places, levels, measured)


def running(report: SearchReport, candidates: int = 60) -> SearchReport:
    """Return the same search before its end."""
    rows = tuple(replace(each, select=None) for each in report.candidates[:candidates])
    last = replace(rows[-1], state="running", value=None, standard_error=None, reason="")
    cost = Cost(sum(row.items for row in rows), sum(row.tokens for row in rows), sum(row.seconds for row in rows), 2)
    own = replace(report, phase="running", candidates=(*rows[:-1], last), cost=cost)
    return replace(own, choice=None, front=None, curves=(), importance={})


def _anchor(number: int, name: str, scores: Scores) -> Candidate:
    items = SEARCH * len(EXPERTS)
    kind = "parent" if name in ("sort", "base") else "default"
    method = "" if kind == "parent" else name.split()[0]
    value = weighted_mean(scores, WEIGHTS)
    return Candidate(number, name, method, {}, "measured", value, 0.0, items, items * TOKENS, 1.9, anchor=kind)


def _raced(number: int, place: NDArray[np.float64], scores: Scores, incumbent: Scores) -> tuple[Candidate, Scores]:
    for seen in range(10, SEARCH + 1, 5):
        race = decision({task: own[:seen] for task, own in scores.items()}, incumbent, WEIGHTS)
        if race.drop:
            break
    name, parameters = f"candidate {number}", {key: float(v) for key, v in zip(DIMENSIONS, place, strict=True)}
    reason = f"behind the best by {-100 * race.difference:.1f} points after {race.items} items" if race.drop else ""
    state = "dropped" if race.drop else "measured"
    value = race.told if race.drop else weighted_mean(scores, WEIGHTS)
    if number == 31:
        return Candidate(number, name, "task_arithmetic", parameters, "failed", None, None, 25, 25 * TOKENS, 0.3,
                         reason="three workers ended while they measured it"), scores  # fmt: skip
    return Candidate(number, name, "task_arithmetic", parameters, state, value, race.standard_error, race.items,
                     race.items * TOKENS, race.items * 0.005, reason=reason), scores  # fmt: skip


def _ended(
    world: World,
    rows: list[Candidate],
    places: dict[str, NDArray[np.float64]],
    levels: dict[str, float],
    measured: dict[str, Scores],
) -> SearchReport:
    ranked = sorted(measured, key=lambda name: -weighted_mean(measured[name], WEIGHTS))
    finalists = dict.fromkeys([*ANCHORS, *[name for name in ranked if name not in ANCHORS][:8]])
    select = {name: world.scores(places[name], SELECT, levels.get(name, 0.0)) for name in finalists}
    kinds = {row.name: row.anchor for row in rows if row.anchor}
    picked = pick(measured, select, WEIGHTS, kinds)
    report = {name: world.scores(places[name], REPORT, levels.get(name, 0.0)) for name in picked.reported}
    tried = {name: scores for name, scores in measured.items() if name not in ANCHORS}
    choice = choose(picked, tried, select, report, WEIGHTS)
    place = places[choice.picked]
    curves = [
        Curve(expert, role, tuple(float(place[1 + 2 * i + j] * (1 + 0.25 * np.sin(k + i + j))) for k in range(12)))
        for i, expert in enumerate(EXPERTS)
        for j, role in enumerate(ROLES)
    ]
    shares = world.generator.dirichlet(np.full(len(DIMENSIONS), 0.5))
    rows = [replace(row, select=weighted_mean(select[row.name], WEIGHTS)) if row.name in select else row
            for row in rows]  # fmt: skip
    tokens = sum(row.tokens for row in rows)
    return SearchReport(
        title="Five small experts, one recipe",
        phase="finished",
        base="base",
        models=EXPERTS,
        tasks=tuple(TaskItems(task, 1.0, SEARCH, SELECT, REPORT, f"{task}-private") for task in EXPERTS),
        sampler="cmaes",
        budget="200 candidates",
        seed=0,
        dimensions=tuple(Dimension(name, 0.2, 1.2, logarithmic=name == "lambda") for name in DIMENSIONS),
        candidates=tuple(rows),
        cost=Cost(sum(row.items for row in rows) + 9000, tokens + 9000 * TOKENS, sum(row.seconds for row in rows), 2),
        recipe=RECIPE,
        choice=choice,
        curves=tuple(curves),
        importance=dict(zip(DIMENSIONS, map(float, shares), strict=True)),
        front=_front({name: places[name][0] for name in select}, select),
        warnings=("fewer than 50 items to search on in logic (40): expect the winner to be lucky",),
    )


def _front(lambdas: dict[str, float], select: dict[str, dict[str, list[float]]]) -> Front:
    """Weigh the score against short answers, which a large lambda makes longer."""
    generator = np.random.default_rng(5)
    short = {
        name: {"tokens": np.clip(1.1 - 0.6 * value + generator.normal(0, 0.1, 300), 0, 1).tolist()}
        for name, value in lambdas.items()
    }
    return front([Objective("score", select, WEIGHTS), Objective("shortness of answers", short, {"tokens": 1.0})])


def main(folder: Path) -> None:
    """Write the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    report = searched()
    pages = {
        "finished": render_search(report),
        "nothing": render_search(searched(seed=3, gain=0.0)),
        "running": render_search(running(report), refresh_seconds=5),
    }
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
