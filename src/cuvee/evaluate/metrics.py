"""How an answer is judged against the target: functions from texts to a score between 0 and 1.

`accuracy` compares choices and is for multiple choice only. `instructions` needs no target: the input says what is
asked. The others compare text; for a multiple-choice item that is the text of the choice.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache, partial
from typing import Any

from cuvee.errors import EvaluationError, MissingExtra, closest, several
from cuvee.evaluate.extract import NUMBER
from cuvee.evaluate.instructions import followed
from cuvee.evaluate.task import Sample

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
    found = last_number(prediction)
    return float(found is not None and found == last_number(target))


def f1(prediction: str, target: str) -> float:
    """Harmonic mean of precision and recall over words, as SQuAD does: lower case, no punctuation, no a, an, the."""
    predicted, expected = _words(prediction), _words(target)
    if not predicted or not expected:
        return float(predicted == expected)
    shared = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * shared / (len(predicted) + len(expected))


def last_number(text: str) -> Decimal | None:
    """Return the last number in a text; commas between groups of three digits are allowed."""
    found = re.findall(NUMBER, text)
    return Decimal(found[-1].replace(",", "")) if found else None


def _words(text: str) -> list[str]:
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def rouge(name: str, prediction: str, target: str) -> float:
    """The F-measure of the package rouge-score, without stemming. `rougeLsum` takes each line for a sentence."""
    return float(_rouge_scorer(name).score(target, prediction)[name].fmeasure)


def chrf(prediction: str, target: str) -> float:
    """The chrF2 of sacrebleu for the one text, over 100. The mean over items is not the score of a corpus."""
    return float(_sacrebleu().sentence_chrf(prediction, [target]).score) / 100


def bleu(prediction: str, target: str) -> float:
    """The BLEU of sacrebleu for the one text, smoothed by it, over 100. The mean is not the score of a corpus."""
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
    "number_match": "a number in every target",
}
METRICS = ("accuracy", "instructions", *TEXT_METRICS)


def default_metrics(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Name the metric of a task that names none."""
    only_choices = all(sample.eval_type == "multiple_choice" for sample in samples)
    return ("accuracy",) if only_choices else ("exact_match",)


def score(metric: str, sample: Sample, prediction: int | str) -> float | None:
    """Judge one prediction; None where there is nothing to judge it by."""
    if metric == "instructions":
        return followed(sample.input, str(prediction))
    if sample.target is None:
        return None
    if metric == "accuracy":
        return float(prediction == sample.target)
    return TEXT_METRICS[metric](sample.text_of(prediction), sample.text_of(sample.target))


def check_metrics(metrics: Sequence[str], samples: Sequence[Sample], *, where: str) -> None:
    """Raise an EvaluationError for a metric that does not exist or cannot judge these samples."""
    problems = [problem for metric in metrics if (problem := _problem(metric, samples, where))]
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
    if sample.target is None:
        return True
    if metric == "accuracy":
        return sample.eval_type == "multiple_choice"
    return metric != "number_match" or last_number(sample.text_of(sample.target)) is not None
