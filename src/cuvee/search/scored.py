"""The score of an answer in a search: a number between 0 and 1 for each item, larger is better.

It is that of a task's main metric, where that judges items. A text has no target: its score is how probable the model
finds it, the geometric mean over its bytes, or over its tokens where the main metric is `perplexity`. This is one over
the perplexity of the item; the mean over items is not one over that of the task.
"""

import math

from cuvee.errors import SearchError
from cuvee.evaluation import metrics
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.task import Sample, Task

BY_BYTE, BY_TOKEN = ("bits_per_byte", "byte_perplexity"), ("perplexity",)


def check_scored(task: Task) -> None:
    """Raise SearchError for a task whose items have no scores of their own."""
    metric = task.metrics[0]
    for sample in task.samples:
        if sample.eval_type == "text" and metric in (*BY_BYTE, *BY_TOKEN):
            continue
        if metric in metrics.OF_WHOLE_TASKS:
            message = f"a search has no place for the metric '{metric}', which judges no item"
            raise SearchError(message, where=task.name, hint="texts may have 'bits_per_byte', others 'accuracy'")
        if sample.target is None and metric != "instructions":
            message = f"item '{sample.id}' has no target, so that no answer to it has a score"
            raise SearchError(message, where=task.name, hint="search on items with targets, or on a text")


def score_of(task: Task, sample: Sample, answer: Answer) -> float:
    """Return the score of an answer. Raises SearchError where there is none."""
    if sample.eval_type == "text":
        return _foretold(task.metrics[0], answer)
    score = metrics.score(task.metrics[0], sample, answer.prediction, answer.scores)
    if score is None:
        raise SearchError(f"the answer to item '{sample.id}' has no score by '{task.metrics[0]}'", where=task.name)
    return score


def _foretold(metric: str, answer: Answer) -> float:
    assert answer.choices, "a text that was foretold has its log-likelihood"
    text = answer.choices[0]
    length = text.tokens if metric in BY_TOKEN else len(text.text.encode())
    return math.exp(min(0.0, text.log_likelihood / length))
