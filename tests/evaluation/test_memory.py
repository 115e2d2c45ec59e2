"""A batch that does not fit is halved; what is recorded is what was computed."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from cuvee.errors import EvaluationError
from cuvee.evaluation import Sample, Task, evaluate
from cuvee.evaluation.likelihoods import Likelihoods
from cuvee.evaluation.memory import halving
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.question import Question

TASK = Task(
    "choices",
    tuple(Sample(str(n), f"Question {'x' * n}?", "multiple_choice", ("yes", "no"), n % 2) for n in range(9)),
    ("accuracy",),
)


class Small:
    """Computes at most so many items at once, and remembers what it was asked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[list[int]] = []

    def __call__(self, batch: list[int]) -> int:
        self.asked.append(batch)
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sum(batch)


def test_halves_are_halved_until_they_fit_and_the_order_stays() -> None:
    small = Small(2)
    found = list(halving([[0, 1, 2, 3, 4], [5, 6]], dict.fromkeys(range(7), 1), small))
    assert found == [([0, 1], 1), ([2], 2), ([3, 4], 7), ([5, 6], 11)]


def test_a_later_batch_of_the_same_cost_is_not_tried_whole() -> None:
    small = Small(2)
    list(halving([[0, 1, 2, 3], [4, 5, 6, 7]], dict.fromkeys(range(8), 1), small))
    assert small.asked == [[0, 1, 2, 3], [0, 1], [2, 3], [4, 5], [6, 7]]


def test_one_item_that_does_not_fit_is_said() -> None:
    with pytest.raises(EvaluationError, match="one item alone does not fit"):
        list(halving([[0, 1]], {0: 1, 1: 1}, Small(0)))


def test_other_errors_are_not_taken_for_it() -> None:
    def fail(batch: list[int]) -> None:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        list(halving([[0, 1]], {0: 1, 1: 1}, fail))


def test_a_run_that_ran_out_of_memory_finds_the_same(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(model, [TASK], batch_size=9)
    real = Likelihoods.of

    def tight(own: Likelihoods, questions: Sequence[Question]) -> list[list[float]]:
        if len(questions) > 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        return real(own, questions)

    monkeypatch.setattr(Likelihoods, "of", tight)
    report = evaluate(model, [TASK], batch_size=9, out=tmp_path)
    assert report.tasks == whole.tasks
    batches = [json.loads(line)["ids"] for line in (tmp_path / "batches" / "choices.jsonl").read_text().splitlines()]
    assert [len(ids) for ids in batches] == [3, 2, 2, 2]
    assert sorted(name for ids in batches for name in ids) == [sample.id for sample in TASK.samples]
