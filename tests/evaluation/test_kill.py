"""A run that is killed at any moment goes on: the same report, and at most one batch computed again."""

import os
import random
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cuvee.evaluation import Prompt, Report, Sample, Task, evaluate, run, samples
from cuvee.evaluation.model import LanguageModel

SIZE = 4
MOMENTS = 10
TASKS = [
    Task(
        "choices",
        tuple(Sample(str(n), f"Is it {'x' * n}?", "multiple_choice", ("yes", "no", "so"), n % 3) for n in range(60)),
        ("accuracy",),
    ),
    Task(
        "texts",
        tuple(Sample(str(n), f"Say {'y' * n}", "generation", (), "yes") for n in range(30)),
        ("f1",),
        prompt=Prompt(max_new_tokens=8),
    ),
]


def report(model: LanguageModel, out: Path) -> Report:
    return evaluate(model, TASKS, out=out, batch_size=SIZE)


def killed(model: LanguageModel, out: Path, batches: int, torn_bytes: int) -> int:
    """Evaluate in a process that dies after so many batches, its last line torn; return the whole lines it left."""
    child = os.fork()
    if child == 0:
        run.append = dying_after(batches)
        report(model, out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    files = sorted(out.glob("samples/*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
    if files:
        os.truncate(files[-1], files[-1].stat().st_size - torn_bytes)
    return sum(file.read_bytes().count(b"\n") for file in files)


def dying_after(batches: int) -> Callable[..., None]:
    """Return an `append` that kills its process at the call after so many."""
    calls = iter(range(batches))

    def append(*arguments: Any) -> None:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        samples.append(*arguments)

    return append


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_rerun_after_a_kill_ends_the_same(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[int] = []

    def noted(folder: Path, task: str, lines: Iterable[Mapping[str, Any]], batch: Sequence[str]) -> None:
        written = list(lines)
        again.append(len(batch) - len(written))
        samples.append(folder, task, written, batch)

    monkeypatch.setattr(run, "append", noted)
    whole = report(model, tmp_path / "whole")
    moments = random.Random(0).sample(range(len(again)), MOMENTS)
    for moment in moments:
        out = tmp_path / str(moment)
        assert killed(model, out, moment, torn_bytes=moment % 3) < 90
        again.clear()
        assert replace(report(model, out), seconds=0) == replace(whole, seconds=0)
        assert sum(again) <= SIZE
        for task in TASKS:
            files = [samples.samples_file(folder, task.name) for folder in (out, tmp_path / "whole")]
            assert sorted(files[0].read_bytes().splitlines()) == sorted(files[1].read_bytes().splitlines())
