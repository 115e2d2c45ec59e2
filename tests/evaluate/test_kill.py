"""A run that is killed at any moment goes on: the same report, and at most one batch computed again."""

import os
import random
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cuvee.evaluate import Prompt, Report, Sample, Task, evaluate, run, samples
from cuvee.evaluate.model import LanguageModel

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


def killed(model: LanguageModel, out: Path, seconds: float) -> int:
    """Evaluate in a process of its own, kill it after so long, and return how many whole lines it left."""
    child = os.fork()
    if child == 0:
        report(model, out)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return sum(file.read_bytes().count(b"\n") for file in out.glob("samples/*.jsonl"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_rerun_after_a_kill_ends_the_same(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.perf_counter()
    whole = report(model, tmp_path / "whole")
    taken = time.perf_counter() - started
    again: list[int] = []

    def noted(folder: Path, task: str, lines: Iterable[Mapping[str, Any]], batch: Sequence[str]) -> None:
        written = list(lines)
        again.append(len(batch) - len(written))
        samples.append(folder, task, written, batch)

    monkeypatch.setattr(run, "append", noted)
    moments = random.Random(0)
    left = []
    for number in range(MOMENTS):
        out = tmp_path / str(number)
        left.append(killed(model, out, moments.uniform(0, taken)))
        again.clear()
        assert replace(report(model, out), seconds=0) == replace(whole, seconds=0)
        assert sum(again) < SIZE
        for task in TASKS:
            files = [samples.samples_file(folder, task.name) for folder in (out, tmp_path / "whole")]
            assert sorted(files[0].read_bytes().splitlines()) == sorted(files[1].read_bytes().splitlines())
    assert sum(0 < count < 90 for count in left) > 0
