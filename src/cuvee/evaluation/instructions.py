"""Constraints that an instruction states and that a program can check, as IFEval does (arXiv:2311.07911).

Of IFEval's 25 kinds, those are here that can be read from the instruction's own words: "at least 300 words", "do not
use any commas", "wrap your entire response with double quotation marks". A kind is a pattern that finds the constraint
and a function that checks a response. Instructions that no pattern finds are not judged.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
COUNT = rf"(\d+|{'|'.join(NUMBER_WORDS)})"
LEAST = rf"(?:at least {COUNT}|{COUNT} or more|(\d+)\+|more than {COUNT})"
FEWER = rf"(?:fewer than {COUNT}|less than {COUNT}|at most {COUNT}|no more than {COUNT})"
WORD = r"[\"'“]?([\w-]+)[\"'”]?"


@dataclass(frozen=True)
class Constraint:
    """A constraint found in an instruction: its kind, and whether a response keeps to it."""

    kind: str
    kept: Callable[[str], bool]


def constraints(instruction: str) -> list[Constraint]:
    """Find the constraints that an instruction states."""
    found: list[Constraint] = []
    for kind, find in KINDS.items():
        found += [Constraint(kind, check) for check in find(instruction)]
    return found


def followed(instruction: str, response: str) -> float | None:
    """Return the share of the instruction's constraints that a response keeps to, None where none can be checked."""
    checks = constraints(instruction)
    if not checks:
        return None
    return sum(check.kept(response) for check in checks) / len(checks)


Found = Iterator[Callable[[str], bool]]


def _no_commas(text: str) -> Found:
    if re.search(r"\b(?:not|n't|no|without|refrain from)\b[^.!?]*\bcommas?\b", text, re.I):
        yield lambda response: "," not in response


def _lowercase(text: str) -> Found:
    if re.search(r"\b(?:all|only|entirely)(?: in)?(?: use)? lower ?case|no capital letters", text, re.I):
        yield lambda response: response == response.lower()


def _capitals(text: str) -> Found:
    if re.search(r"\bin all capital letters|\ball capital letters, |no lowercase letters", text, re.I):
        yield lambda response: response == response.upper()


def _quoted(text: str) -> Found:
    if re.search(r"wrap[^.]*(?:entire|whole)[^.]*double quot", text, re.I):
        yield lambda response: len(response.strip()) > 1 and response.strip()[0] == response.strip()[-1] == '"'


def _words(text: str) -> Found:
    yield from _amounts(text, r"[\s-]+words?\b", lambda response: len(re.findall(r"\w+", response)))


def _sentences(text: str) -> Found:
    yield from _amounts(text, r" sentences?\b", lambda r: len(re.findall(r"[^.!?]*\w[^.!?]*(?:[.!?]+|$)", r.strip())))


def _paragraphs(text: str) -> Found:
    if match := re.search(rf"\b(?:exactly )?{COUNT}[\s-]paragraphs?\b", text, re.I):
        number = _number(match.group(1))
        yield lambda response: len([part for part in re.split(r"\n\s*\n|\*\*\*", response) if part.strip()]) == number


def _placeholders(text: str) -> Found:
    yield from _amounts(text, r" placeholders?\b", lambda response: len(re.findall(r"\[[^\]\n]+\]", response)))


def _bullets(text: str) -> Found:
    if match := re.search(rf"exactly {COUNT} bullet points?", text, re.I):
        number = _number(match.group(1))
        yield lambda response: len(re.findall(r"^\s*(?:\*(?!\*)|-) ?\S", response, re.M)) == number


def _highlights(text: str) -> Found:
    if match := re.search(rf"highlight[^.]*?{LEAST}|{LEAST}[^.]*?highlight", text, re.I):
        number = _limit(match)
        yield lambda response: len(re.findall(r"\*{1,2}[^\n*]+\*{1,2}", response)) >= number


def _title(text: str) -> Found:
    if "<<" in text and re.search(r"\btitle\b", text, re.I):
        yield lambda response: re.search(r"<<[^\n<>]+>>", response) is not None


def _postscript(text: str) -> Found:
    if match := re.search(r"postscript[^.]*?(P\.P\.S|P\.S)", text):
        yield lambda response: match.group(1) in response


def _responses(text: str) -> Found:
    if "******" in text and (match := re.search(rf"\b{COUNT} (?:different )?\w+", text, re.I)):
        number = _number(match.group(1))
        yield lambda response: len([part for part in response.split("******") if part.strip()]) == number


def _keywords(text: str) -> Found:
    if match := re.search(r"keywords? ((?:\"[^\"]+\"(?:,? (?:and|or) |, )?)+)", text, re.I):
        yield from map(_mentions, re.findall(r'"([^"]+)"', match.group(1)))
    yield from map(_mentions, re.findall(r"\bmention \"([^\"]+)\"", text, re.I))


def _mentions(word: str) -> Callable[[str], bool]:
    return lambda response: _uses(response, word) > 0


def _frequency(text: str) -> Found:
    times = r"(?:at least )?(?:(twice)|(?:at least )?(\d+)(?: or more)? times)"
    for match in re.finditer(rf"\bwords? {WORD} (?:should )?(?:appears?|at least)?\s*{times}", text, re.I):
        word, twice, number = match.groups()
        least = 2 if twice else int(number)
        yield lambda response, word=word, least=least: _uses(response, word) >= least  # type: ignore[misc]  # binds these
    if match_of_letter := re.search(r"\bletter (\w) should appear at least (\d+) times", text, re.I):
        letter, least = match_of_letter.group(1).lower(), int(match_of_letter.group(2))
        yield lambda response: response.lower().count(letter) >= least


KINDS: dict[str, Callable[[str], Found]] = {
    "no_commas": _no_commas,
    "lowercase": _lowercase,
    "capitals": _capitals,
    "quoted": _quoted,
    "words": _words,
    "sentences": _sentences,
    "paragraphs": _paragraphs,
    "placeholders": _placeholders,
    "bullets": _bullets,
    "highlights": _highlights,
    "title": _title,
    "postscript": _postscript,
    "responses": _responses,
    "keywords": _keywords,
    "frequency": _frequency,
}


def _amounts(text: str, unit: str, count: Callable[[str], int]) -> Found:
    """Find "at least 3 UNIT" and "fewer than 3 UNIT"; the count need not be a round number."""
    if match := re.search(LEAST + unit, text, re.I):
        least = _limit(match) + match.group().lower().startswith("more than")
        yield lambda response: count(response) >= least
    if match := re.search(FEWER + unit, text, re.I):
        most = _limit(match) - match.group().lower().startswith(("fewer", "less"))
        yield lambda response: count(response) <= most


def _limit(match: re.Match[str]) -> int:
    return _number(next(group for group in match.groups() if group is not None))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else NUMBER_WORDS.index(text.lower())


def _uses(response: str, word: str) -> int:
    return len(re.findall(rf"\b{re.escape(word)}", response, re.I))
