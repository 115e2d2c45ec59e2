"""Checks of the arguments of `import cuvee`'s functions, before they do anything else."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args, get_type_hints, is_typeddict

from cuvee.errors import ArgumentError, closest

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PLAIN: Mapping[type, Any] = {bool: bool, int: Integral, float: Real, str: str, Path: Path}
"""What counts as a value of each plain type; NumPy's numbers are Python's here."""


def checks_options(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make an option that the function does not have an ArgumentError with the nearest option, before it begins.

    Options that a function hands on as `**options: Unpack[...]` count as its own, and their plain types are checked.
    """

    @wraps(function)
    def checked(*arguments: _P.args, **options: _P.kwargs) -> _R:
        names, handed_on = _options(function)
        for name, value in options.items():
            if name in handed_on:
                _check_type(function.__name__, name, value, handed_on[name])
            elif name not in names:
                raise _unknown(function.__name__, name, [*names, *handed_on])
        return function(*arguments, **options)

    return checked


def check_settings(function: Callable[..., Any], method: str, known: Sequence[str], given: Sequence[str]) -> None:
    """Refuse keywords that are neither settings of a method nor options of the function, with the nearest of both.

    A setting whose name is a word of Python is written with "_" behind it.
    """
    for name in given:
        if name.removesuffix("_") in known:
            continue
        own, _ = _options(function)
        guess = closest(name, [*known, *own])
        hint = f"did you mean '{guess}'?" if guess else f"it takes: {', '.join(known)}"
        raise ArgumentError(f"{function.__name__}(): '{method}' takes no parameter '{name}'", hint=hint)


def as_path(value: object, what: str) -> Path:
    """Return a path that was given as text or as a path. Raises ArgumentError that says what was expected."""
    if isinstance(value, str | Path) and "\0" not in str(value):
        return at_home(value)
    raise ArgumentError(f"{what}: expected a path, found {_shown(value)}", hint=_folder_hint(value))


def at_home(path: str | Path) -> Path:
    """Return a path with the home folder in place of a leading `~`, as in a recipe's paths and in a shell."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the home of nobody
        return Path(path)


def as_references(values: object, what: str) -> list[str]:
    """Return folders and names of models, or of adapters, as text. Raises ArgumentError for one alone, or others."""
    if isinstance(values, str | Path) or not isinstance(values, Sequence):
        hint = f"[{str(values)!r}] is a list of one" if isinstance(values, str | Path) else None
        raise ArgumentError(f"{what}: expected a list of paths or names, found {_shown(values)}", hint=hint)
    return [as_reference(value, f"{what}[{place}]") for place, value in enumerate(values)]


def as_reference(value: object, what: str) -> str:
    """Return one folder or name as text. Raises ArgumentError that says what was expected."""
    if isinstance(value, str | Path):
        return str(value)
    message = f"{what}: expected a path or a name on a hub, found {_shown(value)}"
    raise ArgumentError(message, hint=_folder_hint(value))


def refused(value: object, what: str, expected: str, hint: str | None = None) -> ArgumentError:
    """Return the error for an argument of another type than the expected type."""
    return ArgumentError(f"{what}: expected {expected}, found {_shown(value)}", hint=hint)


def _folder_hint(value: object) -> str | None:
    return "its '.folder' is a path" if isinstance(getattr(value, "folder", None), Path) else None


@cache
def _options(function: Callable[..., Any]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Return the names of a function's own parameters, and the types of the options that it hands on."""
    own: list[str] = []
    handed_on: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            handed_on = _unpacked(parameter.annotation)
        else:
            own.append(parameter.name)
    return tuple(own), handed_on


def _unpacked(annotation: Any) -> dict[str, Any]:
    """Return the options of `**options: Unpack[SomeTypedDict]` with their types; none for other annotations."""
    (dictionary,) = get_args(annotation) or (None,)
    return get_type_hints(dictionary) if is_typeddict(dictionary) else {}


def _unknown(function: str, name: str, names: Sequence[str]) -> ArgumentError:
    guess = closest(name, names)
    hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(sorted(names))}"
    return ArgumentError(f"{function}() takes no option '{name}'", hint=hint)


def _check_type(function: str, name: str, value: object, annotation: Any) -> None:
    """Check a value of plain types; for other types it is up to the function."""
    types = get_args(annotation) or (annotation,)
    if not set(types) <= {*_PLAIN, type(None)}:
        return
    if not _fits(value, types):
        expected = " or ".join(kind.__name__ for kind in types)
        raise refused(value, f"{function}(): '{name}'", expected.replace("NoneType", "None"))


def _fits(value: object, types: Sequence[type]) -> bool:
    """Say whether a value is of any of the types. True and false are no numbers here."""
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, tuple(_PLAIN.get(kind, kind) for kind in types))


def _shown(value: object) -> str:
    kind = type(value).__name__
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float | str):
        text = repr(value)
        return f"{kind} {text if len(text) <= 60 else text[:57] + '...'}"
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
