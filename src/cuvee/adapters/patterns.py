"""Patterns of module names in an adapter's config: the part of regular expressions that such names need.

The patterns come from strangers, and Python's own engine can be kept busy for ever by a short one. Here a pattern is
tried on all positions of a name at once, so that no pattern takes long. What it cannot express is refused.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from cuvee.documents.shown import shown

MAX_PATTERN = 2000
MAX_DEPTH = 3
MAX_COUNT = 100

Ends = Callable[[str, frozenset[int]], frozenset[int]]
"""Takes a name and positions in it; gives the positions to which a pattern leads from these."""

T = TypeVar("T")


@dataclass(frozen=True)
class Patterns(Generic[T]):
    """Values for the modules whose name, or its end from one of its parts on, matches; the first counts, as in PEFT."""

    entries: tuple[tuple[Ends, T], ...] = ()

    def value(self, module: str, default: T) -> T:
        """Return a module's value."""
        starts = _starts(module)
        return next((value for ends, value in self.entries if len(module) in ends(module, starts)), default)

    def are_at_odds(self, module: str) -> bool:
        """Say whether several patterns match a module, with different values: then their order counts."""
        starts = _starts(module)
        return len({value for ends, value in self.entries if len(module) in ends(module, starts)}) > 1


def _starts(module: str) -> frozenset[int]:
    """Return where in a module's name a pattern may begin."""
    return frozenset({0} | {i + 1 for i, letter in enumerate(module) if letter == "."})


def names_one_of(module: str, names: Iterable[str]) -> bool:
    """Say whether a module is called one of the names, or ends in a dot and one."""
    return any(module == name or module.endswith(f".{name}") for name in names)


def read_pattern(text: str) -> Ends:
    """Read a pattern. Raises ValueError for what is no regular expression, or not of the part that is understood."""
    if len(text) > MAX_PATTERN:
        raise ValueError(f"the pattern {shown(text)} is too long")
    parser = _Parser(text)
    found = parser.alternatives(0)
    if parser.at < len(text):
        raise ValueError(f"the pattern {shown(text)} has a ')' too many")
    return found


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        letter = self.peek()
        if not letter:
            raise self.wrong("ends too early")
        self.at += 1
        return letter

    def wrong(self, what: str) -> ValueError:
        return ValueError(f"the pattern {shown(self.text)} {what}")

    def alternatives(self, depth: int) -> Ends:
        options = [self.sequence(depth)]
        while self.peek() == "|":
            self.at += 1
            options.append(self.sequence(depth))
        return lambda name, starts: frozenset().union(*(option(name, starts) for option in options))

    def sequence(self, depth: int) -> Ends:
        parts: list[Ends] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.counted(self.atom(depth)))

        def ends(name: str, starts: frozenset[int]) -> frozenset[int]:
            for part in parts:
                starts = part(name, starts) if starts else starts
            return starts

        return ends

    def atom(self, depth: int) -> Ends:
        letter = self.take()
        if letter == "(":
            return self.group(depth + 1)
        if letter == "^":
            return lambda name, starts: starts & {0}
        if letter == "$":
            return lambda name, starts: starts & {len(name)}
        if letter == "[":
            return _one_of(self.letters())
        if letter in "*+?{":
            raise self.wrong("repeats nothing")
        return _one_of((lambda _: True) if letter == "." else self.kind(letter))

    def group(self, depth: int) -> Ends:
        if depth > MAX_DEPTH:
            raise self.wrong(f"has groups within each other more than {MAX_DEPTH} deep")
        if self.peek() == "?":
            self.at += 1
            if self.take() != ":":
                raise self.wrong("has a group of a kind that is not supported")
        found = self.alternatives(depth)
        if self.take() != ")":
            raise self.wrong("lacks a ')'")
        return found

    def kind(self, letter: str) -> Callable[[str], bool]:
        """Return what a letter stands for; after a backslash the next one."""
        if letter != "\\":
            return letter.__eq__
        escaped = self.take()
        known: dict[str, Callable[[str], bool]] = {
            "d": str.isdecimal, "w": lambda c: c.isalnum() or c == "_", "s": str.isspace,
        }  # fmt: skip
        if escaped in known:
            return known[escaped]
        if escaped.isalnum():
            raise self.wrong(f"has '\\{escaped}', which is not supported")
        return escaped.__eq__

    def letters(self) -> Callable[[str], bool]:
        """Read what stands between brackets."""
        inverted = self.peek() == "^"
        self.at += inverted
        kinds: list[Callable[[str], bool]] = []
        while not (self.peek() == "]" and kinds):
            first = self.take()
            is_dash = first != "\\" and self.peek() == "-"
            if is_dash and self.text[self.at + 1 : self.at + 2] not in ("", "]"):
                self.at += 1
                last = self.take()
                kinds.append(lambda c, first=first, last=last: first <= c <= last)  # type: ignore[misc]  # bound now
            else:
                kinds.append(self.kind(first))
        self.at += 1
        return lambda c: any(kind(c) for kind in kinds) != inverted

    def counted(self, part: Ends) -> Ends:
        sign = self.peek()
        if sign not in ("*", "+", "?", "{") or not sign:
            return part
        self.at += 1
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign) or self.counts()
        if self.peek() in ("?", "+"):
            self.at += 1  # lazy or greedy, the same names match
        if self.peek() in ("*", "{"):
            raise self.wrong("repeats a repetition")
        return _repeated(part, least, most)

    def counts(self) -> tuple[int, int | None]:
        inside, brace, rest = self.text[self.at :].partition("}")
        first, comma, second = inside.partition(",")
        has_end = not second or second.isdecimal()
        if not brace or not first.isdecimal() or not has_end:
            raise self.wrong("has a '{' that is no count")
        self.at = len(self.text) - len(rest)
        least, most = int(first), int(second or first)
        if max(least, most) > MAX_COUNT:
            raise self.wrong(f"repeats more than {MAX_COUNT} times")
        is_open = comma and not second
        return least, None if is_open else most


def _one_of(fits: Callable[[str], bool]) -> Ends:
    return lambda name, starts: frozenset(i + 1 for i in starts if i < len(name) and fits(name[i]))


def _repeated(part: Ends, least: int, most: int | None) -> Ends:
    def ends(name: str, starts: frozenset[int]) -> frozenset[int]:
        for _ in range(least):
            starts = part(name, starts)
        found = new = starts
        repeats: Iterable[int] = count() if most is None else range(most - least)
        for _ in repeats:
            if not new:
                break
            new = part(name, new) - found
            found |= new
        return found

    return ends
