"""A `submission.csv` of predictions against the items that were asked: one line an item, in the kit's three columns."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cuvee.errors import EvaluationError, several
from cuvee.evaluation.rows import MAX_FIELD_CHARACTERS, MAX_SHOWN
from cuvee.evaluation.task import Sample, Task

HEADER = ["id", "prediction", "dummy_field"]


@dataclass(frozen=True)
class Predictions:
    """A submission that is valid: how many predictions of each kind it has."""

    rows: int
    choices: int
    texts: int


def check_predictions(path: Path, tasks: Sequence[Task]) -> Predictions:
    """Check a submission for all items of the tasks, in any order.

    Raises an EvaluationError with every problem: a blank prediction, an index that is none of the choices', an id that
    is missing, unknown or there twice, each with its line.
    """
    asked = list(chain.from_iterable(task.samples for task in tasks))
    samples = {sample.id: sample for sample in asked}
    if len(samples) < len(asked):
        raise EvaluationError("the tasks share ids, so a submission cannot tell their items apart", where=str(path))
    seen: dict[str, str] = {}
    problems: list[EvaluationError] = []
    for where, cells in _rows(path):
        problems += _problems(where, cells, samples, seen)
    absent = [name for name in samples if name not in seen]
    problems += [EvaluationError(f"no prediction for id '{name}'", where=str(path)) for name in absent]
    if problems:
        more = len(problems) - MAX_SHOWN
        rest = [EvaluationError(f"and {more} more problems", where=str(path))] if more > 0 else []
        raise several([*problems[:MAX_SHOWN], *rest])
    choices = sum(sample.eval_type == "multiple_choice" for sample in asked)
    return Predictions(len(seen), choices, len(seen) - choices)


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    if not path.is_file():
        raise EvaluationError("no such file", where=str(path))
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if header != HEADER:
                raise EvaluationError(
                    f"the header is {','.join(header) or 'missing'}, not {','.join(HEADER)}", where=f"{path}:1"
                )
            line = reader.line_num + 1
            for cells in reader:
                if cells:
                    yield f"{path}:{line}", cells
                line = reader.line_num + 1
    except csv.Error as error:
        raise EvaluationError(f"not a CSV row: {error}", where=f"{path}:{line}") from error
    except UnicodeDecodeError as error:
        raise EvaluationError(f"not UTF-8: {error}", where=str(path)) from error


def _problems(
    where: str, cells: list[str], samples: Mapping[str, Sample], seen: dict[str, str]
) -> Iterator[EvaluationError]:
    if len(cells) != len(HEADER):
        yield EvaluationError(f"{len(cells)} cells, not {len(HEADER)}", where=where)
        return
    name, prediction, _ = cells
    if name not in samples:
        yield EvaluationError(f"id '{name}' is none that was asked", where=where)
        return
    if name in seen:
        yield EvaluationError(f"id '{name}' again, first in {seen[name]}", where=where)
        return
    seen[name] = where
    if (problem := _unfit(prediction, samples[name])) is not None:
        yield EvaluationError(f"id '{name}': {problem}", where=where)


def _unfit(prediction: str, sample: Sample) -> str | None:
    if not prediction.strip():
        return "the prediction is blank"
    if sample.eval_type != "multiple_choice":
        return None
    count = len(sample.choices)
    is_number = prediction.isascii() and prediction.isdecimal()
    if is_number and int(prediction) < count:
        return None
    return f"the prediction is {prediction[:40]!r}, not an index from 0 to {count - 1}"
