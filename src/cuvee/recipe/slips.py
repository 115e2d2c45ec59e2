"""Slips of a recipe that mergekit lets pass, and so do we, with a warning: parameters of other methods, and quotes.

A key that no method knows is an error.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cuvee.documents.document import MAX_DIGITS, Document
from cuvee.documents.document import Path as Place
from cuvee.errors import RecipeError, several
from cuvee.recipe.setting import Setting

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_TRUE = ("true", "t", "yes", "y", "on", "1")
_FALSE = ("false", "f", "no", "n", "off", "0")

UNQUOTED = "it is read as one, as in mergekit"
WITHOUT_QUOTES = "write it without quotes"


@dataclass(frozen=True)
class Slip:
    """A slip that does no harm. `treatment` says how the merge reads it, `hint` how to write it right."""

    where: str
    message: str
    treatment: str
    hint: str

    def as_error(self) -> RecipeError:
        return RecipeError(self.message, where=self.where, hint=self.hint)


def warnings_of(slips: Iterable[Slip]) -> list[str]:
    """Return a warning for each kind of slip, with all its places."""
    places: dict[str, list[str]] = {}
    for slip in slips:
        places.setdefault(f"{slip.message}: {slip.treatment}", []).append(slip.where)
    return [f"{text} ({', '.join(dict.fromkeys(where))})" for text, where in places.items()]


def refuse_slips(slips: Iterable[Slip]) -> None:
    """Raise RecipeError that holds every slip, if there are any."""
    errors = [slip.as_error() for slip in slips]
    if errors:
        raise several(errors)


def plain_numbers(document: Document, keys: Collection[str]) -> tuple[Document, list[Slip]]:
    """Return the document with plain numbers where `keys` have numbers in quotes, and these slips."""
    slips: list[Slip] = []

    def without_quotes(value: Any, place: Place) -> Any:
        number = number_in(value)
        if number is None:
            return value
        slips.append(Slip(document.place(place), f"'{_key(place)}' is a number in quotes", UNQUOTED, WITHOUT_QUOTES))
        return number

    return replace(document, data=_walked(document.data, (), keys, without_quotes)), slips


def _walked(data: Any, place: Place, keys: Collection[str], change: Callable[[Any, Place], Any]) -> Any:
    """Copy plain data, with the values at the keys, or in lists there, changed."""
    if isinstance(data, Mapping):
        return {key: _walked(value, (*place, key), keys, change) for key, value in data.items()}
    if isinstance(data, list):
        return [_walked(value, (*place, i), keys, change) for i, value in enumerate(data)]
    if _key(place) in keys:
        return change(data, place)
    return data


def _key(place: Place) -> str:
    """Return the key at which a value stands, by itself or in a list."""
    for step in reversed(place):
        if isinstance(step, str):
            return step
    return ""


def number_in(value: Any) -> int | float | None:
    """Return the number that a text is; None for other texts, and for values that are no text."""
    if not isinstance(value, str) or len(value) > MAX_DIGITS:
        return None
    digits = value.strip()
    if not _NUMBER.fullmatch(digits):
        return None
    return int(digits) if digits.lstrip("+-").isdecimal() else float(digits)


def plain_scalars(written: Any, setting: Setting) -> tuple[Any, bool]:
    """Return a parameter's value with each scalar in the setting's own type, and whether any was of another.

    Filters stay as they are: they are part of a tensor's name.
    """
    if isinstance(written, Mapping):
        value, is_changed = plain_scalars(written.get("value"), setting)
        if is_changed:
            return {**written, "value": value}, True
        return written, False
    if isinstance(written, list):
        entries = [plain_scalars(entry, setting) for entry in written]
        is_changed = any(is_changed for _, is_changed in entries)
        return [value for value, _ in entries], is_changed
    if setting.kind == "text":
        return written, False
    scalar = _truth_in(written) if setting.kind == "boolean" else number_in(written)
    return (written, False) if scalar is None else (scalar, True)


def _truth_in(value: Any) -> bool | None:
    """Return the truth that a text or a number stands for, by mergekit's rules; None for true and false themselves."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    word = value.lower() if isinstance(value, str) else f"{value:g}"
    if word in _TRUE:
        return True
    return False if word in _FALSE else None
