"""A document held against its form, a pydantic model: every problem with its line, and the key that was meant."""

from collections.abc import Iterator, Mapping
from itertools import chain
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cuvee.documents.document import Document, Path
from cuvee.documents.shown import shown
from cuvee.errors import CuveeError, closest, several

MOST_KEYS = 12
"""Known keys that a hint lists."""

CONTAINERS = (list, tuple, Mapping)

M = TypeVar("M", bound=BaseModel)


def checked(form: type[M], document: Document) -> M:
    """Return a document in its form. Raises the document's error that holds every problem with its line."""
    try:
        return form.model_validate(document.data)
    except ValidationError as error:
        raise several(problems_of(error, document, form)) from error


def problems_of(error: ValidationError, document: Document, form: type[BaseModel]) -> list[CuveeError]:
    """Say in our words which fault pydantic has found in a document."""
    return [problem_of(detail, document, form) for detail in error.errors()]


def problem_of(detail: ErrorDetails, document: Document, form: type[BaseModel]) -> CuveeError:
    """Say in our words a single problem that pydantic has found."""
    message, hint = _said(detail, form)
    return document.error(message, where=document.place(detail["loc"]), hint=hint)


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a file that a program has written, as `key: message`."""
    problem = error.errors()[0]
    return f"{key_text(problem['loc']) or 'the file'}: {problem['msg']}"


def keys_at(form: type[BaseModel], place: Path) -> list[str]:
    """List the keys that a form knows at a place of its document; none where every key is welcome."""
    annotation: Any = form
    for step in place:
        annotation = _inside(annotation, step)
    return list(chain.from_iterable(section.model_fields for section in _sections(annotation)))


def key_text(place: Path) -> str:
    """Return a place as people write it: `models.0.parameters`."""
    return ".".join(map(str, place))


def _said(detail: ErrorDetails, form: type[BaseModel]) -> tuple[str, str | None]:
    """Return the message and the hint of a problem."""
    place = detail["loc"]
    key = key_text(place) or "the file"
    match detail["type"]:
        case "extra_forbidden":
            return f"unknown key {shown(key)}", _key_meant(str(place[-1]), keys_at(form, place[:-1]))
        case "missing":
            return f"'{key}' is missing", None
        case "model_type" | "model_attributes_type" | "dict_type":
            message = f"'{key}': expected 'name: value' lines, found {shown(detail['input'])}"
            return message, _entry_meant(detail["input"], form, place)
        case "list_type":
            message = f"'{key}': expected a list, found {shown(detail['input'])}"
            return message, "write `[a, b]`, or `- ` before each entry"
        case "too_short":
            least = detail.get("ctx", {}).get("min_length", 1)
            noun = "one entry" if least == 1 else f"{least} entries"
            return f"'{key}': expected {noun} at least, found {shown(detail['input'])}", None
        case "value_error":
            return f"'{key}': {detail['msg'].removeprefix('Value error, ')}", None
    message = detail["msg"]
    return f"'{key}': {message[:1].lower()}{message[1:]}, found {shown(detail['input'])}", _word_meant(detail)


def _key_meant(key: str, known: list[str]) -> str | None:
    guess = closest(key, known)
    if guess is not None:
        return f"did you mean '{guess}'?"
    return f"known keys: {', '.join(known)}" if 0 < len(known) <= MOST_KEYS else None


def _entry_meant(written: Any, form: type[BaseModel], place: Path) -> str | None:
    """Show how a bare name in a list is written as an entry with keys."""
    is_in_a_list = bool(place) and isinstance(place[-1], int)
    if not isinstance(written, str) or not is_in_a_list:
        return None
    known = keys_at(form, place)
    return f"write `- {known[0]}: {written}`" if known else None


def _word_meant(detail: ErrorDetails) -> str | None:
    """Return the allowed word that is most like the written value, where only certain words are allowed."""
    if detail["type"] != "literal_error":
        return None
    words = str(detail.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
    guess = closest(str(detail["input"]), words)
    return f"did you mean '{guess}'?" if guess else None


def _inside(annotation: Any, step: str | int) -> Any:
    """Return the type of a key's value or of a list's entry; the type itself for a word that pydantic puts between."""
    for alternative in _alternatives(annotation):
        if isinstance(alternative, type) and issubclass(alternative, BaseModel):
            if step in alternative.model_fields:
                return alternative.model_fields[str(step)].annotation
            continue
        origin, arguments = get_origin(alternative), get_args(alternative)
        if isinstance(step, int) and origin in (list, tuple):
            return arguments[0]
        if isinstance(step, str) and origin is not None and issubclass(origin, Mapping):
            return arguments[1]
    return annotation


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the forms that a value of a type can have."""
    for alternative in _alternatives(annotation):
        if isinstance(alternative, type) and issubclass(alternative, BaseModel):
            yield alternative


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, of unions in it, and of annotated types."""
    origin = get_origin(annotation)
    is_container = isinstance(origin, type) and issubclass(origin, CONTAINERS)
    if is_container or isinstance(annotation, type):
        yield annotation
        return
    for argument in get_args(annotation):
        if argument is not NoneType:
            yield from _alternatives(argument)
