"""Tasks without targets for the sandbox, and the answers that come out, which are read as foreign data."""

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from cuvee.descriptors import BINARY, NOTHING_ELSE
from cuvee.errors import SubmissionError
from cuvee.evaluation import Sample, Task
from cuvee.evaluation.samples import Answer

MOST_ANSWER_BYTES = 64 << 20
LONGEST_TEXT = 1 << 20


def write_without_targets(tasks: Mapping[str, Task], folder: Path) -> list[str]:
    """Write each task under a name, without targets; return the files to evaluate."""
    folder.mkdir()
    return [str(_write(name, task, folder)) for name, task in tasks.items()]


def _write(name: str, task: Task, folder: Path) -> Path:
    rows = [json.dumps(_row(sample), ensure_ascii=False) for sample in task.samples]
    (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    prompt = json.loads(json.dumps(task.prompt.to_json()))
    content = {"name": name, "data": f"{name}.jsonl", "metrics": list(task.metrics), "prompt": prompt}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def _row(sample: Sample) -> dict[str, Any]:
    row: dict[str, Any] = {"id": sample.id, "input": sample.input, "eval_type": sample.eval_type}
    return {**row, "answer_choices": list(sample.choices)} if sample.choices else row


def read_answers(path: Path, task: Task) -> dict[str, Answer]:
    """Read the answers to a task by id. Raises SubmissionError for a missing, double, surplus or odd answer."""
    samples = {sample.id: sample for sample in task.samples}
    found: dict[str, Answer] = {}
    for number, line in enumerate(_lines(path), start=1):
        answer = _answer(line, samples, f"{path.name}:{number}")
        if answer.id in found:
            raise SubmissionError(f"item '{answer.id}' is answered twice", where=f"{path.name}:{number}")
        found[answer.id] = answer
    missing = [name for name in samples if name not in found]
    if missing:
        raise SubmissionError(f"{len(missing)} items have no answer, '{missing[0]}' first", where=path.name)
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """Read a regular file of limited size; a link or a device in its place is refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | BINARY | NOTHING_ELSE)
    except OSError as error:
        raise SubmissionError(f"no answers came out: {error.strerror}", where=path.name) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_ANSWER_BYTES:
            raise SubmissionError("the answers are no file, or too large", where=path.name)
        yield from file.read().splitlines()


def _answer(line: bytes, samples: Mapping[str, Sample], where: str) -> Answer:
    try:
        content = json.loads(line)
        name, prediction, tokens = content["id"], content["prediction"], content["tokens"]
        cut = content["cut"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SubmissionError("this is no answer", where=where) from error
    sample = samples.get(name) if isinstance(name, str) else None
    if sample is None:
        raise SubmissionError("an answer to an item that was not asked", where=where)
    if not _is_count(tokens) or not _is_count(cut):
        raise SubmissionError("tokens and cut are counts", where=where)
    if not _fits(prediction, sample):
        raise SubmissionError("the answer is neither one of the choices nor a text", where=where)
    return Answer(sample.id, "", prediction, tokens, cut)


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < 1 << 40


def _fits(prediction: Any, sample: Sample) -> bool:
    if sample.eval_type == "multiple_choice":
        if type(prediction) is int:
            return 0 <= prediction < len(sample.choices)
        return bool(prediction == "")
    return isinstance(prediction, str) and len(prediction) <= LONGEST_TEXT


def limited(task: Task, limit: int | None, metrics: Iterable[str]) -> Task:
    """Return a task's first items, with the competition's metrics if it names some."""
    return replace(task, samples=task.samples[:limit], metrics=tuple(metrics) or task.metrics)
