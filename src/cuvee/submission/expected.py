"""The scores of a model of the competition, as a machine has found them, and whether another machine finds the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

TOLERANCE = 0.125
"""How far the scores of a task's items may be from the expected ones on average: 2 of 16 answers may be otherwise right
or wrong. Other processors round otherwise, and an answer that is a near tie then turns."""


@dataclass(frozen=True)
class ControlScore:
    """The findings of a machine's test: the model, and the main metric of each item by task, from 0 to 1.

    `answers` is the digest of all answers; `versions` are those of the libraries that they were made with.
    """

    model: str
    items: Mapping[str, tuple[float, ...]]
    answers: str
    versions: Mapping[str, str]

    def score(self, task: str) -> float:
        """Return the average of a task's items."""
        return sum(self.items[task]) / len(self.items[task])


def disagreement(measured: ControlScore, expected: ControlScore) -> str:
    """Say how a test differs from the expected scores; nothing where it is within TOLERANCE."""
    return next(_disagreements(measured, expected), "")


def _disagreements(measured: ControlScore, expected: ControlScore) -> Iterator[str]:
    if measured.model != expected.model:
        yield f"the test judged the model '{measured.model}', and expected is the score of '{expected.model}'"
    if _counts(measured) != _counts(expected):
        yield f"the test asked {_counts(measured)} items by task, and expected are {_counts(expected)}"
    for task, scores in expected.items.items():
        pairs = zip(measured.items[task], scores, strict=True)
        distance = sum(abs(one - other) for one, other in pairs) / len(scores)
        if distance > TOLERANCE:
            here, there = measured.score(task), expected.score(task)
            scores_text = f"'{measured.model}' scores {here:.3f} on '{task}' here, and {there:.3f} is expected"
            yield f"{scores_text}; its items differ by {distance:.1%}, and at most {TOLERANCE:.1%} are allowed"


def _counts(control: ControlScore) -> dict[str, int]:
    return {task: len(scores) for task, scores in sorted(control.items.items())}
