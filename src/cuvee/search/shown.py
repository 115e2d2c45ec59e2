"""The progress of a search while it runs, and the report that it ends with."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cuvee.progress import Progress
from cuvee.search import space
from cuvee.search.choice import AnchorKind, Choice
from cuvee.search.front import Front
from cuvee.search.importance import importance
from cuvee.search.journal import FRONT, Journal
from cuvee.search.race import Race, Raced
from cuvee.search.racing import Scores, weighted_mean
from cuvee.search.report import Candidate, Cost, Curve, Dimension, Phase, SearchReport, TaskItems, write_report
from cuvee.search.samplers import chosen_kind
from cuvee.search.setting import Clock, Setting
from cuvee.search.space import Arm, WrittenSpace, arms_of, model_names

BEST = "best.yaml"
SECONDS_BETWEEN_REPORTS = 5


@dataclass
class Bar:
    """The bar of a race, in thousandths of its budget. State: how far it is."""

    clock: Clock
    progress: Progress
    thousandths: int = 0

    def move(self, race: Race) -> None:
        """Move on to where the budget is, and name the best so far."""
        thousandths = min(1000, int(1000 * self.clock.spent(race)))
        self.progress.advance(thousandths - self.thousandths)
        self.thousandths = thousandths
        if race.incumbent is not None:
            value = 100 * (race.incumbent.outcome.value or 0.0)
            self.progress.note(f"best {value:.1f} ({race.incumbent.candidate.name}), {len(race.done)} tried")


@dataclass
class Shown:
    """Shows a search while it runs, and writes its report. State: when it last did."""

    space: WrittenSpace
    setting: Setting
    journal: Journal
    bar: Bar
    workers: int
    watch: Callable[[SearchReport], None]
    looked: float = 0.0

    def look(self, race: Race) -> None:
        """Move the bar on; write a report every few seconds."""
        self.bar.move(race)
        if time.monotonic() - self.looked > SECONDS_BETWEEN_REPORTS:
            self.looked = time.monotonic()
            self.watch(self.report(race, "running"))

    def write(
        self,
        race: Race,
        phase: Phase,
        choice: Choice | None = None,
        selected: Mapping[str, Scores] | None = None,
        front: Front | None = None,
    ) -> SearchReport:
        """Write `report.json`, `best.yaml`, and a recipe for each point of a front."""
        report = self.report(race, phase, choice, selected or {})
        report = replace(report, front=front, importance=self._importance(race, choice))
        folder = self.journal.folder
        write_report(report, folder)
        _write_front(front, race, folder / FRONT)
        if report.recipe:
            (folder / BEST).write_text(report.recipe, encoding="utf-8")
        self.watch(report)
        return report

    def report(
        self,
        race: Race,
        phase: Phase,
        choice: Choice | None = None,
        selected: Mapping[str, Scores] | None = None,
    ) -> SearchReport:
        """Return the report at this moment."""
        best = race.incumbent if choice is None else named(race, choice.winner)
        items, tokens = (race.items, race.tokens) if choice is None else self.journal.cost()
        arms = arms_of(self.space)
        return SearchReport(
            title=f"Search over {', '.join(arm.method for arm in arms)}",
            phase=phase,
            base=self.space.base_model,
            models=tuple(model.model for model in self.space.models),
            tasks=self._tasks(),
            sampler=self.space.sampler if self.space.sampler != "auto" else chosen_kind(arms[0].dimensions),
            budget=self.bar.clock.budget.text,
            seed=self.space.seed,
            evaluation_dtype=self.space.evaluation_dtype,
            dimensions=_dimensions(arms, best),
            candidates=tuple(self._candidates(race, selected or {})),
            cost=Cost(items, tokens, self.bar.clock.seconds, self.workers),
            recipe="" if best is None else _recipe_text(best, choice),
            choice=choice,
            curves=() if best is None else tuple(_curves(self.space, best)),
            warnings=self.setting.parts.warnings,
        )

    def _importance(self, race: Race, choice: Choice | None) -> dict[str, float]:
        """Return which dimensions of the picked candidate's arm mattered."""
        if choice is None:
            return {}
        picked = named(race, choice.picked).candidate.arm
        arm = next(arm for arm in arms_of(self.space) if arm.method == picked)
        return importance(arm, list(race.done.values()))

    def _tasks(self) -> tuple[TaskItems, ...]:
        parts, rows = self.setting.parts, []
        reported = list(parts.report)
        for place, task in enumerate(self.setting.tasks):
            other = reported[place]
            rows.append(
                TaskItems(
                    task.name,
                    task.weight,
                    len(parts.search[task.name]),
                    len(parts.select[task.name]),
                    len(parts.report[other]),
                    other,
                )
            )
        return tuple(rows)

    def _candidates(self, race: Race, selected: Mapping[str, Scores]) -> list[Candidate]:
        kinds = anchor_kinds(list(race.done.values()))
        rows = []
        for each in race.done.values():
            candidate, outcome = each.candidate, each.outcome
            on_select = None
            if candidate.name in selected:
                on_select = weighted_mean(selected[candidate.name], self.setting.weights)
            values = {name: _plain(value) for name, value in candidate.values.items()}
            rows.append(
                Candidate(
                    candidate.number,
                    candidate.name,
                    candidate.arm or yaml.safe_load(candidate.recipe)["merge_method"],
                    values,
                    outcome.state,
                    outcome.value,
                    outcome.standard_error,
                    outcome.items,
                    outcome.tokens,
                    outcome.seconds,
                    outcome.reason,
                    on_select,
                    kinds.get(candidate.name),
                )
            )
        return sorted(rows, key=lambda row: row.number)


