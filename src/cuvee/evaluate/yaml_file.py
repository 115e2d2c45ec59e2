"""A YAML file read strictly: every problem with its line, unknown keys with the closest that is known."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cuvee.errors import EvaluationError, closest, several

Place = tuple[int | str, ...]
Sections = Mapping[tuple[str, ...], type[BaseModel]]
M = TypeVar("M", bound=BaseModel)


def checked(path: Path, form: type[M], sections: Sections) -> M:
    """Read a file of the given form; `sections` are the forms of its parts by their keys, for the hints."""
    root = _parsed(path)
    lines = dict(_lines(root, ()))
    twice = [EvaluationError(f"key '{key}' twice", where=f"{path}:{line}") for key, line in _repeated(root)]
    if twice:
        raise several(twice)
    known: Sections = {(): form, **sections}
    try:
        return form.model_validate(yaml.SafeLoader("").construct_document(root))
    except ValidationError as error:
        raise several([_problem(path, lines, known, found) for found in error.errors()]) from error
    except yaml.YAMLError as error:
        raise EvaluationError(f"not YAML: {error}", where=str(path)) from error


def has_key(path: Path, key: str) -> bool:
    """Whether a file's mapping has a key."""
    return any(name.value == key for name, _ in _parsed(path).value)


def _parsed(path: Path) -> yaml.Node:
    """Parse to nodes, which know their lines. Anchors are refused: a few of them can stand for gigabytes."""
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise EvaluationError("aliases (*name) are not allowed", where=str(path))
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise EvaluationError(f"not YAML: {error}", where=str(path)) from error
    if not isinstance(root, yaml.MappingNode):
        raise EvaluationError("expected keys and values", where=str(path))
    return root


def _lines(node: yaml.Node, path: Place) -> Iterator[tuple[Place, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from ((place, line) for place, line in _lines(value, (*path, key.value)) if place[len(path) + 1 :])
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index))


def _repeated(node: yaml.Node) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _repeated(value)
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value)


def _problem(path: Path, lines: dict[Place, int], known: Sections, found: Any) -> EvaluationError:
    place: Place = found["loc"]
    near = next(place[:end] for end in range(len(place), -1, -1) if place[:end] in lines)
    where = f"{path}:{lines[near]}"
    if found["type"] == "extra_forbidden":
        return _unknown_key(place, known, where)
    reason = str(found["msg"]).removeprefix("Value error, ")
    return EvaluationError(f"{'.'.join(map(str, place))}: {reason[:1].lower()}{reason[1:]}", where=where)


def _unknown_key(place: Place, known: Sections, where: str) -> EvaluationError:
    keys = list(known[tuple(key for key in place[:-1] if isinstance(key, str))].model_fields)
    guess = closest(str(place[-1]), keys)
    hint = f"did you mean '{guess}'?" if guess else f"known keys: {', '.join(keys)}"
    return EvaluationError(f"unknown key '{'.'.join(map(str, place))}'", where=where, hint=hint)
