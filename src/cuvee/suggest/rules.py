"""Rules that predict from the changes of experts, fitted on measured blends, with their errors on families left out.

A rule is a weighted sum of a few features. Its error is that on each family by the rule as fitted on all others, as is
that of the rival, which says the mean of the others. A rule that is not clearly better than its rival is not used.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cuvee.suggest.changes import Changes, features_of, mean
from cuvee.suggest.measured import FOLDER, Case

RULES = FOLDER / "rules.json"
CONSTANT = "constant"
DIGITS = 5
CLEARLY = 0.9
"""A rule's error must be a tenth below its rival's: of several forms that are tried one is a little better by luck."""


@dataclass(frozen=True)
class Question:
    """A question to rules: `answer` takes it from the measurements of a case, None where they say nothing.

    `forms` are the sets of features that are tried, by which the rule predicts. `cost` is the price of an answer of the
    rule in scores, where that is known.
    """

    name: str
    answer: Callable[[Case], float | None]
    forms: tuple[tuple[str, ...], ...]
    cost: Callable[[Case, float], float] = lambda case, answer: 0.0


@dataclass(frozen=True)
class Rule:
    """A fitted rule.

    `coefficients` are by feature, with the constant. `error` and `rival_error` are root mean squares over families
    left out, in the answer's unit, `cost` and `rival_cost` means of the scores lost there. `ranges` are the features'
    least and largest values in the cases of the fit.
    """

    question: str
    coefficients: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]]
    error: float
    rival_error: float
    cost: float
    rival_cost: float
    mean: float
    cases: int
    families: int

    @property
    def predicts(self) -> bool:
        """Whether it is clearly better on families left out than saying the mean of the others, and costs no more."""
        return self.error < CLEARLY * self.rival_error and self.cost <= self.rival_cost

    def answer(self, changes: Changes) -> float | None:
        """Return the rule's prediction, None where it needs a feature that the changes lack."""
        features = features_of(changes)
        if any(name not in features for name in self.coefficients if name != CONSTANT):
            return None
        return _weighted(self.coefficients, features)

    def beyond(self, changes: Changes) -> tuple[str, ...]:
        """Return the features that lie outside the measured range, so that the answer is a guess."""
        features = features_of(changes)
        return tuple(
            name for name, (low, high) in self.ranges.items() if not low - SLACK <= features[name] <= high + SLACK
        )


SLACK = 0.1
"""So far outside the measured range a feature still counts as within."""


def _about_scale(method: str) -> Question:
    """Ask for the best scale of a method, in ln, and for the scores that another scale loses."""

    def answer(case: Case) -> float:
        return math.log(case.lines[method].peak[0])

    def cost(case: Case, answer: float) -> float:
        line = case.lines[method]
        return max(line.scores) - line.at(math.exp(answer))

    return Question(f"scale of {method}", answer, SCALE_FORMS, cost)


def _advantage(method: str, rival: str) -> Callable[[Case], float | None]:
    def answer(case: Case) -> float | None:
        if method not in case.lines:
            return None
        return case.lines[method].peak[1] - case.lines[rival].peak[1]

    return answer


def _over_average(case: Case) -> float | None:
    line = case.lines["task_arithmetic"]
    return line.peak[1] - line.at(1 / len(case.changes.models))


SCALE_FORMS = (("models",), ("coherence",), ("models", "coherence"))
GAIN_FORMS = (("models",), ("overlap",), ("conflict",), ("models", "coherence"), ("unevenness",), ("harm",))
QUESTIONS = (
    _about_scale("task_arithmetic"),
    _about_scale("ties"),
    _about_scale("tsv_m"),
    Question("share retained", lambda case: case.retained, (*GAIN_FORMS, ("models", "overlap"), ("models", "harm"))),
    Question("gain of tuning over the average", _over_average, GAIN_FORMS),
    Question("gain of tsv_m", _advantage("tsv_m", "task_arithmetic"), GAIN_FORMS),
    Question("gain of ties", _advantage("ties", "task_arithmetic"), GAIN_FORMS),
    Question(
        "gain of normalising",
        _advantage("task_arithmetic, normalised", "task_arithmetic"),
        (("unevenness",), *GAIN_FORMS[:4]),
    ),
)
"""All that is asked, and in every form that was tried. ln(lambda) for scales; shares; differences of scores."""


