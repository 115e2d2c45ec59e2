"""How an answer is judged against the target: functions from texts to a score between 0 and 1.

`accuracy` compares choices and is for multiple choice only. The others compare text; for a multiple-choice item that
is the text of the choice.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from cuvee.errors import EvaluationError, closest, several
from cuvee.evaluate.extract import NUMBER
from cuvee.evaluate.task import Sample

NOT_YET = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, target: str) -> float:
    """1 if the texts are equal once whitespace is stripped at both ends and each run of it inside is one space.

    Case and punctuation count.
    """
    return float(" ".join(prediction.split()) == " ".join(target.split()))


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


TEXT_METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "number_match": number_match,
    "f1": f1,
}
METRICS = ("accuracy", *TEXT_METRICS)


def default_metrics(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Name the metric of a task that names none."""
    only_choices = all(sample.eval_type == "multiple_choice" for sample in samples)
    return ("accuracy",) if only_choices else ("exact_match",)


def score(metric: str, sample: Sample, prediction: int | str) -> float:
    """Judge one prediction. The sample must have a target."""
    assert sample.target is not None
    if metric == "accuracy":
        return float(prediction == sample.target)
    return TEXT_METRICS[metric](sample.text_of(prediction), sample.text_of(sample.target))


def check_metrics(metrics: Sequence[str], samples: Sequence[Sample], *, where: str) -> None:
    """Raise an EvaluationError for a metric that does not exist or cannot judge these samples."""
    problems = [problem for metric in metrics if (problem := _problem(metric, samples, where))]
    if problems:
        raise several(problems)


def _problem(metric: str, samples: Sequence[Sample], where: str) -> EvaluationError | None:
    if metric in NOT_YET:
        return EvaluationError(f"metric '{metric}' is not available yet", where=where, hint=_known())
    if metric not in METRICS:
        guess = closest(metric, METRICS)
        hint = f"did you mean '{guess}'?" if guess else _known()
        return EvaluationError(f"unknown metric '{metric}'", where=where, hint=hint)
    unfit = [sample.id for sample in samples if not _fits(metric, sample)]
    if not unfit:
        return None
    needs = "multiple-choice items" if metric == "accuracy" else "a number in every target"
    return EvaluationError(f"metric '{metric}' needs {needs}; not so for id {', '.join(unfit[:5])}", where=where)


def _known() -> str:
    return f"available: {', '.join(METRICS)}"


def _fits(metric: str, sample: Sample) -> bool:
    if sample.target is None:
        return True
    if metric == "accuracy":
        return sample.eval_type == "multiple_choice"
    return metric != "number_match" or last_number(sample.text_of(sample.target)) is not None
