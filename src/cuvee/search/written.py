"""The parts that are read of a search in a folder, and the space that a new search begins with."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from cuvee.amounts import signed
from cuvee.errors import RecipeError
from cuvee.evaluation.statistics import average, average_difference
from cuvee.evaluation.suite import load_tasks
from cuvee.executor import Here
from cuvee.progress import Progress
from cuvee.search.journal import CANDIDATES, Candidate, Journal
from cuvee.search.racing import Scores
from cuvee.search.report import Candidate as Shown
from cuvee.search.report import SearchReport, read_report
from cuvee.search.slots import Slots
from cuvee.search.space import parse_space

NEW = """\
# What `cuvee search THIS OUT` looks for. Every key but the first three may be left out.
{models}
# How much may be measured: full candidates' worth of items, or a time such as 30m or 2h, or tokens such as 50Mtok.
budget: 200

search:
  # Each method is an arm; arms that stay behind stop at a quarter and at a half of the budget.
  method: [task_arithmetic, tsv_m]
  # A weight of each model, by three control points over the depth. More roles: [self_attn, mlp].
  # weights: {{per: model, over: depth, points: 3, roles: [], range: [0, 1.2]}}
  # Ranges may stand where a recipe has numbers.
  # parameters: {{lambda: {{log: [0.2, 2.0]}}, density: {{choice: [0.2, 0.5, 0.8]}}}}
  # Models may be left out.
  # include: {{at_least: 2}}

# Half of the items to search by; the rest is to choose the winner by, and to report on. With NAME-private tasks beside
# the tasks, those are reported on.
# items: {{search: 0.5, select: 0.25, report: 0.25, block: 25}}
# select: {{top: 8}}
# Several objectives: groups of tasks, with weights or those that the tasks have. The search ends with their front.
# objectives: {{first: [TASK], second: {{TASK: 1, OTHER: 2}}}}
# sampler: auto                     # or tpe, cma, gp, random, grid
# anchors: [parents, average, defaults, lambda, {{file: my-recipe.yaml}}]
# What the blends compute in when they answer: bfloat16 takes a third of the time where the processor has it.
# evaluation_dtype: float32
# A well-known public test set is refused as a task, unless:
# allow_public_benchmark: true
# seed: 0
"""


def new_space(base: str, models: Sequence[str], tasks: Sequence[str]) -> str:
    """Return a space with comments. Raises RecipeError where it could not be read again."""
    document = {"base_model": base, "models": list(models), "tasks": list(tasks)}
    text = NEW.format(models=yaml.safe_dump(document, sort_keys=False, default_flow_style=None).rstrip())
    parse_space(text, folder=Path(), where="the new space")
    return text


def recipe_of(folder: Path, number: int | None) -> str:
    """Return the recipe of a candidate, or the winner's. Raises RecipeError for a number that there is not."""
    if number is None:
        return read_report(folder).recipe
    for candidate in _candidates(folder):
        if candidate.number == number:
            return candidate.recipe
    raise RecipeError(f"there is no candidate {number}", where=str(folder / CANDIDATES))


def measured_again(folder: Path, tasks: Sequence[str], top: int, progress: Progress) -> list[dict[str, Any]]:
    """Measure the best candidates and the best anchors on other tasks; the best first.

    `against` is how far a recipe is from the best parent among them.
    """
    report = read_report(folder)
    chosen = _best(report, top)
    recipes = {candidate.name: candidate.recipe for candidate in _candidates(folder) if candidate.name in chosen}
    loaded = list(chain.from_iterable(map(load_tasks, tasks)))
    slots = Slots(Here(), (report.base, *report.models), tuple(tasks), dtype=report.evaluation_dtype)
    items = {}
    for task in loaded:
        items[task.name] = [sample.id for sample in task.samples]
    scores: dict[str, Scores] = {}
    progress.start("measure", len(recipes), "recipes")
    for name, recipe in recipes.items():
        slots.submit(0, recipe, items)
        answer = slots.next_done()
        if answer.failure:
            raise RecipeError(f"{name}: {answer.failure}")
        scores[name] = answer.scores
        progress.advance(1)
    progress.finish()
    return _rows(scores, {task.name: task.weight for task in loaded}, _parent(report, scores))


def _rows(scores: dict[str, Scores], weights: dict[str, float], parent: str | None) -> list[dict[str, Any]]:
    rows = []
    for name, own in scores.items():
        estimate = average([own[task] for task in weights], list(weights.values()))
        row = {"name": name, "value": estimate.value, "low": estimate.low, "high": estimate.high, "against": ""}
        if parent is not None and name != parent:
            gap = average_difference([(own[task], scores[parent][task]) for task in weights], list(weights.values()))
            row["against"] = f"{signed(gap.value)} ({signed(gap.low)} to {signed(gap.high)})"
        rows.append(row)
    return sorted(rows, key=lambda row: -row["value"])


def _best(report: SearchReport, top: int) -> set[str]:
    """Return the names of the best candidates, of the best parent and of the best default."""
    measured = [candidate for candidate in report.candidates if candidate.state == "measured"]
    measured.sort(key=_falling)
    names: set[str] = set()
    for anchor, most in ((None, top), ("parent", 1), ("default", 1)):
        alike = [candidate.name for candidate in measured if candidate.anchor == anchor]
        names.update(alike[:most])
    return names


def _falling(candidate: Shown) -> float:
    """Order candidates by their score on the items to choose by, or else on those to search by, the best first."""
    score = candidate.value if candidate.select is None else candidate.select
    return -(score or 0.0)


def _parent(report: SearchReport, scores: dict[str, Scores]) -> str | None:
    parents = [candidate.name for candidate in report.candidates if candidate.anchor == "parent"]
    return next((name for name in parents if name in scores), None)


def _candidates(folder: Path) -> list[Candidate]:
    if not (folder / CANDIDATES).exists():
        raise RecipeError("there is no search in this folder", where=str(folder), hint="`cuvee search SPACE OUT`")
    return [event for event in Journal(folder).events() if isinstance(event, Candidate)]
