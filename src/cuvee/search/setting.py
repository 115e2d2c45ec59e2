"""The measure of a search: tasks, the parts of their items, the budget, and the inputs that must not change."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from blake3 import blake3

from cuvee import demo
from cuvee.api import recipe_from_text
from cuvee.errors import RecipeError
from cuvee.evaluation.suite import load_tasks
from cuvee.evaluation.task import Task
from cuvee.hub import Hub
from cuvee.search.public_benchmarks import refuse_public
from cuvee.search.race import Race
from cuvee.search.space import WrittenItems, WrittenSpace, scaled_recipe
from cuvee.search.split import Parts, Shares, split
from cuvee.version import __version__

PRIVATE = "-private"


@dataclass(frozen=True)
class Budget:
    """How much may be measured: full candidates' worth of search items, seconds by the clock, or tokens."""

    amount: float
    unit: Literal["candidates", "seconds", "tokens"]
    text: str


@dataclass(frozen=True)
class Setting:
    """The measure of a search: its tasks, the parts of their items, the weights of the tasks of each part.

    `objectives` are weights of tasks by the objective's name, where there are several.
    """

    tasks: tuple[Task, ...]
    private: tuple[Task, ...]
    references: tuple[str, ...]
    parts: Parts
    weights: Mapping[str, float]
    report_weights: Mapping[str, float]
    objectives: Mapping[str, Mapping[str, float]]


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
    if not space.allow_public_benchmark:
        refuse_public([*space.tasks, *(task.name for task in tasks)])
    private = _wanted_private_tasks(space)
    references = tuple(space.tasks)
    if private:
        references += tuple(_private_reference(reference) for reference in space.tasks)
    weights = _weights(tasks)
    return Setting(
        tuple(tasks),
        tuple(private),
        references,
        _parts(space.items, tasks, private),
        weights,
        _weights(private) if private else weights,
        _objectives(space, weights),
    )


def _weights(tasks: Sequence[Task]) -> dict[str, float]:
    return {task.name: task.weight for task in tasks}


def _objectives(space: WrittenSpace, weights: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the weights of each objective's tasks: as written, or those that the tasks have."""
    objectives = {}
    for name, written in space.objectives.items():
        for task in written:
            if task not in weights:
                raise RecipeError(f"objectives.{name}: there is no task '{task}' among {', '.join(weights)}")
        own = written if isinstance(written, dict) else weights
        objectives[name] = {task: own[task] for task in written}
    return objectives


def _wanted_private_tasks(space: WrittenSpace) -> list[Task]:
    """Return the private parts of the tasks where the space asks for them, or says nothing and all tasks have them."""
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
        select = items.select or 1 - search
        return split(_ids(tasks), Shares(search, select, 0.0), private=_ids(private))
    report = items.report if isinstance(items.report, float) else 0.25
    select = items.select or 1 - search - report
    return split(_ids(tasks), Shares(search, select, report))


def _ids(tasks: Sequence[Task]) -> dict[str, list[str]]:
    ids = {}
    for task in tasks:
        ids[task.name] = [sample.id for sample in task.samples]
    return ids


def _private_tasks(references: Sequence[str]) -> list[Task]:
    """Return the private parts of all tasks, none where any of them has none."""
    tasks: list[Task] = []
    for reference in references:
        private = _private_reference(reference)
        if private not in demo.task_names() and not Path(private).is_file():
            return []
        tasks += load_tasks(private)
    return tasks


def _private_reference(reference: str) -> str:
    """Return the name of the private part of a task: `sort-private`, `folder/sort-private.yaml`."""
    path = Path(reference)
    if not path.suffix:
        return reference + PRIVATE
    return str(path.with_name(path.stem + PRIVATE + path.suffix))


def head_of(space: WrittenSpace, setting: Setting, places: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """Return the inputs that must not change while a search goes on. `make_plan` describes `places`."""
    from cuvee.engine.identity import inputs_of
    from cuvee.plan import make_plan

    hub = Hub(offline=places is not None)
    plan = make_plan(recipe_from_text(scaled_recipe(space, 1.0)), places=places, hub=hub)
    written = space.model_dump(mode="json")
    del written["budget"]  # a search may go on for longer
    texts = {model.text: _file_digest(model.text) for model in space.models if model.text is not None}
    return {
        "texts": texts,
        "cuvee": __version__,
        "space": written,
        "tasks": {task.name: task.digest for task in (*setting.tasks, *setting.private)},
        "models": inputs_of(plan),
    }


def _file_digest(name: str) -> str:
    """Return a digest of a text's file; a bundled task of that name changes with the version only."""
    path = Path(name)
    return blake3(path.read_bytes()).hexdigest() if path.is_file() else ""


class Clock:
    """Says how much of a budget is gone. State: when this process began, and the cost of earlier processes.

    With `most_tokens` a race ends in time for the measures after it, of `items_after` items, to stay within them.
    """

    def __init__(self, budget: Budget, most_tokens: int | None = None, items_after: int = 0) -> None:
        self.budget, self.most_tokens, self.items_after = budget, most_tokens, items_after
        self.before = 0.0
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def spent(self, race: Race) -> float:
        share = self._share(race)
        if self.most_tokens is None:
            return share
        return max(share, (race.tokens + self._tokens_after(race)) / self.most_tokens)

    def _tokens_after(self, race: Race) -> float:
        """Return the cost of a next candidate and of all measures after the race if each item is as long as the
        longest."""
        longest = max((each.tokens / each.items for each in race.outcomes if each.items), default=0.0)
        return longest * (race.whole + self.items_after)

    def _share(self, race: Race) -> float:
        if self.budget.unit == "candidates":
            return race.items / (race.whole * self.budget.amount)
        if self.budget.unit == "tokens":
            return race.tokens / self.budget.amount
        return self.seconds / self.budget.amount
