"""A multiple-choice item as tokens: a prefix, and the choices that may follow it."""

from collections.abc import Sequence
from dataclasses import dataclass

Tokens = list[int]


@dataclass(frozen=True)
class Question:
    """Tokens of one item, and the text that its prefix came from.

    `cut` is how many tokens were dropped from the left of the prefix for want of room. Where `first_scored` is false,
    the first token of each choice is read and not scored.
    """

    prefix: Tokens
    choices: tuple[Tokens, ...]
    first_scored: bool = True
    cut: int = 0
    prompt: str = ""

    @property
    def tokens(self) -> int:
        """How many tokens the model reads; the last of a choice is never an input."""
        return len(self.prefix) + sum(len(choice) - 1 for choice in self.choices)

    @property
    def longest(self) -> int:
        return max(map(len, self.choices))

    @property
    def scored(self) -> tuple[int, ...]:
        """How many tokens of each choice are scored."""
        return tuple(len(choice) - (not self.first_scored) for choice in self.choices)


def by_question(numbers: Sequence[float], questions: Sequence[Question]) -> list[list[float]]:
    """Split one number for each choice, of one question after the other."""
    rest = iter(numbers)
    return [[next(rest) for _ in question.choices] for question in questions]
