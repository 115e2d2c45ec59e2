"""Sentences that a person can act on. Each states only a rule's prediction, with its error beside it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cuvee.amounts import points, signed
from cuvee.suggest.changes import Changes
from cuvee.suggest.rules import QUESTIONS, Rule

SCALE_OF = "scale of "
ALIGNED, OPPOSED = 0.25, -0.1
"""Cosines from which task vectors pull the same way, and below which they pull against each other."""


@dataclass(frozen=True)
class Advice:
    """A sentence, its grounds, and the rule's number with its error and that of saying the mean.

    `value` and the errors are in the rule's unit: a scale and factors, or shares of 1.
    """

    question: str
    sentence: str
    evidence: str
    value: float
    error: float
    rival_error: float


def advice_of(changes: Changes, rules: Mapping[str, Sequence[Rule]]) -> tuple[Advice, ...]:
    """Return the predictions of rules about some experts, in the order of the questions.

    Of a question's rules the first counts that needs nothing that is not there.
    """
    advice = []
    for question in QUESTIONS:
        for rule in rules.get(question.name, ()):
            answer = rule.answer(changes)
            if answer is not None:
                advice.append(_advice(rule, answer, changes))
                break
    return tuple(advice)


def unanswered(advice: Sequence[Advice]) -> tuple[str, ...]:
    """Return the questions without advice."""
    answered = {entry.question for entry in advice}
    return tuple(question.name for question in QUESTIONS if question.name not in answered)


def _advice(rule: Rule, answer: float, changes: Changes) -> Advice:
    if rule.question.startswith(SCALE_OF):
        return _scale_advice(rule, math.exp(answer), changes)
    evidence = (
        f"on families left out off by {points(rule.error)} points; the mean, {points(rule.mean)}, by "
        f"{points(rule.rival_error)}{_guess(rule, changes)}"
    )
    sentence = SENTENCES[rule.question](answer, rule.error, changes)
    return Advice(rule.question, sentence, evidence, answer, rule.error, rule.rival_error)


def _scale_advice(rule: Rule, scale: float, changes: Changes) -> Advice:
    method = rule.question.removeprefix(SCALE_OF)
    sentence = SCALED[method].format(scale=scale)
    if method == "task_arithmetic":
        sentence = f"{_in_words(changes)}: {sentence}"
    factor, rival = math.exp(rule.error), math.exp(rule.rival_error)
    evidence = (
        f"on families left out within a factor of {factor:.2f} of the best, which costs {points(rule.cost)} points; "
        f"{math.exp(rule.mean):.2f} for all: {rival:.2f} and {points(rule.rival_cost)}{_guess(rule, changes)}"
    )
    return Advice(rule.question, sentence, evidence, scale, factor, rival)


def _guess(rule: Rule, changes: Changes) -> str:
    beyond = rule.beyond(changes)
    return f"; a guess, for {' and '.join(beyond)} lies outside what was measured" if beyond else ""


def _in_words(changes: Changes) -> str:
    """Say how the changes point. Of unlike pairs, a mean would describe none of them."""
    low, high = min(changes.cosines), max(changes.cosines)
    if low >= ALIGNED:
        return f"The changes pull the same way (mean cosine {changes.cosine:.2f})"
    if high <= OPPOSED:
        return f"The changes pull against each other (mean cosine {changes.cosine:.2f})"
    if low > OPPOSED and high < ALIGNED:
        return f"The changes are nearly orthogonal (mean cosine {changes.cosine:.2f})"
    return f"The changes point in unlike ways (cosines from {low:.2f} to {high:.2f})"


SCALED = {
    "task_arithmetic": "add them by task_arithmetic with lambda about {scale:.2f}.",
    "ties": "For ties with density 0.5, take lambda about {scale:.2f}.",
    "tsv_m": "For tsv_m, take lambda about {scale:.2f}.",
}


def _retained(answer: float, error: float, changes: Changes) -> str:
    share = min(max(answer, 0.0), 1.0)
    return f"Expect the best plain sum to keep {100 * share:.0f} % of what each expert gained on its own task."


def _over_average(answer: float, error: float, changes: Changes) -> str:
    if answer < error:
        return "Tuning lambda may gain nothing over the plain average."
    return f"Tune lambda: expect {signed(answer)} points over the plain average."


def _gain_of(method: str) -> Callable[[float, float, Changes], str]:
    def sentence(answer: float, error: float, changes: Changes) -> str:
        if abs(answer) < error:
            return f"Expect no clear difference between {method} and task_arithmetic, each at its best scale."
        verb = "Try" if answer > 0 else "Leave"
        return f"{verb} {method}: expect {signed(answer)} points against task_arithmetic, each at its best scale."

    return sentence


def _normalising(answer: float, error: float, changes: Changes) -> str:
    further = max(range(len(changes.models)), key=changes.ratio)
    moved = f"{changes.models[further]} moved {changes.ratio(further):.1f} times as far as the others"
    if abs(answer) < error:
        return f"{moved}: weights by 1 / norm make no clear difference."
    if answer > 0:
        return f"{moved}: weigh each expert by 1 / its norm, and expect {signed(answer)} points."
    return f"{moved}: leave it so; weights by 1 / norm would cost about {points(-answer)} points."


SENTENCES: Mapping[str, Callable[[float, float, Changes], str]] = {
    "share retained": _retained,
    "gain of tuning over the average": _over_average,
    "gain of tsv_m": _gain_of("tsv_m"),
    "gain of ties": _gain_of("ties"),
    "gain of normalising": _normalising,
}
"""What answers come to, given the rule's error: a difference that is smaller than that is none to act on."""
