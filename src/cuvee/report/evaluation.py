"""Evaluations side by side as an HTML file: scores, differences, and every item.

The page needs no network. Scores and differences are there without scripts; the browser of items needs them, for it
draws from data in the page. That data is JSON without any `<`, and the script shows it as text only.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from cuvee.amounts import points, signed
from cuvee.evaluation import Gap, Ranking, Report, Score, rank
from cuvee.evaluation.evaluated import Evaluated, Line
from cuvee.evaluation.report import Figure, TaskReport
from cuvee.report.page import Scale, duration
from cuvee.report.template import render, shipped, stylesheet

BAR = Scale(0.0, 1.0, 260, (0.0, 0.25, 0.5, 0.75, 1.0))
MACRO = "All tasks"
ABOUT = 120
"""Characters of an item's input that the list shows: the end of it, where the question stands."""


@dataclass(frozen=True)
class Group:
    """A task, or the macro average: its main metric, and a score of each model."""

    title: str
    metric: str
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Measure:
    """A metric of a whole task, or of a group of tasks, on a scale of its own, and its figure for each model.

    None stands for a model whose report has no such figure.
    """

    title: str
    metric: str
    figures: tuple[Figure | None, ...]


@dataclass(frozen=True)
class Contrast:
    """The first model minus each of the others, on a task or on average."""

    title: str
    gaps: tuple[Gap, ...]


def render_evaluation(models: Sequence[Evaluated], *, names: Sequence[str] = ()) -> str:
    """Render the page of evaluations; the first is compared with each of the others.

    Raises EvaluationError if they are not of the same items, MissingExtra without jinja2.
    """
    reports = [model.report for model in models]
    models_named = [report.model for report in reports]
    shown = list(names) or short_names(models_named)
    ranking = _ranking(reports)
    values = {
        "names": shown,
        "reports": reports,
        "summary": summary(reports),
        "groups": groups(reports),
        "measures": measures(reports),
        "contrasts": contrasts(ranking) if ranking else (),
        "ranking": ranking,
        "scale": BAR,
        "data": page_data(models, shown),
        "settings": settings(reports),
        "style": stylesheet("evaluation.css"),
        "script": shipped("evaluation.js"),
    }
    filters: dict[str, Callable[..., str]] = {
        "points": points, "signed": signed, "duration": duration, "sure": probability, "number": number
    }  # fmt: skip
    return render("evaluation.html.j2", values, filters)


def _ranking(reports: Sequence[Report]) -> Ranking | None:
    """Rank several models by their macro averages; None where there is nothing to rank."""
    if len(reports) < 2 or reports[0].macro is None:
        return None
    return rank(reports)


