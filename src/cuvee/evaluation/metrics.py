"""How an answer is judged against the target: functions from texts to a score between 0 and 1.

`accuracy` compares choices and is for multiple choice only; `mrr` and `ndcg` look at the rank of the right choice,
`probability` at its share of the likelihood of all.
`instructions` needs no target: the input gives the instructions. Those of `WHOLE` judge a task as a whole and no item.
The others compare text; for a multiple-choice item that is the text of the choice.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache, partial
from itertools import chain
from typing import Any

from cuvee.errors import EvaluationError, MissingExtra, closest, several
from cuvee.evaluation.extract import NUMBER
from cuvee.evaluation.instructions import followed
from cuvee.evaluation.task import Sample

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, target: str) -> float:
    """1 if the texts are equal once whitespace is stripped at both ends and each run of it inside is one space.

    Case and punctuation count.
    """
    return float(" ".join(prediction.split()) == " ".join(target.split()))


def normalised_match(prediction: str, target: str) -> float:
    """1 if the words are equal, as SQuAD compares: lower case, no punctuation, no a, an, the."""
    return float(_words(prediction) == _words(target))


def number_match(prediction: str, target: str) -> float:
    """1 if the last number of both texts has the same value. `1,234.50` equals `1234.5`; no number is 0."""
    number = last_number(prediction)
    return float(number is not None and number == last_number(target))


def f1(prediction: str, target: str) -> float:
    """Harmonic mean of precision and recall over words, as SQuAD does: lower case, no punctuation, no a, an, the."""
    predicted, expected = _words(prediction), _words(target)
    if not predicted or not expected:
        return float(predicted == expected)
    shared = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * shared / (len(predicted) + len(expected))


def last_number(text: str) -> Decimal | None:
    """Return the last number in a text; commas between groups of three digits are allowed."""
    numbers = re.findall(NUMBER, text)
    return Decimal(numbers[-1].replace(",", "")) if numbers else None


def _words(text: str) -> list[str]:
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def rouge(name: str, prediction: str, target: str) -> float:
    """The F-measure of the package rouge-score, without stemming. `rougeLsum` takes each line for a sentence."""
    return float(_rouge_scorer(name).score(target, prediction)[name].fmeasure)


def chrf(prediction: str, target: str) -> float:
    """The chrF2 of sacrebleu for a text, over 100. The mean over items is not the score of a corpus."""
    return float(_sacrebleu().sentence_chrf(prediction, [target]).score) / 100


def bleu(prediction: str, target: str) -> float:
    """The BLEU of sacrebleu for a text, smoothed by it, over 100. The mean is not the score of a corpus."""
    return min(1.0, float(_sacrebleu().sentence_bleu(prediction, [target]).score) / 100)


@cache
def _rouge_scorer(name: str) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise MissingExtra("eval", missing="rouge-score") from error
    return RougeScorer([name])


@cache
def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise MissingExtra("eval", missing="sacrebleu") from error
    return sacrebleu


def reciprocal_rank(rank: int) -> float:
    """One over the rank of the right choice, for the mean reciprocal rank."""
    return 1 / rank


def gain(rank: int) -> float:
    """The normalised discounted gain of the right choice among the first ten."""
    return 1 / math.log2(1 + rank) if rank <= NDCG_DEPTH else 0.0


def rank_of(choice: int, scores: Sequence[float]) -> int:
    """Return the place of a choice among all by their scores, from 1; of equals the first is ahead."""
    better = sum(score > scores[choice] for score in scores)
    return 1 + better + sum(score == scores[choice] for score in scores[:choice])


def share_of(choice: int, scores: Sequence[float]) -> float:
    """Return a choice's share of the likelihood of all: the softmax of their scores."""
    largest = max(scores)
    if math.isinf(largest):
        return 1 / len(scores)
    shares = [math.exp(score - largest) for score in scores]
    return shares[choice] / sum(shares)


NDCG_DEPTH = 10
SCORED = ("mrr", "ndcg", "probability")
"""The metrics that look at the scores of all choices."""

