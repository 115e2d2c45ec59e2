"""The problems of a recipe's text, gathered with their lines instead of stopping at the first."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cuvee.documents.checked import keys_at, problem_of
from cuvee.documents.document import Document
from cuvee.documents.document import Path as Place
from cuvee.errors import CuveeError, RecipeError, several
from cuvee.recipe.keys import RecipeDocument
from cuvee.recipe.slips import Slip
from cuvee.yielding import result_of

MOST_SHOWN = 30
"""Problems in one message; more are counted."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Mistake:
    """A problem with the thing at a place of a recipe's document."""

    place: Place
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class SlipAt:
    """A slip at a place of a recipe's document that does no harm, with its treatment and how to write it right."""

    place: Place
    message: str
    treatment: str
    hint: str


Mistakes = Generator[Mistake | SlipAt, None, _T]
"""A part of a recipe in reading: it yields the mistakes and returns the part."""


class Notes:
    """Gathers the problems of a document, and the slips that do no harm, with their lines."""

    def __init__(self, document: Document, problems: Iterable[CuveeError], slips: Iterable[Slip]) -> None:
        self.document = document
        self.problems = list(problems)
        self.slips = list(slips)

    def result_of(self, part: Mistakes[_T]) -> _T:
        """Read a part of the recipe, note its mistakes, and return the part."""
        return result_of(part, self.add)

    def add(self, mistake: Mistake | SlipAt) -> None:
        where = self.document.place(mistake.place)
        if isinstance(mistake, Mistake):
            self.problems.append(RecipeError(mistake.message, where=where, hint=mistake.hint))
        else:
            self.slips.append(Slip(where, mistake.message, mistake.treatment, mistake.hint))

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
    return int(line) if line.isdecimal() else 0


def schema_problems(document: Document, known: dict[str, Any]) -> list[CuveeError]:
    """List unknown keys and values of the wrong type among the `known` parts of a document."""
    try:
        RecipeDocument.model_validate(known)
    except ValidationError as error:
        return [_problem(detail, document) for detail in error.errors()]
    return []


def _problem(detail: ErrorDetails, document: Document) -> CuveeError:
    place = detail["loc"]
    if place[-1] == "residual_weight":
        message = "'residual_weight' is not supported: it has no effect in mergekit either"
        return RecipeError(message, where=document.place(place))
    problem = problem_of(detail, document, RecipeDocument)
    has_guess = "did you mean" in (problem.hint or "")
    if detail["type"] == "extra_forbidden" and not has_guess:
        hint = _where_settings_stand(place) or problem.hint
        return RecipeError(problem.message, where=problem.where, hint=hint)
    return problem


def _where_settings_stand(place: Place) -> str | None:
    """Return a hint for a key that nothing is like, such as a `weight` beside `model`."""
    keys = keys_at(RecipeDocument, place[:-1])
    return "settings of the method stand under 'parameters'" if "parameters" in keys else None