def _plain(value: float | str | bool) -> float | str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else float(value)


def _dimensions(arms: Sequence[Arm], best: Raced | None) -> tuple[Dimension, ...]:
    """Return the dimensions of the best candidate's arm: those of different arms are not comparable."""
    by_method = {arm.method: arm for arm in arms}
    arm = arms[0]
    if best is not None:
        arm = by_method.get(best.candidate.arm, arm)
    return tuple(map(_dimension, arm.dimensions))


def _dimension(dimension: space.Dimension) -> Dimension:
    """Return a dimension of the space as the report has it."""
    if dimension.choices:
        return Dimension(dimension.name, choices=tuple(str(_plain(choice)) for choice in dimension.choices))
    return Dimension(dimension.name, dimension.low, dimension.high, dimension.log)


def _by_filter(weight: Any) -> list[dict[str, Any]]:
    """Return a recipe's weight as the values of filters; without filters it is the value of all tensors."""
    match weight:
        case [dict(), *_]:
            return list(weight)
        case _:
            return [{"value": weight}]


def _curves(space: WrittenSpace, best: Raced) -> list[Curve]:
    """Return the weights of a recipe over the depth, model by model."""
    names = {model.model: name for model, name in zip(space.models, model_names(space), strict=True)}
    document = yaml.safe_load(best.candidate.recipe)
    curves = []
    for model in document["models"]:
        name = names.get(model["model"], model["model"])
        weight = model.get("parameters", {}).get("weight")
        for choice in _by_filter(weight):
            if isinstance(choice["value"], list):
                curves.append(Curve(name, choice.get("filter", "all"), tuple(map(float, choice["value"]))))
    return curves


def _write_front(front: Front | None, race: Race, folder: Path) -> None:
    """Write the recipes of a front anew, each under its candidate's number."""
    for file in folder.glob("*.yaml"):
        file.unlink()
    if front is None:
        return
    folder.mkdir(exist_ok=True)
    for point in front.points:
        candidate = named(race, point.name).candidate
        values = zip(front.objectives, point.values, strict=True)
        said = ", ".join(f"{name} {100 * estimate.value:.1f}" for name, estimate in values)
        text = f"# {candidate.name}: {said}\n{candidate.recipe}"
        (folder / f"{candidate.number}.yaml").write_text(text, encoding="utf-8")


def _recipe_text(best: Raced, choice: Choice | None) -> str:
    """Return a recipe with a line above that says where it comes from."""
    said = "the best so far of a search that has not ended" if choice is None else choice.verdict
    return f"# {best.candidate.name}: {said}\n{best.candidate.recipe}"


def anchor_kinds(measured: Sequence[Raced]) -> dict[str, AnchorKind]:
    """Return the names of the anchors among some candidates, with their kinds."""
    kinds: dict[str, AnchorKind] = {}
    for each in measured:
        if each.candidate.anchor:
            kinds[each.candidate.name] = "parent" if each.candidate.name.startswith("parent ") else "default"
    return kinds


def named(race: Race, name: str) -> Raced:
    """Return a candidate that has ended by its name."""
    return next(each for each in race.done.values() if each.candidate.name == name)
