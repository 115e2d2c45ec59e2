"""A bench: every method on one family, each at its best scale, ranked on items that nothing was chosen on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cuvee.errors import SearchError
from cuvee.evaluation.statistics import Gap, average, average_difference, mean
from cuvee.executor import Executor
from cuvee.progress import Progress, Silent
from cuvee.search.journal import Journal, open_journal
from cuvee.search.promise import Promise
from cuvee.search.race import Race, Raced
from cuvee.search.racing import Scores
from cuvee.search.setting import Budget, Clock, Setting, head_of, setting_of
from cuvee.search.shown import Bar
from cuvee.search.slots import Slots, measured_on
from cuvee.search.space import WrittenSpace
from cuvee.search.split import blocks

SILENT: Progress = Silent()
MOST_FINALISTS = 12
"""So many blends are measured on the items to choose by, and on those to report on: the best setting of each method."""


@dataclass(frozen=True)
class Entrant:
    """A model of the final table, with its scores on the items to choose by and on those to report on, by task.

    `kind` is base, expert or blend; `method` is how a blend was made, with its scale, "" for a parent. `seconds` is
    the cost of measuring it while searching.
    """

    name: str
    kind: str
    method: str
    recipe: str
    select: Scores
    report: Scores
    seconds: float


@dataclass(frozen=True)
class Bench:
    """The result of a bench. Entrants are the parents, in order, and then the blends, the best to choose by first.

    `gaps` are the blends minus the best parent on the items to report on, by name; `significance` are their p-values
    after Holm's correction for as many blends. `tried` is how many recipes were tried, `cost` how much they answered.
    """

    setting: Setting
    entrants: tuple[Entrant, ...]
    best_blend: str
    best_parent: str
    gaps: Mapping[str, Gap]
    significance: Mapping[str, float]
    tried: int
    items: int
    seconds: float

    def entrant(self, name: str) -> Entrant:
        return next(entrant for entrant in self.entrants if entrant.name == name)

    def kept(self, entrant: Entrant) -> dict[str, float]:
        """Return the share of each task's best expert's gain over the base that a model has, on the report items.

        Tasks on which no expert is better than the base are left out. Tasks have the names of those searched on.
        """
        base = self.entrants[0]
        experts = [other for other in self.entrants if other.kind == "expert"]
        shares = {}
        for name, task in zip(self.setting.weights, entrant.report, strict=True):
            start = mean(base.report[task]).value
            best = max(mean(expert.report[task]).value for expert in experts)
            if best > start:
                shares[name] = (mean(entrant.report[task]).value - start) / (best - start)
        return shares


def bench(
    space: WrittenSpace,
    out: Path,
    executor: Executor,
    *,
    budget: Budget,
    fresh: bool = False,
    memory_bytes: int | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
    heard: Callable[[Raced], None] = lambda raced: None,
) -> Bench:
    """Try every method that fits a family, and rank the best setting of each; go on with the results in `out`.

    `heard` is told of each candidate that has ended. Raises RecipeError and SearchError.
    """
    setting = setting_of(space)
    journal = open_journal(out, {**head_of(space, setting), "bench": 1}, fresh=fresh)
    models = (space.base_model, *(model.model for model in space.models))
    slots = Slots(executor, models, setting.references, memory_bytes, device, space.evaluation_dtype)
    clock = Clock(budget)
    watched = _Watched(Bar(clock, progress), heard)
    race = Race(
        blocks(setting.parts.search, block=space.items.block, seed=space.seed),
        setting.weights,
        Promise(space),
        journal,
        watch=watched.look,
    )
    clock.before = race.seconds / slots.slots
    progress.start("bench", 1000, "thousandths of the budget")
    try:
        race.run(slots, clock.spent)
    finally:
        progress.finish()
    return _ranked(setting, journal, slots, race, clock, progress)


def _ranked(setting: Setting, journal: Journal, slots: Slots, race: Race, clock: Clock, progress: Progress) -> Bench:
    """Measure the parents and the best setting of each method on the other two parts of the items."""
    parents = [raced for raced in race.done.values() if raced.is_parent]
    blends = {_label(blend): blend for blend in _best_of_each(race)}
    if not blends or len(parents) < 2:
        raise SearchError(f"no blend could be measured: {_why_none(race)}")
    finalists = [*parents, *blends.values()]
    selected = measured_on(finalists, "select", setting.parts.select, journal, slots, progress)
    reported = measured_on(finalists, "report", setting.parts.report, journal, slots, progress)
    own_parents = [_entrant(parent, selected, reported) for parent in parents]
    ranked = [_entrant(blend, selected, reported) for blend in blends.values()]
    weights, report_weights = list(setting.weights.values()), list(setting.report_weights.values())
    ranked.sort(key=lambda entrant: -_macro(entrant.select, weights))
    best_parent = max(own_parents, key=lambda entrant: _macro(entrant.report, report_weights))
    gaps = {entrant.name: _gap(entrant.report, best_parent.report, report_weights) for entrant in ranked}
    slots.check(blends[ranked[0].name].candidate.recipe)
    return Bench(
        setting,
        (*own_parents, *ranked),
        ranked[0].name,
        best_parent.name,
        gaps,
        holm({name: 1 - gap.better for name, gap in gaps.items()}),
        len(race.done),
        race.items,
        clock.seconds,
    )


def holm(significance: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for as many comparisons as there are (S. Holm, Scandinavian Journal of Statistics 6,
    1979): the smallest times their number, the next times one less, and none below the value before."""
    corrected: dict[str, float] = {}
    highest = 0.0
    ordered = sorted(significance, key=lambda name: significance[name])
    for place, name in enumerate(ordered):
        highest = max(highest, min(1.0, significance[name] * (len(ordered) - place)))
        corrected[name] = highest
    return corrected


