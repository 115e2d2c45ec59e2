"""Settings: the names and kinds that a method takes (`Setting`), and the values that a recipe gives (`Value`).

mergekit's forms: a scalar; a gradient, a list of values spread over depth; a list of `{filter, value}`, of which the
first whose filter is in the tensor's name counts. A value is kept as a tuple of `Choice`s, whatever form it had.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cuvee.documents.shown import shown

Scalar = float | int | bool | str
SettingKind = Literal["number", "integer", "boolean", "text"]


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, ends included unless `open_low` or `open_high`."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, number: float) -> bool:
        if self.low is not None:
            is_above = number > self.low if self.open_low else number >= self.low
            if not is_above:
                return False
        if self.high is None:
            return True
        return number < self.high if self.open_high else number <= self.high

    def __str__(self) -> str:
        if self.low is None and self.high is None:
            return "any number"
        left, right = "(-inf", "inf)"
        if self.low is not None:
            bracket = "(" if self.open_low else "["
            left = f"{bracket}{self.low:g}"
        if self.high is not None:
            bracket = ")" if self.open_high else "]"
            right = f"{self.high:g}{bracket}"
        return f"{left}, {right}"


@dataclass(frozen=True)
class Setting:
    """A parameter of a method. With `required` there is no default, and a recipe must set it."""

    name: str
    kind: SettingKind
    per_model: bool = False
    default: Scalar | None = None
    required: bool = False
    within: Range = Range()
    choices: tuple[str, ...] = ()

    def complaint(self, value: object) -> str | None:
        """Say why `value` is refused; None if it is allowed."""
        expected = self._expected_for(value)
        return None if expected is None else f"expected {expected}, found {shown(value)}"

    def _expected_for(self, value: object) -> str | None:
        """Name the expected value in place of a refused value; None for a value that is taken."""
        if self.kind == "boolean":
            return None if isinstance(value, bool) else "true or false"
        if self.kind == "text":
            return None if value in self.choices else f"one of {', '.join(self.choices)}"
        return self._number_for(value)

    def _number_for(self, value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "a number"
        if not abs(value) <= sys.float_info.max:
            return "a finite number"
        if self.kind == "integer" and value != int(value):
            return "a whole number"
        return None if value in self.within else f"a number in {self.within}"

    def plain(self, value: Scalar) -> Scalar:
        """Return an allowed value as the kind's own type, so that `1` and `1.0` are the same setting."""
        if self.kind == "number":
            return float(value) + 0.0  # not -0.0
        return round(float(value)) if self.kind == "integer" else value


@dataclass(frozen=True)
class Choice:
    """An entry of a value: the stops of a gradient (one for a scalar), for tensors whose name holds `filter`."""

    stops: tuple[Scalar, ...]
    filter: str = "*"

    def applies_to(self, tensor: str) -> bool:
        return self.filter == "*" or self.filter in tensor

    def at(self, depth: float) -> Scalar:
        """Interpolate at a relative `depth` in [0, 1]; texts and booleans step instead."""
        position = depth * (len(self.stops) - 1)
        if abs(position - round(position)) < 1e-9:
            position = round(position)  # 1/49 * 49 is below 1, and a list of booleans would take the stop before
        last = len(self.stops) - 1
        index = min(int(position), last)
        here = self.stops[index]
        if index == last or isinstance(here, bool | str):
            return here
        fraction = position - index
        return (1 - fraction) * here + fraction * float(self.stops[index + 1])


Value = tuple[Choice, ...]
Settings = Mapping[str, Value]


def parse_value(written: Any) -> Value:
    """Read a parameter's value in any of its forms. Raises ValueError."""
    if isinstance(written, Mapping):
        return (_filtered(written),)
    if not _is_list(written):
        return (Choice(_stops([written])),)
    if not written:
        raise ValueError("expected at least one value, found an empty list")
    if all(isinstance(entry, Mapping) for entry in written):
        return tuple(_filtered(entry) for entry in written)
    return (Choice(_stops(written)),)


def _is_list(written: Any) -> bool:
    return isinstance(written, Sequence) and not isinstance(written, str)


def value_at(scopes: Sequence[Settings], name: str, tensor: str, depth: float) -> Scalar | None:
    """Return the first value that a scope, innermost first, has for this tensor at this depth; None if none has."""
    for scope in scopes:
        for choice in scope.get(name, ()):
            if choice.applies_to(tensor):
                return choice.at(depth)
    return None


def _filtered(entry: Mapping[str, Any]) -> Choice:
    if not {"value"} <= set(entry) <= {"filter", "value"}:
        raise ValueError(f"expected {{filter, value}}, found {shown(dict(entry))}")
    written = entry["value"]
    name = entry.get("filter")
    if name is not None and not isinstance(name, str):
        raise ValueError(f"expected a text as filter, found {shown(name)}")
    stops = written if _is_list(written) else [written]
    return Choice(_stops(stops), name or "*")


def _stops(written: Sequence[Any]) -> tuple[Scalar, ...]:
    if not written:
        raise ValueError("expected at least one value, found an empty list")
    for entry in written:
        if not isinstance(entry, bool | int | float | str):
            raise ValueError(f"expected a number, true, false or a text, found {shown(entry)}")
    kinds = sorted(set(map(_kind, written)))
    if len(kinds) > 1:
        raise ValueError(f"expected values of one kind in a gradient, found {', '.join(kinds)}")
    return tuple(written)


def _kind(value: Scalar) -> str:
    if isinstance(value, str):
        return "text"
    return "boolean" if isinstance(value, bool) else "number"
