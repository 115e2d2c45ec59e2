"""Questions that begin alike, such as those about one passage: which of them share a row, so that it is read once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cuvee.evaluation.question import Question, Tokens

FEWEST = 16
"""Tokens that are worth sharing: for fewer, a wider row costs what they save."""


@dataclass(frozen=True)
class Row:
    """Questions in one row, whose prefixes all begin with the first `stem` tokens, which stand there once.

    Every prefix is longer than the stem.
    """

    questions: tuple[Question, ...]
    stem: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens the model reads."""
        return sum(question.tokens for question in self.questions) - self.saved()

    def saved(self, start: int = 0) -> int:
        """How many tokens fewer that is than the questions take apart, each after `start` tokens read for all."""
        return (len(self.questions) - 1) * (self.stem - start)

    @property
    def foretelling(self) -> int:
        """How many tokens may be followed by a scored token: the last of each prefix, and those of choices."""
        return sum(1 + question.tokens - len(question.prefix) for question in self.questions)


def in_rows(questions: Sequence[Question], most_tokens: int, most: int, start: int = 0) -> list[list[int]]:
    """Put questions that begin alike together, at most `most` in a row of `most_tokens`, where that saves tokens.

    All prefixes begin with `start` tokens that are read once anyway. Returns the places of each row's questions. A
    question that has nothing to share, or too many tokens, stands alone. Neighbours in the order of their prefixes are
    joined, those that share most before others.
    """
    order = sorted(range(len(questions)), key=lambda place: questions[place].prefix)
    runs = [[place] for place in order]
    run_at = list(range(len(order)))
    for border, shared in _borders([questions[place].prefix for place in order]):
        if shared - start < FEWEST:
            break
        left, right = run_at[border], run_at[border + 1]
        joined = Row(tuple(questions[place] for place in runs[left] + runs[right]), shared)
        apart = row_of(questions, runs[left]).saved(start) + row_of(questions, runs[right]).saved(start)
        has_room = len(joined.questions) <= most and joined.tokens <= most_tokens
        if has_room and joined.saved(start) > apart:
            run_at[border + 1 : border + 1 + len(runs[right])] = [left] * len(runs[right])
            runs[left] += runs[right]
            runs[right] = []
    return [run for run in runs if run]


def _borders(prefixes: Sequence[Tokens]) -> list[tuple[int, int]]:
    """Return each place between neighbours with how many tokens both begin with, the largest number first."""
    shared = [shared_stem(one, other) for one, other in pairwise(prefixes)]
    return sorted(enumerate(shared), key=lambda border: (-border[1], border[0]))


def row_of(questions: Sequence[Question], places: Sequence[int]) -> Row:
    """Return the row of some of the questions, which share their common beginning."""
    members = tuple(questions[place] for place in places)
    if len(members) == 1:
        return Row(members)
    prefixes = [member.prefix for member in members]
    shortest = min(map(len, prefixes))
    stem = shared_stem(min(prefixes), max(prefixes))
    return Row(members, min(stem, shortest - 1))


def shared_stem(one: Tokens, other: Tokens) -> int:
    """Return how many tokens two prefixes begin with alike, short of the last of either."""
    most = min(len(one), len(other)) - 1
    return next((place for place in range(most) if one[place] != other[place]), most)