@dataclass
class _Watched:
    """Moves the bar on, and tells of each candidate once. State: the candidates that it told of."""

    bar: Bar
    heard: Callable[[Raced], None]
    known: int = 0

    def look(self, race: Race) -> None:
        self.bar.move(race)
        ended = list(race.done.values())
        for raced in ended[self.known :]:
            self.heard(raced)
        self.known = len(ended)


def _best_of_each(race: Race) -> list[Raced]:
    """Return the best fully measured candidate of each method, the best first; the average counts as a method."""
    best: dict[str, Raced] = {}
    for raced in race.done.values():
        if raced.is_measured and not raced.is_parent:
            way = raced.candidate.arm or raced.name
            best[way] = max(best.get(way, raced), raced, key=_value)  # of equals the first
    return sorted(best.values(), key=lambda raced: -_value(raced))[:MOST_FINALISTS]


def _why_none(race: Race) -> str:
    """Say why no blend could be measured."""
    reasons = {raced.outcome.reason for raced in race.done.values() if raced.outcome.state == "failed"}
    return "; ".join(sorted(reasons)) or "the budget is too small"


def _macro(scores: Scores, weights: Sequence[float]) -> float:
    """Return the weighted average over the tasks."""
    return average(list(scores.values()), weights).value


def _entrant(raced: Raced, selected: Mapping[str, Scores], reported: Mapping[str, Scores]) -> Entrant:
    name = raced.candidate.name
    kind = "blend"
    if name.startswith("parent "):
        kind = "base" if raced.candidate.number == 0 else "expert"
    method, recipe = "", ""
    if kind == "blend":
        method, recipe = _made(raced), raced.candidate.recipe
    return Entrant(_label(raced), kind, method, recipe, selected[name], reported[name], raced.outcome.seconds)


def _made(raced: Raced) -> str:
    """Return how a blend was made: `lambda 1.2`, or the method where it has no scale."""
    scale = raced.candidate.values.get("lambda")
    if scale is None:
        return raced.candidate.arm.partition(" ")[0] or "linear"
    return f"lambda {scale:g}"


def _label(raced: Raced) -> str:
    return raced.candidate.arm or raced.candidate.name.removeprefix("parent ")


def _gap(first: Scores, second: Scores, weights: Sequence[float]) -> Gap:
    return average_difference([(first[task], second[task]) for task in first], weights)


def _value(raced: Raced) -> float:
    return raced.outcome.value or 0.0