def fit(question: Question, form: Sequence[str], cases: Sequence[Case]) -> Rule:
    """Fit a rule by least squares, each family counting alike, and find its error on families left out."""
    answered = _answered(question, cases)
    families = sorted({case.family for case, _ in answered})
    trials = [_left_out(question, form, answered, family) for family in families]
    return Rule(
        question=question.name,
        coefficients=_fitted(form, answered),
        ranges=_ranges(form, answered),
        error=math.sqrt(mean([trial.square for trial in trials])),
        rival_error=math.sqrt(mean([trial.rival_square for trial in trials])),
        cost=mean([trial.cost for trial in trials]),
        rival_cost=mean([trial.rival_cost for trial in trials]),
        mean=_middle(answered),
        cases=len(answered),
        families=len(families),
    )


Answered = Sequence[tuple[Case, float]]


def _answered(question: Question, cases: Sequence[Case]) -> Answered:
    answered = []
    for case in cases:
        answer = question.answer(case)
        if answer is not None:
            answered.append((case, answer))
    return answered


class Trial(NamedTuple):
    """The errors of a rule and its rival on a family, in means over its cases: squares, and scores lost."""

    square: float
    rival_square: float
    cost: float
    rival_cost: float


def _left_out(question: Question, form: Sequence[str], answered: Answered, family: str) -> Trial:
    others = [(case, answer) for case, answer in answered if case.family != family]
    coefficients, middle = _fitted(form, others), _middle(others)
    squares, rival_squares, costs, rival_costs = [], [], [], []
    for case, answer in answered:
        if case.family != family:
            continue
        guess = _weighted(coefficients, features_of(case.changes))
        squares.append((answer - guess) ** 2)
        rival_squares.append((answer - middle) ** 2)
        costs.append(question.cost(case, guess))
        rival_costs.append(question.cost(case, middle))
    return Trial(mean(squares), mean(rival_squares), mean(costs), mean(rival_costs))


def _ranges(form: Sequence[str], answered: Answered) -> dict[str, tuple[float, float]]:
    """Return the least and the largest value of each feature."""
    features = [features_of(case.changes) for case, _ in answered]
    ranges = {}
    for name in form:
        values = [own[name] for own in features]
        ranges[name] = min(values), max(values)
    return ranges


def _fitted(form: Sequence[str], answered: Answered) -> dict[str, float]:
    counts = _counts(answered)
    rows, answers = [], []
    for case, answer in answered:
        weight = 1 / math.sqrt(counts[case.family])
        features = features_of(case.changes)
        rows.append([weight, *(weight * features[name] for name in form)])
        answers.append(weight * answer)
    solution = np.linalg.lstsq(np.array(rows), np.array(answers), rcond=None)[0]
    return dict(zip((CONSTANT, *form), map(float, solution), strict=True))


def _middle(answered: Answered) -> float:
    """Return the mean of the answers, each family counting alike."""
    return _fitted((), answered)[CONSTANT]


def _counts(answered: Answered) -> dict[str, int]:
    counts: dict[str, int] = {}
    for case, _ in answered:
        counts[case.family] = counts.get(case.family, 0) + 1
    return counts


def _weighted(coefficients: Mapping[str, float], features: Mapping[str, float]) -> float:
    total = coefficients[CONSTANT]
    for name, coefficient in coefficients.items():
        if name != CONSTANT:
            total += coefficient * features[name]
    return total


def fit_all(cases: Sequence[Case]) -> list[Rule]:
    """Fit every form of every question."""
    fitted = []
    for question in QUESTIONS:
        fitted += [fit(question, form, cases) for form in question.forms]
    return fitted


def write_rules(rules: Sequence[Rule], file: Path = RULES) -> None:
    """Write all rules that were tried, those that do not predict, too."""
    file.write_text(json.dumps([_rounded(asdict(rule)) for rule in rules], indent=1) + "\n", encoding="utf-8")


def read_rules(file: Path = RULES) -> dict[str, list[Rule]]:
    """Return the rules that predict by their question, those with the least error first."""
    by_question: dict[str, list[Rule]] = {}
    for rule in sorted(all_rules(file), key=lambda rule: rule.error):
        if rule.predicts:
            by_question.setdefault(rule.question, []).append(rule)
    return by_question


def all_rules(file: Path = RULES) -> list[Rule]:
    """Return all rules that were tried."""
    rules = []
    for entry in json.loads(file.read_text(encoding="utf-8")):
        ranges = {name: (low, high) for name, (low, high) in entry["ranges"].items()}
        rules.append(Rule(**{**entry, "ranges": ranges}))
    return rules


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    """Round numbers to digits that do not depend on the processor."""
    rounded: dict[str, Any] = {}
    for name, value in entry.items():
        if isinstance(value, float):
            rounded[name] = round(value, DIGITS)
        elif isinstance(value, dict):
            rounded[name] = _rounded(value)
        elif isinstance(value, tuple):
            rounded[name] = [round(number, DIGITS) for number in value]
        else:
            rounded[name] = value
    return rounded
