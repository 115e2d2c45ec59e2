"""Figures of a whole task: how similarities agree with people's, and how well a model foretells texts.

Correlations are over the items of a task. Perplexities are ratios of sums over its texts, as lm-eval counts them: all
log-likelihoods over all tokens, bytes or words. The interval is the middle 95 % of the task's figures with its items
drawn anew: with replacement for correlations, with random weights (Rubin's bootstrap) for ratios.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cuvee.evaluation.metrics import WHOLE
from cuvee.evaluation.report import Figure
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.task import Sample, Task

Numbers = NDArray[np.float64]
DRAWS = 1000
MIDDLE = (0.025, 0.975)


def figures_of(task: Task, answers: Mapping[str, Answer]) -> tuple[Figure, ...]:
    """Return a task's figures by those of its metrics that judge it as a whole."""
    figures: list[Figure] = []
    answered = [(sample, answers[sample.id]) for sample in task.samples if sample.id in answers]
    for metric in task.metrics:
        if metric in WHOLE["similarity"]:
            figures += _correlation(task.name, metric, answered)
        elif metric in WHOLE["text"]:
            figures += _ratio(task.name, metric, answered)
    return tuple(figures)


def pearson(first: Numbers, second: Numbers) -> float:
    """The correlation of two lists of numbers; 0 where one of them is the same throughout."""
    first, second = first - first.mean(), second - second.mean()
    length = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / length if length else 0.0


def spearman(first: Numbers, second: Numbers) -> float:
    """The correlation of ranks; equal numbers share the mean of theirs."""
    return pearson(_ranks(first), _ranks(second))


def _ranks(numbers: Numbers) -> Numbers:
    _, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Numbers = (last - (counts - 1) / 2)[places]
    return mean


def _correlation(task: str, metric: str, answered: Sequence[tuple[Sample, Answer]]) -> Iterator[Figure]:
    pairs = []
    for sample, answer in answered:
        if sample.target is not None and answer.scores:
            pairs.append((answer.scores[0], float(sample.target)))
    if len(pairs) < 2:
        return
    first, second = np.array(pairs).T
    correlation = spearman if metric == "spearman" else pearson
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        places = generator.integers(0, len(pairs), len(pairs))
        draws.append(correlation(first[places], second[places]))
    yield _figure(task, metric, len(pairs), correlation(first, second), np.array(draws))


def _ratio(task: str, metric: str, answered: Sequence[tuple[Sample, Answer]]) -> Iterator[Figure]:
    rows = []
    for sample, answer in answered:
        for part in answer.choices or ():
            rows.append((-part.log_likelihood, _count(metric, sample.input, part.tokens)))
    if not rows:
        return
    lost, counted = np.array(rows).T
    scaled = _scale(metric)
    value = scaled(lost.sum() / counted.sum())
    if len(rows) < 2:
        yield Figure(task, metric, len(rows), value, None)
        return
    weights = np.random.default_rng(0).standard_exponential((DRAWS, len(rows)))
    draws = (weights @ lost) / (weights @ counted)
    yield _figure(task, metric, len(rows), value, np.array([scaled(draw) for draw in draws]))


def _count(metric: str, text: str, tokens: int) -> int:
    if metric == "perplexity":
        return tokens
    return len(re.split(r"\s+", text)) if metric == "word_perplexity" else len(text.encode())


def _scale(metric: str) -> Callable[[float], float]:
    """Return the function that turns nats for a token, byte or word into the metric."""
    if metric == "bits_per_byte":
        return lambda nats: float(nats) / math.log(2)
    return lambda nats: math.exp(nats) if nats < math.log(np.finfo(float).max) else math.inf


def _figure(task: str, metric: str, n: int, value: float, draws: Numbers) -> Figure:
    low, high = np.quantile(draws, MIDDLE)
    return Figure(task, metric, n, value, float(draws.std(ddof=1)), (min(float(low), value), max(float(high), value)))