def short_names(models: Sequence[str]) -> list[str]:
    """Name models by the ends of their paths, as much of each as tells them apart; equal paths get a number."""
    parts = [PurePath(model).parts for model in models]
    longest = max(map(len, parts), default=0)
    for length in range(1, longest + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{model} ({place})" for place, model in enumerate(models, start=1)]


def summary(reports: Sequence[Report]) -> str:
    """Sum up the tasks in a sentence."""
    tasks = reports[0].tasks
    items = sum(len(task.items) for task in tasks)
    who = "One model" if len(reports) == 1 else f"{len(reports)} models"
    tasks_in_words = f"the task {tasks[0].task}" if len(tasks) == 1 else f"{len(tasks)} tasks"
    return f"{who} on {tasks_in_words}: {items:,} items. Scores are in points of 100, with 95 % intervals."


def groups(reports: Sequence[Report]) -> tuple[Group, ...]:
    """Return the macro average, if there are several tasks, and then every task that has scores."""
    rows = []
    for task in reports[0].tasks:
        if task.main:
            figures = [report.task(task.task).main for report in reports]
            rows.append(_group(task.task, figures))
    if len(rows) > 1:
        rows.insert(0, _group(MACRO, [report.macro for report in reports]))
    return tuple(rows)


def _group(name: str, scores: Sequence[Score | None]) -> Group:
    measured = tuple(score for score in scores if score)
    return Group(name, measured[0].metric, measured)


def measures(reports: Sequence[Report]) -> tuple[Measure, ...]:
    """Return the figures of whole tasks and of groups: perplexity, BLEU, the averages of groups."""
    by_report = list(map(_by_title, reports))
    titles: dict[tuple[str, str], None] = {}
    for figures in by_report:
        titles |= dict.fromkeys(figures)
    rows = []
    for task, metric in titles:
        of_models = tuple(figures.get((task, metric)) for figures in by_report)
        rows.append(Measure(task, metric, of_models))
    return tuple(rows)


def contrasts(ranking: Ranking) -> tuple[Contrast, ...]:
    """Return how the first model differs from the others, on average and task by task."""
    others = ranking.differences[0][1:]
    tasks = list(others[0].tasks)
    rows = []
    if len(tasks) > 1:
        rows.append(Contrast(MACRO, tuple(other.macro for other in others)))
    for name in tasks:
        rows.append(Contrast(name, tuple(other.tasks[name] for other in others)))
    return tuple(rows)


def settings(reports: Sequence[Report]) -> list[tuple[str, list[str]]]:
    """Return how each model was measured, a line for each setting."""
    names: dict[str, None] = {}
    for report in reports:
        names |= dict.fromkeys(report.settings)
    lines = []
    for name in names:
        lines.append((name, [str(report.settings.get(name)) for report in reports]))
    lines.append(("tokens", [f"{report.tokens:,}" for report in reports]))
    lines.append(("time", [duration(report.seconds) for report in reports]))
    lines.append(("weights", [report.model_digest[:16] for report in reports]))
    return lines


def number(value: float) -> str:
    """Write a number of any scale with four digits."""
    return f"{value:.4g}"


def probability(share: float) -> str:
    """Write a probability that was counted in draws: never 0 or 100 %."""
    if share < 0.005:
        return "< 1 %"
    return "> 99 %" if share > 0.995 else f"{100 * share:.0f} %"


def _by_title(report: Report) -> dict[tuple[str, str], Figure]:
    return {(figure.task, figure.metric): figure for figure in report.figures}


def page_data(models: Sequence[Evaluated], names: Sequence[str]) -> str:
    """Write the items and all answers as JSON that can stand inside a script element."""
    tasks = [_task_data(task, models) for task in models[0].report.tasks]
    text = json.dumps({"models": list(names), "tasks": tasks}, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _task_data(task: TaskReport, models: Sequence[Evaluated]) -> dict[str, Any]:
    lines = models[0].lines[task.task]
    return {
        "name": task.task,
        "metric": task.main.metric if task.main else None,
        "items": list(map(_item, lines)),
        "answers": [_answers(model, task.task, lines) for model in models],
    }


def _item(line: Line) -> dict[str, Any]:
    listed = line.get("choices") or ()
    choices = [choice["text"] for choice in listed]
    texts = list(filter(str.strip, line["input"].splitlines()))
    about = texts[-1][:ABOUT] if texts else ""
    return {
        "id": line["id"], "about": about, "prompt": line["prompt"], "choices": choices, "target": line["target"]
    }  # fmt: skip


def _answers(model: Evaluated, task: str, items: Sequence[Line]) -> list[dict[str, Any] | None]:
    lines: Mapping[str, Line] = {line["id"]: line for line in model.lines.get(task, ())}
    answers = []
    for item in items:
        line = lines.get(item["id"])
        answers.append(None if line is None else _answer(line, item))
    return answers


def _answer(line: Line, item: Line) -> dict[str, Any]:
    answer = {}
    for name in ("prediction", "metrics", "scores", "text"):
        if line.get(name) is not None:
            answer[name] = line[name]
    if line.get("extracted") not in (None, line.get("text")):
        answer["extracted"] = line["extracted"]
    if line["prompt"] != item["prompt"]:
        answer["prompt"] = line["prompt"]
    if line["cut"]:
        answer["cut"] = line["cut"]
    return answer
