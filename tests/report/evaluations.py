"""Evaluations made up for tests of pages: two models on a multiple-choice task and a generation task."""

from collections.abc import Sequence
from typing import Any

from cuvee.evaluation import Item, Report, TaskReport
from cuvee.evaluation.evaluated import Evaluated
from cuvee.evaluation.statistics import as_score, macro_score, mean

CHOICES = ("Paris", "Rome", "the <b>Moon</b>")


def choice_line(place: int, prediction: int, target: int | None) -> dict[str, Any]:
    scores = [-2.0 - (choice != prediction) for choice in range(3)]
    choices = [
        {"text": text, "log_likelihood": score, "tokens": 1, "bytes": len(text), "characters": len(text)}
        for text, score in zip(CHOICES, scores, strict=True)
    ]
    return {
        "id": f"q{place}",
        "eval_type": "multiple_choice",
        "input": f"Question {place}",
        "prompt": f"Question {place} about <script>alert({place})</script> places\nAnswer:",
        "prediction": prediction,
        "tokens": 9,
        "cut": 3 if place == 2 else 0,
        "choices": choices,
        "scores": scores,
        "target": target,
        "metrics": {} if target is None else {"accuracy": float(prediction == target)},
    }


def text_line(place: int, text: str, target: str) -> dict[str, Any]:
    return {
        "id": f"t{place}",
        "eval_type": "generation",
        "input": f"Write {place}",
        "prompt": f"Write {place}:",
        "prediction": text.strip(),
        "tokens": 9,
        "cut": 0,
        "text": f"well, {text}",
        "extracted": text.strip(),
        "target": target,
        "metrics": {"f1": 1.0 if text == target else 0.5 if text[:1] == target[:1] else 0.0},
    }


def evaluated(name: str, *, right: Sequence[bool], texts: Sequence[str] = ("a b", "c d", "x")) -> Evaluated:
    """Make a model that answers `right` of its questions, whose targets are all Paris, and writes `texts`."""
    chosen = [choice_line(place, 0 if good else 1 + place % 2, 0) for place, good in enumerate(right)]
    written = [text_line(place, texts[place], target) for place, target in enumerate(("a b", "c d", "e f"))]
    tasks = (_task("places", "accuracy", chosen), _task("texts", "f1", written))
    report = Report(
        model=name,
        model_digest="d" * 64,
        tasks=tasks,
        macro=macro_score(tasks),
        settings={"scoring": "sum", "dtype": "float32", "limit": None},
        seconds=1.5,
        tokens=99,
        notes=("a note with <i>marks</i>",),
    )
    return Evaluated(report, {"places": tuple(chosen), "texts": tuple(written)})


def _task(name: str, metric: str, lines: list[dict[str, Any]]) -> TaskReport:
    scores = [line["metrics"][metric] for line in lines]
    items = tuple(Item(line["id"], line["prediction"], score) for line, score in zip(lines, scores, strict=True))
    return TaskReport(name, f"digest of {name}", 1.0, (as_score(name, metric, mean(scores)),), items, 0, 99)
