"""The answers of a run, kept as they come: `samples/TASK.jsonl`, a line for each item, and `batches/TASK.jsonl`.

A line of samples holds all that a reader needs to judge the answer anew: the question, the model's answer, and its
scores. Its `key` is a digest of all that the answer depends on: the model, the item, the prompt, the settings and
`REVISION`. A later run takes the lines whose key is its own and drops the others.

A line of batches names the items that were computed together, in order. In low precision an answer can depend on its
neighbours, so the missing items of a batch are computed with the whole batch.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from cuvee.documents.whole import write_whole
from cuvee.errors import EvaluationError
from cuvee.evaluation.output import writing
from cuvee.evaluation.task import Sample

REVISION = 2  # raise when the same settings give other answers, or when a line's fields change


@dataclass(frozen=True)
class ScoredChoice:
    """A model's score of a choice: the log of its probability, over so many tokens that were scored."""

    text: str
    log_likelihood: float
    tokens: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the lengths by which the log-likelihood can be divided."""
        return {**asdict(self), "bytes": len(self.text.encode()), "characters": len(self.text)}


@dataclass(frozen=True)
class Answer:
    """The answer to an item's rendered prompt. `tokens` were read and written, `cut` dropped from the prompt's left.

    `choices` and `scores`, which the run's scoring makes of them, are there if choices were scored; `text` and
    `extracted` if the model wrote. `batch` names the batch in which it was computed.
    """

    id: str
    prompt: str
    prediction: int | str
    tokens: int
    cut: int
    choices: tuple[ScoredChoice, ...] | None = None
    scores: tuple[float, ...] | None = None
    text: str | None = None
    extracted: str | None = None
    batch: str = ""


@dataclass(frozen=True)
class Kept:
    """The answers of an earlier run by id, and the batches that they came from."""

    answers: dict[str, Answer]
    batches: list[tuple[str, ...]]


def item_key(model: str, sample: Sample, prompt: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return a digest that is equal for runs that give the same answer. Neither target nor metrics are part of it."""
    item = [sample.id, sample.input, sample.eval_type, sample.choices, *sample.pair]
    content = json.dumps([REVISION, model, item, prompt, settings], sort_keys=True)
    return blake3(content.encode()).hexdigest()[:16]


def batch_name(ids: Sequence[str]) -> str:
    """Name a batch by its items and their order."""
    return blake3(json.dumps(list(ids)).encode()).hexdigest()[:8]


def sample_line(sample: Sample, answer: Answer, metrics: Mapping[str, float], key: str) -> dict[str, Any]:
    """Return a line of samples: the item, the answer, and the score by each metric; none if the target is not known."""
    fields = {name: value for name, value in asdict(answer).items() if value is not None}
    del fields["id"]
    if answer.choices is not None:
        fields["choices"] = [choice.to_json() for choice in answer.choices]
    item = {"id": sample.id, "eval_type": sample.eval_type, "input": sample.input}
    if sample.second:
        item["second"] = sample.second
    return {**item, **fields, "target": sample.target, "metrics": dict(metrics), "key": key}


def samples_file(folder: Path, task: str) -> Path:
    return folder / "samples" / f"{task}.jsonl"


def batches_file(folder: Path, task: str) -> Path:
    return folder / "batches" / f"{task}.jsonl"


def read_kept(folder: Path, task: str, keys: Mapping[str, str]) -> Kept:
    """Read the answers whose key is in `keys` for their id, and the batches in which they were computed.

    A torn last line counts as missing.
    """
    answers: dict[str, Answer] = {}
    for fields, where in _lines(samples_file(folder, task)):
        answer = _answer(fields, where)
        if keys.get(answer.id) == fields["key"]:
            answers[answer.id] = answer
    names = {answer.batch for answer in answers.values()}
    batches = [ids for ids in read_batches(folder, task) if batch_name(ids) in names]
    return Kept(answers, batches)


def read_batches(folder: Path, task: str) -> list[tuple[str, ...]]:
    """Read which items were computed together."""
    batches = []
    for fields, where in _lines(batches_file(folder, task)):
        try:
            batches.append(tuple(str(name) for name in fields["ids"]))
        except (KeyError, TypeError) as error:
            raise _damaged(where) from error
    return list(dict.fromkeys(batches))


def rewrite(folder: Path, task: str, lines: Iterable[Mapping[str, Any]], batches: Iterable[Sequence[str]]) -> None:
    """Write both files anew, each in a single step, unless they are so already."""
    _replace(samples_file(folder, task), "".join(map(_json_line, lines)))
    _replace(batches_file(folder, task), "".join(_json_line(_batch_line(ids)) for ids in batches))


def append(folder: Path, task: str, lines: Iterable[Mapping[str, Any]], batch: Sequence[str]) -> None:
    """Append a batch that has been computed, and then its lines."""
    _append(batches_file(folder, task), _json_line(_batch_line(batch)))
    _append(samples_file(folder, task), "".join(map(_json_line, lines)))


def _batch_line(ids: Sequence[str]) -> dict[str, Any]:
    return {"batch": batch_name(ids), "ids": list(ids)}


def _json_line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _append(path: Path, text: str) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)


def _replace(path: Path, text: str) -> None:
    with writing(path):
        if (path.read_bytes() if path.exists() else b"") == text.encode():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


def _lines(path: Path) -> list[tuple[dict[str, Any], str]]:
    """Read whole lines, each with its place."""
    with writing(path):
        if not path.exists():
            return []
        whole = path.read_bytes()
    lines = whole[: whole.rfind(b"\n") + 1].removesuffix(b"\n").split(b"\n") if b"\n" in whole else []
    return [(_parsed(line, f"{path}:{number}"), f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise _damaged(where) from error
    if not isinstance(fields, dict):
        raise _damaged(where)
    return fields


def _choice(fields: dict[str, Any]) -> ScoredChoice:
    return ScoredChoice(fields["text"], fields["log_likelihood"], fields["tokens"])


def _answer(fields: dict[str, Any], where: str) -> Answer:
    try:
        choices, scores = fields.get("choices"), fields.get("scores")
        return Answer(
            id=fields["id"],
            prompt=fields["prompt"],
            prediction=fields["prediction"],
            tokens=fields["tokens"],
            cut=fields["cut"],
            choices=choices and tuple(map(_choice, choices)),
            scores=scores and tuple(scores),
            text=fields.get("text"),
            extracted=fields.get("extracted"),
            batch=fields["batch"],
        )
    except (TypeError, KeyError) as error:
        raise _damaged(where) from error


def _damaged(where: str) -> EvaluationError:
    return EvaluationError("not a line of samples", where=where, hint="delete the file to start anew")
