"""A sandbox of a script: nothing runs, and whatever a job says and leaves, or a machine's fault does, is in a test."""

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from cuvee.errors import PlatformError
from cuvee.submission.build import INPUTS
from cuvee.submission.sandbox import Limits
from cuvee.submission.sandbox.protocol import Ended, Hear, Job

Spoil = Callable[[Path], None]
Fault = Literal[
    "",
    "a library that crashes",
    "a library that refuses",
    "a library that answers otherwise",
    "a full disk",
    "a sandbox that is gone",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)[1:]


@dataclass
class Scripted:
    """A sandbox whose jobs leave a model and answers as sound jobs do, and then what a test wants beside that.

    Nothing runs: whoever reads what a job leaves is tested, hundreds of times. `spoil_model` and `spoil_answers` change
    what the submission's jobs leave, `lines` is what these say, `codes` how they end. Jobs of the control are sound,
    unless the machine has a `fault`, which strikes all jobs.
    """

    model: Path
    spoil_model: Spoil = lambda folder: None
    spoil_answers: Spoil = lambda folder: None
    lines: tuple[bytes, ...] = ()
    codes: dict[str, int] = field(default_factory=dict)
    fault: Fault = ""
    name: str = "scripted"
    isolates: bool = True

    def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
        if self.fault == "a sandbox that is gone":
            raise PlatformError("the sandbox does not start")
        if self.fault == "a full disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        control = any(part.startswith(("control", "cuvee-control")) for part in job.writable.parts)
        kind = job.writable.name
        order = json.loads(Path(job.command[-1]).read_text())
        if kind == "merge":
            shutil.copytree(self.model, job.writable / "model")
        else:
            self._answer(order, job.writable / "answers/samples")
        if self.fault == "a library that crashes":
            return _ended(1)
        if self.fault == "a library that refuses":
            hear(json.dumps({"error": "this model keeps no keys and values"}).encode())
            return _ended(INPUTS)
        if control:
            return _ended(0)
        (self.spoil_model if kind == "merge" else self.spoil_answers)(job.writable)
        for line in self.lines:
            hear(line)
        return _ended(self.codes.get(kind, 0))

    def _answer(self, order: dict[str, Any], folder: Path) -> None:
        folder.mkdir(parents=True)
        for task in map(Path, order["tasks"]):
            rows = map(json.loads, task.with_suffix(".jsonl").read_text().splitlines())
            answers = [{"id": row["id"], "prediction": self._prediction(row), "tokens": 1, "cut": 0} for row in rows]
            (folder / f"{task.stem}.jsonl").write_text("\n".join(map(json.dumps, answers)) + "\n")

    def _prediction(self, row: dict[str, Any]) -> int | str:
        answers_otherwise = self.fault == "a library that answers otherwise"
        if "answer_choices" in row:
            return int(answers_otherwise)
        return "y" if answers_otherwise else "x"


def _ended(code: int) -> Ended:
    return Ended("crash" if code else "finished", code, 1.0, 1 << 20, 1 << 20, "the end of a log" if code else "")
