"""A search from its space to its report: split the items, race, choose, report."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from cuvee import demo
from cuvee.api import recipe_from_text
from cuvee.errors import RecipeError, SearchError
from cuvee.evaluate.suite import load_tasks
from cuvee.evaluate.task import Task
from cuvee.executor import Executor
from cuvee.hub import Hub
from cuvee.progress import Progress, Silent
from cuvee.search.arms import Arms
from cuvee.search.choice import AnchorKind, Choice, choose, pick
from cuvee.search.journal import Block, Journal, Part, open_journal
from cuvee.search.race import Answer, Items, Proposer, Race, Raced
from cuvee.search.racing import Scores
from cuvee.search.report import (
    Candidate,
    Cost,
    Curve,
    Dimension,
    Phase,
    SearchReport,
    TaskItems,
    write_report,
)
from cuvee.search.samplers import chosen_kind
from cuvee.search.space import Arm, WrittenItems, WrittenSpace, arms_of, model_names, scaled_recipe
from cuvee.search.split import Parts, Shares, blocks, split
from cuvee.version import __version__

BEST = "best.yaml"
PRIVATE = "-private"
ANCHORS_CHOSEN = 2
"""So many of the best parents, and of the best defaults, answer the items to choose by."""

TRIES = 3
SILENT: Progress = Silent()


@dataclass(frozen=True)
class Budget:
    """How much may be measured: full candidates' worth of search items, seconds by the clock, or tokens."""

    amount: float
    unit: Literal["candidates", "seconds", "tokens"]
    text: str


@dataclass(frozen=True)
class Setting:
    """What a search measures on: its tasks, the parts of their items, the weights of the tasks of each part."""

    tasks: tuple[Task, ...]
    private: tuple[Task, ...]
    references: tuple[str, ...]
    parts: Parts
    weights: Mapping[str, float]
    report_weights: Mapping[str, float]


@dataclass
class Slots:
    """Measures in the slots of an executor. Each keeps a resident model."""

    executor: Executor
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    memory_bytes: int | None = None
    device: Any = "auto"
    _setup: Any = field(init=False)

    def __post_init__(self) -> None:
        from cuvee.search.resident import DEFAULT_MEMORY, Setup

        memory = self.memory_bytes or DEFAULT_MEMORY
        self._setup = Setup(self.models, self.tasks, memory_bytes=memory, device=self.device)

    @property
    def slots(self) -> int:
        return self.executor.slots

    def submit(self, slot: int, recipe: str, items: Items) -> None:
        from cuvee.search.resident import measured

        self.executor.submit(slot, measured, self._setup, recipe, items)

    def next_done(self) -> Answer:
        done = self.executor.next_done()
        if done.failure:
            return Answer(done.slot, {}, 0, 0.0, done.failure, done.lost)
        return Answer(done.slot, done.value.scores, done.value.tokens, done.value.seconds)

    def check(self, recipe: str) -> None:
        """Raise SearchError where a merge on the disk gives other bytes or answers than the one in memory."""
        self.executor.submit(0, _checked, self._setup, recipe)
        done = self.executor.next_done()
        if done.failure:
            raise SearchError(f"the winner: {done.failure}", hint="please report it: this is a defect of cuvee")


def _checked(setup: Any, recipe: str) -> None:
    from cuvee.search.resident import resident_of

    resident_of(setup).check_on_disk(recipe)


def search(
    space: WrittenSpace,
    out: Path,
    executor: Executor,
    *,
    folder: Path,
    budget: Budget,
    fresh: bool = False,
    memory_bytes: int | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
    watch: Callable[[SearchReport], None] = lambda report: None,
) -> SearchReport:
    """Search a space, and write journal, report and best recipe to `out`; go on with what is there.

    `folder` is where files named by the space lie. `watch` gets a report now and then while the search runs. Raises
    RecipeError for a space that nothing can be made of, and SearchError where nothing could be measured.
    """
    setting = setting_of(space)
    journal = open_journal(out, head_of(space, setting), fresh=fresh)
    models = (space.base_model, *(model.model for model in space.models))
    slots = Slots(executor, models, setting.references, memory_bytes, device)
    proposer = Arms(space, folder)
    return run(space, setting, journal, slots, proposer, budget=budget, progress=progress, watch=watch)


