"""The answer in a model's text: patterns tried in order, and the choice that the answer names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

NUMBER = r"(?:(?<![\w.,])-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?:(?<![\w.,])-)?(?<!\d)\.\d+"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTER = r"(?<![A-Za-z'])(?:([B-HJ-Z])|([AI])(?!\s+[a-z]))(?![A-Za-z'])"  # "A fox" and "I think" name no choice
FOUND = {"number": NUMBER, "letter": LETTER}


@dataclass(frozen=True)
class Extraction:
    """Where an answer stands: the first or the last match of a regular expression, or of `find` instead of it.

    The answer is the pattern's first group that took part, or all of the match. `letter` is a capital that stands
    alone, within the letters of the choices if there are some; `number` may have a sign, commas and decimals.
    """

    pattern: str = ""
    match: Literal["first", "last"] = "first"
    find: Literal["letter", "number"] | None = None

    def answer(self, text: str, letters: str = LETTERS) -> str | None:
        """Return the answer without whitespace around it, or None where nothing matches."""
        answers = list(map(_group, re.finditer(self.regex, text)))
        if self.find == "letter":
            answers = [answer for answer in answers if answer in letters]
        if not answers:
            return None
        answer = answers[0] if self.match == "first" else answers[-1]
        return answer.strip()

    @property
    def regex(self) -> str:
        """Return the words that the pattern searches."""
        return self.pattern if self.find is None else FOUND[self.find]


def extracted(text: str, patterns: Sequence[Extraction], otherwise: str | None, choices: Sequence[str] = ()) -> str:
    """Return the answer by the first pattern that matches; without patterns the whole text, stripped.

    Where no pattern matches, or the answer is blank, it is `otherwise`; without `otherwise`, again the whole text.
    """
    letters = LETTERS[: len(choices)] if choices else LETTERS
    blank = otherwise or ""
    for pattern in patterns:
        answer = pattern.answer(text, letters)
        if answer is not None:
            return answer or blank
    if patterns and otherwise is not None:
        return otherwise
    return text.strip() or blank


def named_choice(answer: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice that an answer names: by its text, whatever its case, or by its letter."""
    plain = [" ".join(choice.split()).lower() for choice in choices]
    words = " ".join(answer.split())
    if plain.count(words.lower()) == 1:
        return plain.index(words.lower())
    letter = words.strip("().:").upper()
    place = LETTERS.find(letter) if len(letter) == 1 else -1
    return place if 0 <= place < len(choices) else None


def _group(match: re.Match[str]) -> str:
    """Return the first group that matched; of a pattern without groups, the whole match."""
    if not match.re.groups:
        return match.group()
    return next((group for group in match.groups() if group is not None), "")
