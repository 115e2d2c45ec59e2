"""A recipe with a `sweep`: several merges over the same models, which differ in a few values.

`sweep` maps places of the recipe, such as `parameters.density`, to lists of values, of which every combination is a
merge; or it lists merges, each a mapping of places to values.
"""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from cuvee.documents.document import Document, in_yaml, read_documents, read_text
from cuvee.documents.document import Path as Place
from cuvee.documents.shown import shown
from cuvee.errors import CuveeError, RecipeError, several
from cuvee.recipe.language import Language
from cuvee.recipe.load import recipe_of
from cuvee.recipe.recipe import Recipe

MOST_MERGES = 1000
"""Merges of a sweep: more than anyone means."""

_UNFIT = re.compile(r"[^\w.,=+-]+")
"""Characters that do not go into the name of a folder."""

_LONGEST = 120

Values = Mapping[str, Any]
"""What a merge of a sweep sets: places of the recipe, with dots between keys, and their values."""


def read_sweep(path: Path, language: Language) -> dict[str, Recipe]:
    """Read a file of one recipe, by the names of its merges. Without a `sweep` it is a single merge, named as the file.

    Raises RecipeError that holds every problem with its line.
    """
    return parse_sweep(read_text(path, "recipe"), language, name=path.stem, source=str(path), folder=path.parent)


def parse_sweep(
    text: str, language: Language, *, name: str = "recipe", source: str = "recipe", folder: Path | None = None
) -> dict[str, Recipe]:
    """Read a recipe from text, by the names of its merges. Raises RecipeError that holds every problem."""
    documents = read_documents(text, source)
    if len(documents) > 1:
        hint = "merge a recipe of several stages alone"
        raise RecipeError("stages and several merges in one pass do not go together", where=source, hint=hint)
    document = documents[0]
    if not has_sweep(document):
        return {name: recipe_of(document, language, folder)}
    recipes: dict[str, Recipe] = {}
    problems: dict[str, CuveeError] = {}
    for merge, swept in _documents(document).items():
        try:
            recipes[merge] = recipe_of(swept, language, folder)
        except CuveeError as error:
            of_merge = error.problems or (error,)
            problems |= {str(problem): problem for problem in of_merge}
    if problems:
        raise several(list(problems.values()))
    return recipes


def has_sweep(document: Document) -> bool:
    """Say whether a document is a recipe with a sweep."""
    return isinstance(document.data, dict) and "sweep" in document.data


def _documents(document: Document) -> dict[str, Document]:
    """Return the recipe of each merge, by the merge's name."""
    swept: dict[str, Document] = {}
    for values in _merges(document):
        name = _name(values)
        if name in swept:
            hint = "leave one of them out"
            raise RecipeError(f"two merges of the sweep are '{name}'", where=document.place(("sweep",)), hint=hint)
        swept[name] = _with(document, values)
    return swept


def _merges(document: Document) -> list[Values]:
    """List the settings of each merge. Raises RecipeError for a sweep of another shape."""
    sweep = document.data["sweep"]
    where = document.place(("sweep",))
    if isinstance(sweep, list) and _are_full(sweep, dict):
        merges: list[Values] = sweep
    elif isinstance(sweep, dict) and _are_full(sweep.values(), list):
        merges = list(_combinations(sweep))
    else:
        hint = "`parameters.density: [0.2, 0.5]` under it makes two merges"
        message = "'sweep': expected places of the recipe with lists of values, or a list of mappings"
        raise RecipeError(message, where=where, hint=hint)
    if len(merges) > MOST_MERGES:
        raise RecipeError(f"'sweep' makes {len(merges)} merges, more than {MOST_MERGES}", where=where)
    return merges


def _are_full(entries: Collection[Any], kind: type) -> bool:
    """Say whether there are entries, all of a kind and none of them empty."""
    if not entries:
        return False
    return all(isinstance(entry, kind) and entry for entry in entries)


def _combinations(sweep: Mapping[str, list[Any]]) -> Iterator[Values]:
    for values in itertools.islice(itertools.product(*sweep.values()), MOST_MERGES + 1):
        yield dict(zip(sweep, values, strict=True))


def _name(values: Values) -> str:
    """Return the name of a merge: the last key of each place with its value."""
    settings = [f"{place.rpartition('.')[2]}={_word(value)}" for place, value in values.items()]
    return _UNFIT.sub("_", ",".join(settings))[:_LONGEST]


def _word(value: Any) -> str:
    if isinstance(value, list | dict):
        return yaml.safe_dump(value, default_flow_style=True).strip()
    return str(value)


def _with(document: Document, values: Values) -> Document:
    """Return the recipe with the values of a merge in their places, and without the sweep."""
    data = deepcopy(document.data)
    del data["sweep"]
    lines = dict(document.lines)
    for written, value in values.items():
        place = tuple(_steps(written))
        line = document.lines.get(("sweep", written), document.lines[("sweep",)])
        _put(data, place, deepcopy(value), written, f"{document.source}:{line}")
        lines[place] = line
    return Document(data, document.source, lines, in_yaml(data))


def _steps(written: str) -> Iterator[str | int]:
    for step in written.split("."):
        yield int(step) if step.isdecimal() else step


def _put(data: Any, place: Place, value: Any, written: str, where: str) -> None:
    """Set the value at a place. Mappings on the way to it are made where there are none."""
    inside = data
    for step in place[:-1]:
        _check_step(inside, step, written, where)
        inside = inside[int(step)] if isinstance(inside, list) else inside.setdefault(step, {})
    _check_step(inside, place[-1], written, where)
    inside[place[-1]] = value


def _check_step(inside: Any, step: str | int, written: str, where: str) -> None:
    """Raise RecipeError unless a step can go into a mapping or to an entry of a list."""
    if isinstance(inside, dict):
        return
    if not isinstance(inside, list):
        raise RecipeError(f"'sweep': {shown(written)} leads into a value that is no mapping and no list", where=where)
    if not isinstance(step, int) or step >= len(inside):
        hint = "entries are counted from 0, as in `models.0.parameters.weight`"
        raise RecipeError(
            f"'sweep': {shown(written)} leads to no entry of a list of {len(inside)}", where=where, hint=hint
        )
