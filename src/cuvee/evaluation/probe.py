"""Checks that a server has the model that it should have: a few items on both, log-likelihood by log-likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from cuvee.errors import EvaluationError
from cuvee.evaluation.answers import answer
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.served import Served
from cuvee.evaluation.task import Sample, Task

ITEMS = 8
"""Of each task."""

TOLERANCE = 0.05
"""Nats a token: wider than bfloat16's rounding, narrower than another model, template or tokenizer."""


@dataclass(frozen=True)
class Probe:
    """How many items were compared, and the largest difference of a choice's log-likelihood, in nats a token."""

    items: int
    largest: float


def probe(served: Served, local: LanguageModel, tasks: Sequence[Task], *, tolerance: float = TOLERANCE) -> Probe:
    """Compare a server with a model in memory on the first items of tasks.

    Of an item to be generated the known target is scored as the only choice. Raises EvaluationError where a choice's
    log-likelihood differs by more than `tolerance` nats a token, or where there is nothing to compare.
    """
    largest, items = 0.0, 0
    for task in tasks:
        samples = list(filter(None, map(_scored, task.samples)))[:ITEMS]
        prompt = replace(task.prompt, chat_template=False, answer_by="likelihood")
        missing = {sample.id for sample in samples}
        served_batches = served.answers(samples, prompt, scoring="sum", batch_size="auto", missing=missing)
        theirs = list(chain.from_iterable(served_batches))
        own_batches = answer(local, samples, prompt, scoring="sum", batch_size="auto", missing=missing)
        ours = {own.id: own for own in chain.from_iterable(own_batches)}
        items += len(theirs)
        for their in theirs:
            largest = max(largest, _largest(task.name, their, ours[their.id], tolerance))
    if not items:
        raise EvaluationError("the tasks have no choices and no targets to compare the server by")
    return Probe(items, largest)


def _scored(sample: Sample) -> Sample | None:
    if sample.eval_type == "multiple_choice":
        return sample
    if not isinstance(sample.target, str) or not sample.target.strip():
        return None
    return replace(sample, eval_type="multiple_choice", choices=(sample.target,), target=0)


def _largest(task: str, theirs: Answer, ours: Answer, tolerance: float) -> float:
    largest = 0.0
    for one, other in zip(theirs.choices or (), ours.choices or (), strict=True):
        gap = abs(one.log_likelihood - other.log_likelihood) / max(1, other.tokens)
        if gap > tolerance or one.tokens != other.tokens:
            raise EvaluationError(
                f"the server scores otherwise than the model in memory: {one.log_likelihood:.3f} over {one.tokens} "
                f"tokens, and here {other.log_likelihood:.3f} over {other.tokens}",
                where=f"{task}, item '{theirs.id}', choice {one.text!r}",
                hint="another model, another tokenizer, or a server that adds or leaves out the start token",
            )
        largest = max(largest, gap)
    return largest
