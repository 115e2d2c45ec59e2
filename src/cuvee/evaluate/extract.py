"""The answer in what a model wrote: patterns tried in order, and the choice that the answer names."""

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
        found = [_group(match) for match in re.finditer(self.regex, text)]
        if self.find == "letter":
            found = [each for each in found if each in letters]
        if not found:
            return None
        return found[0 if self.match == "first" else -1].strip()

    @property
    def regex(self) -> str:
        """Return what is searched for."""
        return self.pattern if self.find is None else FOUND[self.find]


def extracted(text: str, patterns: Sequence[Extraction], otherwise: str | None, choices: Sequence[str] = ()) -> str:
    """Return the answer by the first pattern that gives one; without patterns the whole text, stripped.

    Where no pattern does, or the answer is blank, it is `otherwise`; where that is not given, again the whole text.
    """
    letters = LETTERS[: len(choices)] if choices else LETTERS
    for pattern in patterns:
        if (found := pattern.answer(text, letters)) is not None:
            return found or otherwise or ""
    if patterns and otherwise is not None:
        return otherwise
    return text.strip() or otherwise or ""


def named_choice(answer: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice that an answer names: by its text, whatever its case, or by its letter."""
    plain = [" ".join(choice.split()).lower() for choice in choices]
    said = " ".join(answer.split())
    if plain.count(said.lower()) == 1:
        return plain.index(said.lower())
    letter = said.strip("().:").upper()
    place = LETTERS.find(letter) if len(letter) == 1 else -1
    return place if 0 <= place < len(choices) else None


def _group(match: re.Match[str]) -> str:
    groups = [group for group in match.groups() if group is not None]
    return groups[0] if groups else match.group() if not match.re.groups else ""
