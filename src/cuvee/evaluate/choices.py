"""Multiple choice: which choice does the model find most likely after the context?

The context is computed once, and its keys and values serve all choices. A choice of one token costs nothing more.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from cuvee.errors import EvaluationError, RecipeError, closest
from cuvee.evaluate.batches import BatchSize, Work, everything, make_batches
from cuvee.evaluate.forward import Seen, read_on, token_budget
from cuvee.evaluate.kit import kit_questions
from cuvee.evaluate.memory import halving
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.prompt import Prompt
from cuvee.evaluate.question import Question, Tokens, make_questions
from cuvee.evaluate.shared import SharedStart
from cuvee.evaluate.task import Sample

Scoring = Literal["sum", "per_byte", "per_character", "per_token", "letter", "kit"]
LOGITS_AT_ONCE = 64 * 2**20


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
    be one letter. `kit` is what the original starter kit computed. `work` says which samples; all without it.
    """
    asked = everything(len(samples)) if work is None else work
    places = asked.places
    if not places:
        return
    if scoring == "letter":
        check_letters(samples)
    made = (kit_questions if scoring == "kit" else make_questions)(model, [samples[place] for place in places], prompt)
    questions = dict(zip(places, made, strict=True))
    costs = {place: _cost(each) for place, each in questions.items()}
    batches = asked.batches(
        {place: (len(each.prefix), each.longest) for place, each in questions.items()},
        costs,
        batch_size=batch_size,
        budget=token_budget(model),
    )
    start = SharedStart(model, prompt)
    found = halving(batches, costs, lambda batch: log_likelihoods(model, [questions[place] for place in batch], start))
    for batch, totals in found:
        rows = zip(batch, totals, strict=True)
        yield [(place, _choice(samples[place], questions[place], row, scoring)) for place, row in rows]


def _cost(question: Question) -> int:
    """Tokens whose keys and values are kept: each choice of more than one token has a copy of the prefix."""
    copies = len(question.choices) if question.longest > 1 else 1
    return copies * (len(question.prefix) + question.longest)


def check_scoring(scoring: str) -> None:
    """Raise unless there is such a scoring."""
    if scoring not in get_args(Scoring):
        guess = closest(scoring, get_args(Scoring))
        hint = f"did you mean '{guess}'?" if guess else f"available: {', '.join(get_args(Scoring))}"
        raise RecipeError(f"unknown scoring '{scoring}'", hint=hint)


@torch.inference_mode()
def log_likelihoods(model: LanguageModel, questions: Sequence[Question], start: SharedStart) -> list[list[float]]:
    """Sum the log-probabilities of the scored tokens of each choice, for questions computed in one batch."""
    seen = start.read([question.prefix for question in questions])
    owners = [place for place, question in enumerate(questions) for _ in question.choices]
    rows = [choice for question in questions for choice in question.choices]
    totals = np.zeros(len(rows))
    if questions[0].first_scored:
        totals += _first_tokens(seen, owners, rows)
    for part in _parts(rows, seen.logits.shape[-1]):
        totals[part] += _later_tokens(model, seen, [owners[row] for row in part], [rows[row] for row in part])
    flat = iter(totals.tolist())
    return [[next(flat) for _ in question.choices] for question in questions]


def _first_tokens(seen: Seen, owners: list[int], rows: list[Tokens]) -> np.ndarray:
    found: torch.Tensor = seen.logits.log_softmax(-1)[owners, [row[0] for row in rows]]
    return found.double().cpu().numpy()


def _parts(rows: list[Tokens], vocabulary: int) -> Iterator[list[int]]:
    """Group the rows with more than one token by length, so that the logits of a group fit into memory."""
    lengths = [(len(row) - 1,) for row in rows]
    longer = [place for place, row in enumerate(rows) if len(row) > 1]
    sizes = [lengths[place] for place in longer]
    costs = [size * vocabulary for (size,) in sizes]
    for part in make_batches(sizes, costs, batch_size="auto", budget=LOGITS_AT_ONCE):
        yield [longer[place] for place in part]


def _later_tokens(model: LanguageModel, seen: Seen, owners: list[int], rows: list[Tokens]) -> np.ndarray:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    own = seen.select(torch.tensor(owners, device=model.device))
    logits, _ = read_on(model, own, ids[:, :-1], last_only=False)
    logits = logits.float()
    chosen = logits.gather(-1, ids[:, 1:, None]).squeeze(-1) - logits.logsumexp(-1)
    scored = torch.arange(1, longest, device=model.device) < lengths[:, None]
    return chosen.double().where(scored, 0.0).sum(-1).cpu().numpy()


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


def check_letters(samples: Sequence[Sample]) -> None:
    """Raise unless every choice is one letter."""
    other = [s.id for s in samples if not all(len(choice) == 1 and choice.isalpha() for choice in s.choices)]
    if other:
        raise EvaluationError(
            f"letter scoring needs choices of one letter each; not so for id {', '.join(other[:5])}",
            hint="score them with 'sum'",
        )