def run(
    space: WrittenSpace,
    setting: Setting,
    journal: Journal,
    slots: Slots,
    proposer: Proposer,
    *,
    budget: Budget,
    progress: Progress,
    watch: Callable[[SearchReport], None],
) -> SearchReport:
    """Race what a proposer proposes, choose, report."""
    clock = Clock(budget)
    shown = _Shown(space, setting, journal.folder, clock, slots.slots, progress, watch)
    race = Race(
        blocks(setting.parts.search, block=space.items.block, seed=space.seed),
        setting.weights,
        proposer,
        journal,
        racing=space.racing,
        watch=shown.look,
    )
    clock.before = race.seconds / slots.slots
    progress.start("search", 1000, "thousandths of the budget")
    try:
        race.run(slots, clock.spent)
    except KeyboardInterrupt:
        shown.write(race, "interrupted")
        raise
    finally:
        progress.finish()
    if race.incumbent is None:
        reasons = {each.outcome.reason for each in race.done.values()}
        raise SearchError(f"nothing could be measured: {'; '.join(sorted(reasons)) or 'the budget is too small'}")
    choice, selected = _chosen(space, setting, journal, slots, race, progress)
    if choice is None:
        shown.write(race, "interrupted")
        raise SearchError(
            f"the budget, {budget.text}, was used up before a candidate beside the anchors was measured",
            where=str(journal.folder),
            hint="run the search again with a larger --budget: it goes on from there",
        )
    slots.check(_named(race, choice.winner).candidate.recipe)
    return shown.write(race, "finished", choice, selected)


def budget_of(text: str | int) -> Budget:
    """Read a budget: 200 (full candidates), 30m or 2h, 50Mtok. Raises RecipeError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|[kM]?tok)?\s*", str(text))
    if match is None or float(match[1]) <= 0:
        raise RecipeError(f"expected a budget such as 200, 30m, 2h or 50Mtok, found '{text}'")
    amount, unit = float(match[1]), match[2] or ""
    if unit in ("s", "m", "h"):
        return Budget(amount * {"s": 1, "m": 60, "h": 3600}[unit], "seconds", str(text))
    if unit:
        return Budget(amount * {"tok": 1, "ktok": 1e3, "Mtok": 1e6}[unit], "tokens", str(text))
    return Budget(amount, "candidates", str(text))


def setting_of(space: WrittenSpace) -> Setting:
    """Read the tasks and share out their items. Raises RecipeError and EvaluationError."""
    tasks: list[Task] = []
    for reference in space.tasks:
        tasks += load_tasks(reference)
    private = _wanted_private_tasks(space)
    references = tuple(space.tasks)
    if private:
        references += tuple(_private_reference(reference) for reference in space.tasks)
    reported = private or tasks
    return Setting(
        tuple(tasks),
        tuple(private),
        references,
        _parts(space.items, tasks, private),
        {task.name: task.weight for task in tasks},
        {task.name: task.weight for task in reported},
    )


def _wanted_private_tasks(space: WrittenSpace) -> list[Task]:
    """Return the private parts of the tasks where the space asks for them, or says nothing and all tasks have one."""
    if space.items.report not in (None, "private"):
        return []
    tasks = _private_tasks(space.tasks)
    if not tasks and space.items.report == "private":
        raise RecipeError(
            f"items.report: not every task has a {PRIVATE.removeprefix('-')} part beside it",
            hint="a task NAME needs a task NAME-private; or give report a share of the items, such as 0.25",
        )
    return tasks


def _parts(items: WrittenItems, tasks: Sequence[Task], private: Sequence[Task]) -> Parts:
    """Share the items out: half to search by, and the other half as the space says, or as `Shares` does."""
    search = items.search or 0.5
    if private:
        return split(_ids(tasks), Shares(search, items.select or 1 - search, 0.0), private=_ids(private))
    report = items.report if isinstance(items.report, float) else 0.25
    return split(_ids(tasks), Shares(search, items.select or 1 - search - report, report))


def _ids(tasks: Sequence[Task]) -> dict[str, list[str]]:
    ids = {}
    for task in tasks:
        ids[task.name] = [sample.id for sample in task.samples]
    return ids


def _private_tasks(references: Sequence[str]) -> list[Task]:
    """Return the private parts of all tasks, none where one of them has none."""
    tasks: list[Task] = []
    for reference in references:
        private = _private_reference(reference)
        if private not in demo.task_names() and not Path(private).is_file():
            return []
        tasks += load_tasks(private)
    return tasks


def _private_reference(reference: str) -> str:
    """Return what the private part of a task is called: `sort-private`, `folder/sort-private.yaml`."""
    path = Path(reference)
    if not path.suffix:
        return reference + PRIVATE
    return str(path.with_name(path.stem + PRIVATE + path.suffix))


def head_of(space: WrittenSpace, setting: Setting) -> dict[str, Any]:
    """Return what a search must not change in while it goes on."""
    from cuvee.engine.identity import inputs_of
    from cuvee.plan import make_plan

    plan = make_plan(recipe_from_text(scaled_recipe(space, 1.0)), hub=Hub())
    written = space.model_dump(mode="json")
    del written["budget"]  # a search may go on for longer
    return {
        "cuvee": __version__,
        "space": written,
        "tasks": {task.name: task.digest for task in (*setting.tasks, *setting.private)},
        "models": inputs_of(plan),
    }


class Clock:
    """Says how much of a budget is gone. State: when this process began, and what earlier ones took."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.before = 0.0
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def spent(self, race: Race) -> float:
        if self.budget.unit == "candidates":
            return race.items / (race.whole * self.budget.amount)
        if self.budget.unit == "tokens":
            return race.tokens / self.budget.amount
        return self.seconds / self.budget.amount