RANK_METRICS: Mapping[str, Callable[[int], float]] = {"mrr": reciprocal_rank, "ndcg": gain}
WHOLE = {
    "similarity": ("spearman", "pearson"),
    "text": ("bits_per_byte", "perplexity", "byte_perplexity", "word_perplexity"),
}
"""The metrics of whole tasks, by the kind of their items."""

TEXT_METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "normalised_match": normalised_match,
    "number_match": number_match,
    "f1": f1,
    **{name: partial(rouge, name) for name in ROUGE},
    "chrf": chrf,
    "bleu": bleu,
}
NEEDS = {
    "accuracy": "multiple-choice items",
    "instructions": "generation items",
    **dict.fromkeys(SCORED, "multiple-choice items"),
    **dict.fromkeys(WHOLE["similarity"], "similarity items"),
    **dict.fromkeys(WHOLE["text"], "text items"),
    **dict.fromkeys(TEXT_METRICS, "generation or multiple-choice items"),
    "number_match": "a number in every target",
}
OF_WHOLE_TASKS = tuple(chain.from_iterable(WHOLE.values()))
METRICS = ("accuracy", *SCORED, "instructions", *TEXT_METRICS, *OF_WHOLE_TASKS)


def needs_more_than_answers(metrics: Sequence[str], samples: Sequence[Sample]) -> str | None:
    """Name a metric or kind of item that cannot be judged by the predictions alone, item by item; None for none.

    Competitions judge so.
    """
    for metric in metrics:
        if metric in SCORED or metric in OF_WHOLE_TASKS:
            return f"the metric '{metric}'"
    for sample in samples:
        if sample.eval_type in WHOLE:
            return f"items of the kind '{sample.eval_type}'"
    return None


def default_metrics(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Name the metric of a task that names none."""
    kinds = {sample.eval_type for sample in samples}
    if len(kinds) == 1:
        kind = kinds.pop()
        return ("accuracy",) if kind == "multiple_choice" else WHOLE.get(kind, ("exact_match",))[:2]
    return ("exact_match",)


def score(metric: str, sample: Sample, prediction: int | str, scores: Sequence[float] | None = None) -> float | None:
    """Judge one prediction, by the scores of all choices if ranks count; None where there is nothing to judge it by."""
    if metric in OF_WHOLE_TASKS:
        return None
    if metric == "instructions":
        return followed(sample.input, str(prediction))
    if sample.target is None:
        return None
    if metric == "accuracy":
        return float(prediction == sample.target)
    if metric in SCORED and not scores:
        return None
    if metric == "probability":
        return share_of(int(sample.target), scores or ())
    if metric in RANK_METRICS:
        return RANK_METRICS[metric](rank_of(int(sample.target), scores or ()))
    return TEXT_METRICS[metric](sample.text_of(prediction), sample.text_of(sample.target))


def check_metrics(metrics: Sequence[str], samples: Sequence[Sample], *, where: str) -> None:
    """Raise an EvaluationError for a metric that does not exist or cannot judge these samples."""
    problems = list(filter(None, [_problem(metric, samples, where) for metric in metrics]))
    if problems:
        raise several(problems)


def _problem(metric: str, samples: Sequence[Sample], where: str) -> EvaluationError | None:
    if metric not in METRICS:
        guess = closest(metric, METRICS)
        hint = f"did you mean '{guess}'?" if guess else _known()
        return EvaluationError(f"unknown metric '{metric}'", where=where, hint=hint)
    unfit = [sample.id for sample in samples if not _fits(metric, sample)]
    if not unfit:
        return None
    needs = NEEDS[metric]
    return EvaluationError(f"metric '{metric}' needs {needs}; not so for id {', '.join(unfit[:5])}", where=where)


def _known() -> str:
    return f"available: {', '.join(METRICS)}"


def _fits(metric: str, sample: Sample) -> bool:
    if metric == "instructions":
        return sample.eval_type == "generation"
    if sample.eval_type in WHOLE or metric in OF_WHOLE_TASKS:
        return metric in WHOLE.get(sample.eval_type, ())
    if sample.target is None:
        return True
    if metric == "accuracy" or metric in SCORED:
        return sample.eval_type == "multiple_choice"
    return metric != "number_match" or last_number(sample.text_of(sample.target)) is not None
