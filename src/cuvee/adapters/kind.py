"""What a kind of adapter is: the tensors that it has for a module, the keys of its config, and what they make of W.

Each file in `kinds/` holds one, `KIND`; an installed package adds others. `cuvee.adapters.catalogue.kinds` finds them.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeGuard

import numpy as np

Parts = Mapping[str, np.ndarray]
Settings = Mapping[str, Any]
MAX_COUNT = 1 << 20
MODULES = "modules of the adapter"
"""The setting that says how many modules an adapter changes, of a kind that shares its tensors by module."""


@dataclass(frozen=True)
class Key:
    """A key of a config: its value where it is not given, what it may be, and in words; the key of its patterns."""

    default: Any
    fits: Callable[[Any], bool]
    expected: str
    pattern: str | None = None


def number(default: float | None, pattern: str | None = None) -> Key:
    """Describe a key that holds a finite number."""
    return Key(default, is_number, "a number", pattern)


def count(default: int, pattern: str | None = None) -> Key:
    """Describe a key that holds a whole number of at least 1."""
    return Key(default, is_count, "a whole number of at least 1", pattern)


def switch(default: bool) -> Key:
    """Describe a key that is on or off."""
    return Key(default, lambda value: isinstance(value, bool), "true or false")


def choice(default: Any, *others: Any) -> Key:
    """Describe a key that has one of a few values."""
    values = (default, *others)

    def fits(value: Any) -> bool:
        return (type(value), value) in [(type(option), option) for option in values]

    return Key(default, fits, " or ".join(map(repr, values)))


def unused(*names: str) -> dict[str, Key]:
    """Describe keys of the training, which say nothing about what the finished adapter computes."""
    return dict.fromkeys(names, Key(None, is_plain, "a number, a text, a switch, or a list or mapping of these"))


@dataclass(frozen=True)
class Kind:
    """One kind of adapter, by the name that PEFT gives it.

    Attributes:
        name: The `peft_type` of its configs.
        forms: What a module may have stored: for each form the axes of each part, by the part's name. "out" and "in"
            are the module's, a digit is a size, and any other word is one size in the whole form; "..." is any shape.
        keys: The keys of its config that `change` reads, or that may be there.
        change: Takes W [out, in], the parts, and the settings, all numbers in float64; returns the changed W. Raises
            ValueError that says what does not fit.
        bias: Takes the bias [out], W, the parts, and the settings; returns the changed bias. None where none changes.
        shared: The names of tensors of the whole adapter that `change` finds among the parts.
        of_module: Takes a module and the names of all tensors that begin with a shared name and a dot; returns those
            that the module has, by part. None where the shared names are whole ones, and all modules have all.
        ignored: Parts that repeat what is stored elsewhere.
        only_bias: Whether W stays as it is.
        whole: A word in the names of tensors that stand in the place of the base's own.
        refusal: Says of settings why they have no exact change, or None.
    """

    name: str
    forms: tuple[Mapping[str, str], ...]
    keys: Mapping[str, Key]
    change: Callable[[np.ndarray, Parts, Settings], np.ndarray] | None
    bias: Callable[[np.ndarray, np.ndarray, Parts, Settings], np.ndarray] | None = None
    shared: tuple[str, ...] = ()
    of_module: Callable[[str, Collection[str]], Mapping[str, str]] | None = None
    ignored: tuple[str, ...] = ()
    only_bias: bool = False
    whole: str | None = None
    refusal: Callable[[Settings], str | None] = field(default=lambda settings: None)

    @property
    def parts(self) -> frozenset[str]:
        """The names of all parts of all forms."""
        return frozenset(chain.from_iterable(self.forms))

    def is_shared(self, name: str) -> bool:
        """Say whether a name is that of a tensor of the whole adapter."""
        whole = name if self.of_module is None else name.partition(".")[0]
        return whole in self.shared

    def fits(self, shapes: Mapping[str, tuple[int, ...]], out: int, into: int) -> bool:
        """Say whether stored parts are those of a module of this size."""
        return any(_is_form(form, shapes, out, into) for form in self.forms)


def _is_form(form: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], out: int, into: int) -> bool:
    if set(form) != set(shapes):
        return False
    sizes = {"out": out, "in": into}
    for part, axes in form.items():
        words = axes.split()
        if axes == "...":
            continue
        if len(words) != len(shapes[part]):
            return False
        for word, size in zip(words, shapes[part], strict=True):
            expected = int(word) if word.isdecimal() else sizes.setdefault(word, size)
            if expected != size:
                return False
    return True


def is_number(value: Any) -> TypeGuard[float]:
    """Say whether a value is a finite number of a sensible size."""
    if type(value) not in (int, float):
        return False
    return math.isfinite(value) and abs(value) < 1e30


def is_count(value: Any) -> TypeGuard[int]:
    """Say whether a value is a whole number of at least 1."""
    return type(value) is int and 1 <= value <= MAX_COUNT


def is_plain(value: Any) -> bool:
    """Say whether a value is a number, a text, a switch, or a flat list or mapping of these."""
    if isinstance(value, dict):
        return all(map(is_text, value)) and all(map(is_number, value.values()))
    listed = value if isinstance(value, list) else [value]
    return all(map(_is_single, listed))


def _is_single(value: Any) -> bool:
    if isinstance(value, bool):
        return True
    return is_number(value) or is_text(value)


def is_text(value: Any) -> TypeGuard[str]:
    """Say whether a value is a printable text of a sensible length."""
    if not isinstance(value, str):
        return False
    return value.isprintable() and len(value) < 4096