def _chosen(
    space: WrittenSpace, setting: Setting, journal: Journal, slots: Slots, race: Race, progress: Progress
) -> tuple[Choice | None, dict[str, Scores]]:
    """Choose among the best on fresh items, and compare the choice with the anchors on others. None without rivals."""
    measured = sorted((each for each in race.done.values() if each.outcome.state == "measured"), key=_falling)
    anchors = _anchor_kinds(measured)
    candidates = [each for each in measured if each.candidate.name not in anchors][: space.select.top]
    if not candidates or not anchors:
        return None, {}
    chosen_anchors = []
    for kind in ("parent", "default"):
        chosen_anchors += [each for each in measured if anchors.get(each.candidate.name) == kind][:ANCHORS_CHOSEN]
    finalists = [*candidates, *chosen_anchors]
    kinds = {each.candidate.name: anchors[each.candidate.name] for each in chosen_anchors}
    selected = measured_on(finalists, "select", setting.parts.select, journal, slots, progress)
    searched = {each.candidate.name: each.scores for each in finalists}
    picked = pick(searched, selected, setting.weights, kinds, distances=_distances(space, candidates))
    last = [each for each in finalists if each.candidate.name in picked.reported]
    reported = measured_on(last, "report", setting.parts.report, journal, slots, progress)
    every = {each.candidate.name: each.scores for each in measured if each.candidate.name not in anchors}
    choice = choose(picked, every, selected, reported, setting.weights, report_weights=setting.report_weights)
    return choice, selected


def measured_on(
    finalists: Sequence[Raced], part: Part, items: Items, journal: Journal, slots: Slots, progress: Progress
) -> dict[str, Scores]:
    """Measure finalists on a part of the items; what the journal has of it is not measured again."""
    known = {each.candidate.number: journal.blocks(each.candidate.number, part) for each in finalists}
    waiting = [each for each in finalists if not known[each.candidate.number]]
    running: dict[int, Raced] = {}
    failures: dict[int, int] = {}
    idle = list(range(slots.slots))
    progress.start(f"measure on the items to {part}", len(finalists), "candidates")
    progress.advance(len(finalists) - len(waiting))
    while waiting or running:
        while waiting and idle:
            slot = idle.pop(0)
            running[slot] = waiting.pop(0)
            slots.submit(slot, running[slot].candidate.recipe, items)
        answer = slots.next_done()
        finalist = running.pop(answer.slot)
        idle.append(answer.slot)
        number = finalist.candidate.number
        if answer.failure:
            failures[number] = failures.get(number, 0) + 1
            if not answer.lost or failures[number] == TRIES:
                raise SearchError(f"{finalist.candidate.name} cannot be measured any more: {answer.failure}")
            waiting.append(finalist)
            continue
        block = Block(0, 1, dict(answer.scores), answer.tokens, answer.seconds)
        journal.answered(number, block, part)
        known[number] = (block,)
        progress.advance(1)
    progress.finish()
    return {each.candidate.name: known[each.candidate.number][0].scores for each in finalists}


def _anchor_kinds(measured: Sequence[Raced]) -> dict[str, AnchorKind]:
    kinds: dict[str, AnchorKind] = {}
    for each in measured:
        if each.candidate.anchor:
            kinds[each.candidate.name] = "parent" if each.candidate.name.startswith("parent ") else "default"
    return kinds


def _distances(space: WrittenSpace, candidates: Sequence[Raced]) -> dict[str, float]:
    """Return how far candidates are from their method's defaults: the mean share of the ranges."""
    arms = {arm.method: arm for arm in arms_of(space)}
    distances = {}
    for each in candidates:
        arm = arms.get(each.candidate.arm)
        if arm is not None and arm.dimensions:
            shares = [_apart(arm, dimension.name, each.candidate.values) for dimension in arm.dimensions]
            distances[each.candidate.name] = sum(shares) / len(shares)
    return distances


def _apart(arm: Arm, name: str, values: Mapping[str, Any]) -> float:
    dimension = next(each for each in arm.dimensions if each.name == name)
    value, default = values[name], arm.default[name]
    if dimension.choices:
        return float(value != default)
    return abs(float(value) - float(default)) / (dimension.high - dimension.low)


