"""A recipe with its numbers taken out: two recipes of one shape differ in numbers, layout and order of models alone."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cuvee.documents.document import read_documents
from cuvee.errors import RecipeError

NUMBER = "#"
NAMES = frozenset({"model", "base_model", "name", "path", "tokenizer_source"})
"""Keys whose text is no number, whatever it looks like."""

MODELS = frozenset({"model", "base_model", "path"})
"""Keys whose text is a model's name."""

SEED = "seed"

LISTS_WITHOUT_ORDER = frozenset({"models"})


class Shape(NamedTuple):
    """What is left of a recipe as text, its numbers in the order of that text, and what each of them sets."""

    text: str
    numbers: tuple[float, ...]
    keys: tuple[str, ...] = ()


def shape_of(recipe: str, names: Mapping[str, str] | None = None) -> Shape | None:
    """Return a recipe's shape; None for what is no recipe that can be read, such as a program's.

    `names` are other names for its models, under which they are known whatever a recipe calls them. Seeds are left out:
    a copy changes them at will.
    """
    try:
        documents = [document.data for document in read_documents(recipe, "recipe")]
    except RecipeError:
        return None
    names = names or {}
    shapes = [_shape("", content, names) for content in documents]
    return _joined("", [("", shape) for shape in shapes], "")


def largest_gap(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return the largest relative difference of two recipes' numbers; None where they have not as many."""
    if len(one) != len(other):
        return None
    return max((_gap(a, b) for a, b in zip(one, other, strict=True)), default=0.0)


def _gap(one: float, other: float) -> float:
    return abs(one - other) / max(abs(one), abs(other)) if one != other else 0.0


def _shape(key: str, value: Any, names: Mapping[str, str]) -> Shape:
    if isinstance(value, dict):
        kept = [name for name in sorted(value, key=str) if name != SEED]
        return _joined("{", [(f"{name}:", _shape(str(name), value[name], names)) for name in kept], "}")
    if isinstance(value, list):
        return _list_shape(key, [_shape(key, each, names) for each in value])
    if key in MODELS and isinstance(value, str):
        value = names.get(value, value)
    number = _number(key, value)
    if number is not None:
        return Shape(NUMBER, (number,), (key,))
    return Shape(json.dumps(value, ensure_ascii=False, default=str), ())


def _list_shape(key: str, shapes: list[Shape]) -> Shape:
    """Numbers in a list, such as a gradient's, stand for one number, however many there are."""
    if {shape.text for shape in shapes} == {NUMBER}:
        return Shape(NUMBER, *_together(shapes))
    if key in LISTS_WITHOUT_ORDER:
        shapes = sorted(shapes)
    return _joined("[", [("", shape) for shape in shapes], "]")


def _joined(start: str, shapes: Sequence[tuple[str, Shape]], end: str) -> Shape:
    text = ",".join(label + shape.text for label, shape in shapes)
    return Shape(start + text + end, *_together([shape for _, shape in shapes]))


def _together(shapes: Sequence[Shape]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return the numbers of all shapes in order, and their keys."""
    numbers: list[float] = []
    keys: list[str] = []
    for shape in shapes:
        numbers += shape.numbers
        keys += shape.keys
    return tuple(numbers), tuple(keys)


def _number(key: str, value: Any) -> float | None:
    """Return the number that a value is, also one in quotes."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if key in NAMES:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
