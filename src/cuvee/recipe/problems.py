"""What is wrong with a recipe's text, gathered with its lines instead of stopping at the first."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cuvee.documents.document import Document
from cuvee.documents.document import Path as Place
from cuvee.documents.shown import shown
from cuvee.errors import CuveeError, RecipeError, closest, several
from cuvee.recipe.keys import RecipeDocument, fields_at
from cuvee.recipe.slips import Slip

MOST_SHOWN = 30
"""Problems in one message; more are counted."""


@dataclass
class Notes:
    """A document, the problems noted of it so far, and the slips that do no harm.

    `elsewhere` are parameters that other methods take and that mergekit passes over here.
    """

    document: Document
    problems: list[CuveeError] = field(default_factory=list)
    slips: list[Slip] = field(default_factory=list)
    elsewhere: frozenset[str] = frozenset()

    def add(self, place: Place, message: str, hint: str | None = None) -> None:
        """Note a problem with the thing at a place of the document."""
        self.problems.append(RecipeError(message, where=self.document.place(place), hint=hint))

    def add_slip(self, place: Place, message: str, treatment: str, hint: str) -> None:
        """Note a slip that does no harm, with what becomes of it and how to write it right."""
        self.slips.append(Slip(self.document.place(place), message, treatment, hint))

    def slips_in_order(self) -> tuple[Slip, ...]:
        """Return the slips in the order of the lines."""
        return tuple(sorted(self.slips, key=_line))

    def stop_at_problems(self) -> None:
        """Raise RecipeError that holds every problem, in the order of the lines."""
        if self.problems:
            raise several(_few(sorted(self.problems, key=_line)))


def _few(problems: list[CuveeError]) -> list[CuveeError]:
    more = len(problems) - MOST_SHOWN
    if more <= 0:
        return problems
    return [*problems[:MOST_SHOWN], RecipeError(f"and {more} more")]


def _line(problem: CuveeError | Slip) -> int:
    """Return the line of a place `file:line`, 0 for a place without a line."""
    where = problem.where or ""
    line = where.rpartition(":")[2]
    return int(line or 0)


def schema_problems(document: Document, known: dict[str, Any]) -> list[CuveeError]:
    """List unknown keys and values of the wrong type among the `known` parts of a document."""
    try:
        RecipeDocument.model_validate(known)
    except ValidationError as error:
        return [_translated(detail, document) for detail in error.errors()]
    return []


def _translated(detail: ErrorDetails, document: Document) -> CuveeError:
    place: Place = tuple(detail["loc"])
    where = document.place(place)
    what = ".".join(map(str, place))
    if place[-1] == "residual_weight":
        return RecipeError("'residual_weight' is not supported: it has no effect in mergekit either", where=where)
    if detail["type"] == "extra_forbidden":
        guess = closest(str(place[-1]), fields_at(place[:-1]))
        hint = f"did you mean '{guess}'?" if guess else _where_settings_stand(place)
        return RecipeError(f"unknown key {shown(what)}", where=where, hint=hint)
    if detail["type"] in ("model_type", "dict_type"):
        return _not_a_mapping(place, detail["input"], where)
    if detail["type"] == "missing":
        return RecipeError(f"'{what}' is missing", where=where)
    if detail["type"] == "list_type":
        message = f"'{what}': expected a list, found {shown(detail['input'])}"
        return RecipeError(message, where=where, hint="write `[a, b]`, or `- ` before each entry")
    if detail["type"] == "too_short":
        return RecipeError(f"'{what}': expected one entry at least, found {shown(detail['input'])}", where=where)
    if detail["type"] == "value_error":
        return RecipeError(f"'{what}': {detail['msg'].removeprefix('Value error, ')}", where=where)
    guess = None
    if detail["type"] == "literal_error":
        options = str(detail.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
        guess = closest(str(detail["input"]), options)
    hint = f"did you mean '{guess}'?" if guess else None
    found = shown(detail["input"])
    return RecipeError(f"'{what}': {_lowered(detail['msg'])}, found {found}", where=where, hint=hint)


def _where_settings_stand(place: Place) -> str | None:
    """Return a hint for a key that nothing is like, such as a `weight` beside `model`."""
    return "settings of the method stand under 'parameters'" if "parameters" in fields_at(place[:-1]) else None


def _not_a_mapping(place: Place, written: Any, where: str) -> CuveeError:
    """Say that keys were expected; of a model's bare name also how it is written."""
    what = ".".join(map(str, place))
    hint = None
    if isinstance(written, str) and place[-2:-1] in (("models",), ("sources",)):
        hint = f"write `- model: {written}`"
    return RecipeError(f"'{what}': expected 'name: value' lines, found {shown(written)}", where=where, hint=hint)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
