"""Multiple choice: which choice does the model find most likely after the context?

The context is computed once for all choices.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cuvee.errors import EvaluationError, RecipeError, closest
from cuvee.evaluation.batches import BatchSize, Work, everything
from cuvee.evaluation.kit import kit_questions
from cuvee.evaluation.likelihoods import Likelihoods
from cuvee.evaluation.memory import halving
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.question import Question
from cuvee.evaluation.task import Sample
from cuvee.evaluation.tokenise import make_questions

Scoring = Literal["sum", "per_byte", "per_character", "per_token", "letter", "kit"]


@dataclass(frozen=True)
class Choice:
    """The best choice (the first of equals), all scores, the tokens read, and how many were cut off the context.

    `log_likelihoods` are the sums that scores are made of, over so many tokens as `lengths` says; `prompt` is the text
    that was read before the choices.
    """

    index: int
    scores: tuple[float, ...]
    log_likelihoods: tuple[float, ...]
    lengths: tuple[int, ...]
    tokens: int
    cut: int
    prompt: str


def choose(
    model: LanguageModel,
    samples: Sequence[Sample],
    prompt: Prompt,
    *,
    scoring: Scoring = "sum",
    batch_size: BatchSize = "auto",
    work: Work | None = None,
) -> Iterator[list[tuple[int, Choice]]]:
    """Answer multiple-choice samples, a batch at a time, as pairs of a sample's position and its choice.

    `sum` is the log-likelihood of a choice; `per_byte` (UTF-8), `per_character` and `per_token` divide it by the length
    of the choice. `letter` is the log of a letter's share of the probability of all letters offered; every choice must
    be a single letter. `kit` computes as the original starter kit did. `work` says which samples; all without it.
    """
    asked = everything(len(samples)) if work is None else work
    places = asked.places
    if not places:
        return
    if scoring == "letter":
        check_letters(samples)
    make = kit_questions if scoring == "kit" else make_questions
    made = make(model, [samples[place] for place in places], prompt)
    questions = dict(zip(places, made, strict=True))
    likelihoods = Likelihoods(model, prompt)
    costs = {place: likelihoods.cost(question) for place, question in questions.items()}
    units = likelihoods.units({place: questions[place] for place in asked.rest}, batch_size)
    batches = asked.batches(units, batch_size=batch_size, budget=likelihoods.budget)
    found = halving(batches, costs, lambda batch: likelihoods.of([questions[place] for place in batch]))
    for batch, totals in found:
        rows = zip(batch, totals, strict=True)
        yield [(place, _choice(samples[place], questions[place], row, scoring)) for place, row in rows]


def check_scoring(scoring: str) -> None:
    """Raise unless there is such a scoring."""
    if scoring not in get_args(Scoring):
        guess = closest(scoring, get_args(Scoring))
        hint = f"did you mean '{guess}'?" if guess else f"available: {', '.join(get_args(Scoring))}"
        raise RecipeError(f"unknown scoring '{scoring}'", hint=hint)


def _choice(sample: Sample, question: Question, totals: list[float], scoring: Scoring) -> Choice:
    if any(math.isnan(total) for total in totals):
        raise EvaluationError(f"the model's output for item '{sample.id}' is not a number")
    scores = scores_of_choices(sample.choices, [len(choice) for choice in question.choices], totals, scoring)
    return Choice(
        index=max(range(len(scores)), key=scores.__getitem__),
        scores=tuple(scores),
        log_likelihoods=tuple(totals),
        lengths=question.scored,
        tokens=question.tokens,
        cut=question.cut,
        prompt=question.prompt,
    )


def scores_of_choices(
    choices: Sequence[str], lengths: Sequence[int], totals: Sequence[float], scoring: Scoring
) -> list[float]:
    """Turn the log-likelihoods of choices, over so many tokens each, into scores."""
    if scoring == "per_byte":
        lengths = [len(choice.encode()) for choice in choices]
    elif scoring == "per_character":
        lengths = [len(choice) for choice in choices]
    elif scoring == "letter":
        return [total - float(np.logaddexp.reduce(totals)) for total in totals]
    elif scoring != "per_token":
        return list(totals)
    return [total / length for total, length in zip(totals, lengths, strict=True)]


def _is_letter(choice: str) -> bool:
    return len(choice) == 1 and choice.isalpha()


def check_letters(samples: Sequence[Sample]) -> None:
    """Raise unless every choice is a single letter."""
    other = [sample.id for sample in samples if not all(map(_is_letter, sample.choices))]
    if other:
        raise EvaluationError(
            f"letter scoring needs choices of one letter each; not so for id {', '.join(other[:5])}",
            hint="score them with 'sum'",
        )
