"""Controls of a final: the private items asked in another way, to see whether a score owes to items that have leaked.

Who has learned the position of the right choice loses by another order, who has learned the words loses by a
paraphrase, and who has seen the canaries answers what nobody can know. Tasks that are decoded by chance are answered
twice, with another seed the second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from blake3 import blake3
from pydantic import ConfigDict, with_config

from cuvee.errors import EvaluationError
from cuvee.evaluation import Sample, Task, TaskReport
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.statistics import difference, mean

ControlKind = Literal["shuffled", "paraphrased", "canaries"]
SHOWS_CHOICES = "{choices}"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Control:
    """A task's control. `value` is the score lost by it, for canaries the score above guessing.

    `low` and `high` are its 95 % interval, from so many `items`.
    """

    task: str
    kind: ControlKind
    value: float
    low: float
    high: float
    items: int


def shuffled(task: Task) -> Task:
    """Return the items that have choices, each with its choices turned by some places, so that none stays where it was.

    Raises EvaluationError where no item has choices, or the prompt does not show them: then their order is nothing.
    """
    if SHOWS_CHOICES not in task.prompt.template:
        hint = "a template with {choices} shows them; take `shuffled` out otherwise"
        raise EvaluationError(f"'{task.name}' does not show its choices, so their order changes nothing", hint=hint)
    samples = tuple(_turned(sample) for sample in task.samples if len(sample.choices) > 1)
    if not samples:
        raise EvaluationError(f"no item of '{task.name}' has choices to put in another order")
    return replace(task, samples=samples)


def _turned(sample: Sample) -> Sample:
    count = len(sample.choices)
    by = 1 + int.from_bytes(blake3(sample.id.encode()).digest(8)) % (count - 1)
    choices = tuple(sample.choices[(place + by) % count] for place in range(count))
    target = sample.target
    if isinstance(target, int):
        target = (target - by) % count
    return replace(sample, choices=choices, target=target)


def paraphrased(task: Task, other: Task) -> Task:
    """Return the items of a task in the words of another, by their ids. Raises EvaluationError for an unknown item."""
    words = {sample.id: sample.input for sample in other.samples}
    unknown = words.keys() - {sample.id for sample in task.samples}
    if unknown:
        message = f"'{sorted(unknown)[0]}' is no private item of '{task.name}'"
        raise EvaluationError(message, hint="a paraphrase has the id of the item that it is of")
    chosen = [sample for sample in task.samples if sample.id in words]
    same = [sample.id for sample in chosen if words[sample.id] == sample.input]
    if same:
        raise EvaluationError(f"the paraphrase of '{same[0]}' of '{task.name}' has the words of the item itself")
    return replace(task, samples=tuple(replace(sample, input=words[sample.id]) for sample in chosen))


def with_another_seed(task: Task) -> Task:
    """Return a task whose texts are drawn anew."""
    return replace(task, prompt=replace(task.prompt, seed=task.prompt.seed + 1))


def control_of(kind: ControlKind, name: str, original: TaskReport, asked: TaskReport, task: Task) -> Control | None:
    """Compare a control with the private items; None where no item has a score in both."""
    scores = _scores_of(asked)
    if not scores:
        return None
    if kind == "canaries":
        return _canaries(name, list(scores.values()), task)
    originals = _scores_of(original)
    shared = [item for item in originals if item in scores]
    if not shared:
        return None
    gap = difference(_picked(originals, shared), _picked(scores, shared))
    return Control(name, kind, gap.value, gap.low, gap.high, gap.n)


def _scores_of(report: TaskReport) -> dict[str, float]:
    """Return the scores of the items that have one, in the order of the items."""
    return {item.id: item.score for item in report.items if item.score is not None}


def _picked(scores: Mapping[str, float], items: Sequence[str]) -> list[float]:
    return [scores[item] for item in items]


def _canaries(name: str, scores: list[float], task: Task) -> Control:
    guessed = [1 / len(sample.choices) if sample.choices else 0.0 for sample in task.samples]
    chance, score = sum(guessed) / len(guessed), mean(scores)
    return Control(name, "canaries", score.value - chance, score.low - chance, score.high - chance, score.n)


def agreement(first: Mapping[str, Answer], second: Mapping[str, Answer]) -> float:
    """Return the share of equal answers to the same items."""
    return sum(answer.prediction == second[name].prediction for name, answer in first.items()) / len(first)
