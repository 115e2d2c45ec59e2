"""The answers of a run as JSON lines, one an item, appended as they come. A run that was stopped continues from them.

Every line names the run it belongs to: model, task content and settings. Lines of another run are dropped.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from blake3 import blake3

from cuvee.errors import EvaluationError
from cuvee.evaluate.output import writing

REVISION = 1  # raise when the same settings give other answers, or when a line's keys change


@dataclass(frozen=True)
class Answer:
    """One item's answer. `scores` are those of its choices; `text` is what the model wrote before extraction."""

    id: str
    prediction: int | str
    tokens: int
    cut: int
    scores: tuple[float, ...] | None = None
    text: str | None = None


def run_digest(model: str, task: str, settings: Mapping[str, str]) -> str:
    """Return what must be equal for two runs to give the same answers."""
    content = json.dumps([REVISION, model, task, settings], sort_keys=True)
    return blake3(content.encode()).hexdigest()[:16]


def read_answers(path: Path, run: str) -> dict[str, Answer]:
    """Read the answers of this run. A torn last line, or all lines if they are of another run, are removed."""
    with writing(path):
        if not path.exists():
            return {}
        whole = path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        lines = [_parsed(line, f"{path}:{number}") for number, line in enumerate(kept.splitlines(), start=1)]
        if any(found != run for found, _ in lines):
            kept, lines = b"", []
        if kept != whole:
            path.write_bytes(kept)
    return {answer.id: answer for _, answer in lines}


def append_answers(path: Path, run: str, answers: Iterable[Answer]) -> None:
    """Append one line an answer."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            file.writelines(_line(run, answer) for answer in answers)


def _line(run: str, answer: Answer) -> str:
    fields = {name: value for name, value in asdict(answer).items() if value is not None}
    return json.dumps({**fields, "run": run}, ensure_ascii=False) + "\n"


def _parsed(line: bytes, where: str) -> tuple[str, Answer]:
    try:
        fields = json.loads(line)
        run = fields.pop("run")
        if "scores" in fields:
            fields["scores"] = tuple(fields["scores"])
        return run, Answer(**fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvaluationError("not a line of samples", where=where, hint="delete the file to start anew") from error