def _falling(raced: Raced) -> tuple[float, int]:
    return -(raced.outcome.value or 0.0), raced.candidate.number


def _named(race: Race, name: str) -> Raced:
    return next(each for each in race.done.values() if each.candidate.name == name)


@dataclass
class _Shown:
    """Shows a search while it runs, and writes its report. State: when it last did."""

    space: WrittenSpace
    setting: Setting
    folder: Path
    clock: Clock
    workers: int
    progress: Progress
    watch: Callable[[SearchReport], None]
    told: int = 0
    looked: float = 0.0

    def look(self, race: Race) -> None:
        """Move the bar on; write a report every few seconds."""
        thousandths = min(1000, int(1000 * self.clock.spent(race)))
        self.progress.advance(thousandths - self.told)
        self.told = thousandths
        self.progress.note(self.line(race))
        if time.monotonic() - self.looked > 5:
            self.looked = time.monotonic()
            self.watch(self.report(race, "running"))

    def line(self, race: Race) -> str:
        """Return the best so far and how many were tried, in a few words."""
        if race.incumbent is None:
            return "measuring the first"
        value = 100 * (race.incumbent.outcome.value or 0.0)
        return f"best {value:.1f} ({race.incumbent.candidate.name}), {len(race.done)} tried"

    def write(
        self, race: Race, phase: Phase, choice: Choice | None = None, selected: Mapping[str, Scores] | None = None
    ) -> SearchReport:
        """Write `report.json` and `best.yaml`."""
        report = self.report(race, phase, choice, selected or {})
        write_report(report, self.folder)
        if report.recipe:
            (self.folder / BEST).write_text(report.recipe, encoding="utf-8")
        self.watch(report)
        return report

    def report(
        self,
        race: Race,
        phase: Phase,
        choice: Choice | None = None,
        selected: Mapping[str, Scores] | None = None,
    ) -> SearchReport:
        """Return what can be said at this moment."""
        best = race.incumbent if choice is None else _named(race, choice.winner)
        arms = arms_of(self.space)
        return SearchReport(
            title=f"Search over {', '.join(arm.method for arm in arms)}",
            phase=phase,
            base=self.space.base_model,
            models=tuple(model.model for model in self.space.models),
            tasks=self._tasks(),
            sampler=self.space.sampler if self.space.sampler != "auto" else chosen_kind(arms[0].dimensions),
            budget=self.clock.budget.text,
            seed=self.space.seed,
            dimensions=_dimensions(arms, best),
            candidates=tuple(self._candidates(race, selected or {})),
            cost=Cost(race.items, race.tokens, self.clock.seconds, self.workers),
            recipe="" if best is None else _recipe_text(best, choice),
            choice=choice,
            curves=() if best is None else tuple(_curves(self.space, best)),
            warnings=self.setting.parts.warnings,
        )

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
        from cuvee.search.racing import weighted_mean

        kinds = _anchor_kinds(list(race.done.values()))
        rows = []
        for each in race.done.values():
            candidate, outcome = each.candidate, each.outcome
            on_select = None
            if candidate.name in selected:
                on_select = weighted_mean(selected[candidate.name], self.setting.weights)
            rows.append(
                Candidate(
                    candidate.number,
                    candidate.name,
                    candidate.arm or yaml.safe_load(candidate.recipe)["merge_method"],
                    {name: _plain(value) for name, value in candidate.values.items()},
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
    arm = next((arm for arm in arms if best is not None and arm.method == best.candidate.arm), arms[0])
    rows = []
    for dimension in arm.dimensions:
        if dimension.choices:
            rows.append(Dimension(dimension.name, choices=tuple(str(_plain(each)) for each in dimension.choices)))
        else:
            rows.append(Dimension(dimension.name, dimension.low, dimension.high, dimension.log))
    return tuple(rows)


def _curves(space: WrittenSpace, best: Raced) -> list[Curve]:
    """Return the weights of a recipe over the depth, model by model."""
    names = {model.model: name for model, name in zip(space.models, model_names(space), strict=True)}
    document = yaml.safe_load(best.candidate.recipe)
    curves = []
    for model in document["models"]:
        name = names.get(model["model"], model["model"])
        weight = model.get("parameters", {}).get("weight")
        choices = weight if isinstance(weight, list) and weight and isinstance(weight[0], dict) else [{"value": weight}]
        for choice in choices:
            if isinstance(choice["value"], list):
                curves.append(Curve(name, choice.get("filter", "all"), tuple(map(float, choice["value"]))))
    return curves


def _recipe_text(best: Raced, choice: Choice | None) -> str:
    """Return a recipe with a line above that says where it comes from."""
    said = "the best so far of a search that has not ended" if choice is None else choice.verdict
    return f"# {best.candidate.name}: {said}\n{best.candidate.recipe}"
