"""How likely a model finds the choices of questions, computed in the cheapest way that the model allows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from cuvee.evaluation import branches, copies, whole
from cuvee.evaluation.batches import MAX_ITEMS, BatchSize, Unit, make_batches
from cuvee.evaluation.budget import CPU_WORK, LOGITS_AT_ONCE, token_budget
from cuvee.evaluation.library import vocabulary_size
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.question import Question
from cuvee.evaluation.reading import WayTaken
from cuvee.evaluation.shared import SharedStart
from cuvee.evaluation.stems import in_rows, row_of

MOST_TOKENS = 4096
"""Of a row that branches: its mask has the square of that, 64 MB."""

MOST_SHARED = 512
"""Tokens of a row with several questions: what attention costs grows with the square of them."""

BRANCHING_WORK = 160 * 10**9
"""Parameters times tokens that fill a CPU: with 135 million, 1200 tokens at once took a tenth less time than 2000."""


class Likelihoods:
    """Log-likelihoods of choices by one model. The shared beginning of all items is read once."""

    def __init__(self, model: LanguageModel, prompt: Prompt) -> None:
        self._model = model
        self._start = SharedStart(model, prompt)

    @property
    def budget(self) -> int:
        """The limit for the items of a batch times the cost of the largest."""
        branching = self._model.abilities.branches(1)
        return token_budget(self._model, BRANCHING_WORK if branching else CPU_WORK)

    def cost(self, question: Question) -> int:
        """Return for how many tokens keys and values are kept."""
        if self._branches(question):
            return question.tokens
        copied = len(question.choices) if question.longest > 1 else 1
        return copied * (len(question.prefix) + question.longest)

    def units(self, questions: Mapping[int, Question], batch_size: BatchSize) -> list[Unit]:
        """Return the units of computation, by place: questions that share a row, and questions alone in theirs."""
        places = [place for place, question in questions.items() if self._branches(question)]
        branching = [questions[place] for place in places]
        units = []
        for group in self._rows(branching, self._start.width, batch_size):
            row = row_of(branching, group)
            foretold = row.foretelling > len(row.questions)
            units.append(Unit(tuple(places[member] for member in group), (foretold, row.tokens), row.tokens))
        for place in questions.keys() - set(places):
            question = questions[place]
            units.append(Unit((place,), (len(question.prefix), question.longest), self.cost(question)))
        return units

    def of(self, questions: Sequence[Question]) -> list[list[float]]:
        """Return the log-likelihood of each choice, of questions computed in one batch. Equal choices have the same."""
        asked = [_without_repeats(question) for question in questions]
        totals = self._computed(asked)
        likelihoods = []
        for question, distinct, row in zip(questions, asked, totals, strict=True):
            by_tokens = dict(zip(map(tuple, distinct.choices), row, strict=True))
            likelihoods.append([by_tokens[tuple(choice)] for choice in question.choices])
        return likelihoods

    def _computed(self, questions: Sequence[Question]) -> list[list[float]]:
        if all(map(self._branches, questions)):
            self._count("one row", questions)
            return self._branched(questions)
        totals: list[list[float]] = [[]] * len(questions)
        for places in _within(questions, self._model.context_length):
            computed = self._one_by_one([questions[place] for place in places])
            for place, own in zip(places, computed, strict=True):
                totals[place] = own
        return totals

    def _one_by_one(self, questions: Sequence[Question]) -> list[list[float]]:
        """Return the log-likelihoods of choices that are rows of their own."""
        way = self._model.abilities.way(_columns(questions)).name
        self._count(way, questions)
        if way == "alone":
            return whole.log_likelihoods(self._model.abilities.network, questions)
        return self._copied(questions)

    def _count(self, way: WayTaken, questions: Sequence[Question]) -> None:
        self._model.abilities.meter.took(way, len(questions))

    def _branches(self, question: Question) -> bool:
        return question.tokens <= MOST_TOKENS and self._model.abilities.branches(question.tokens)

    def _branched(self, questions: Sequence[Question]) -> list[list[float]]:
        behind = max(question.tokens - len(question.prefix) for question in questions)
        before = self._start.before_branches([question.prefix for question in questions], follow=behind)
        grouped = self._rows(questions, 0 if before is None else before.width)
        rows = [row_of(questions, places) for places in grouped]
        network = self._model.abilities.network
        vocabulary = vocabulary_size(network)
        units = [Unit((number,), (row.foretelling,), row.foretelling * vocabulary) for number, row in enumerate(rows)]
        parts = make_batches(units, batch_size="auto", budget=LOGITS_AT_ONCE)
        totals: list[list[float]] = [[]] * len(questions)
        for part in parts:
            computed = branches.log_likelihoods(network, [rows[number] for number in part], before)
            places = chain.from_iterable(grouped[number] for number in part)
            for place, row_totals in zip(places, computed, strict=True):
                totals[place] = row_totals
        return totals

    def _rows(self, questions: Sequence[Question], start: int, batch_size: BatchSize = "auto") -> list[list[int]]:
        """Put questions that all branch into rows, after `start` tokens that were read for all."""
        most_items = MAX_ITEMS if batch_size == "auto" else batch_size
        most_tokens = min(MOST_SHARED, self._model.abilities.widest_row)
        return in_rows(questions, most_tokens, most_items, start)

    def _copied(self, questions: Sequence[Question]) -> list[list[float]]:
        return copies.log_likelihoods(questions, self._start, logits_at_once=LOGITS_AT_ONCE)


def _without_repeats(question: Question) -> Question:
    """Return the question with each of its choices once."""
    distinct = dict.fromkeys(map(tuple, question.choices))
    return replace(question, choices=tuple(map(list, distinct)))


def _within(questions: Sequence[Question], most: int) -> Iterator[list[int]]:
    """Put questions together whose batch has at most `most` columns, each of which fits by itself. Gives their places.

    Some networks have a table of as many places, and refuse more columns, be they padding.
    """
    group: list[int] = []
    for place in range(len(questions)):
        grown = [*group, place]
        columns = _columns([questions[member] for member in grown])
        if group and columns > most:
            yield group
            grown = [place]
        group = grown
    yield group


def _columns(questions: Sequence[Question]) -> int:
    """Return how many columns a batch has: prefixes padded to the longest, and choices behind them to the longest.

    The last token of a choice is not read.
    """
    prefix = max(len(question.prefix) for question in questions)
    choice = max(question.longest for question in questions)
    return prefix + choice - 1
