"""A file of several recipes: YAML documents, of which the later ones use the earlier ones' names as models."""

import re
from dataclasses import replace
from pathlib import Path

from cuvee.errors import CuveeError, RecipeError, several
from cuvee.recipe.document import Document, read_documents
from cuvee.recipe.language import Language
from cuvee.recipe.load import read_text, recipe_of
from cuvee.recipe.recipe import Recipe

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def read_stages(path: Path, language: Language) -> tuple[Recipe, ...]:
    """Read a file of one recipe or more. Raises RecipeError that holds every problem with its line."""
    return parse_stages(read_text(path), language, source=str(path), folder=path.parent)


def parse_stages(
    text: str, language: Language, *, source: str = "recipe", folder: Path | None = None
) -> tuple[Recipe, ...]:
    """Read recipes from text. Raises RecipeError that holds every problem with its line."""
    documents = read_documents(text, source)
    found: list[Recipe] = []
    problems: list[CuveeError] = []
    for document in documents:
        try:
            found.append(recipe_of(document, language, folder))
        except CuveeError as error:
            problems += error.problems or (error,)
    if problems:
        raise several(problems)
    if len(found) == 1:
        return tuple(found)
    problems = _name_problems(documents, found)
    if problems:
        raise several(problems)
    linked = _linked(found)
    return (*linked[:-1], replace(linked[-1], text=text) if linked[-1].stages else linked[-1])


def _name_problems(documents: list[Document], recipes: list[Recipe]) -> list[CuveeError]:
    """Every stage but the last needs a name of its own, by which later ones, not earlier ones, use it."""
    problems: list[CuveeError] = []
    names = [recipe.name for recipe in recipes]
    for i, (document, recipe) in enumerate(zip(documents, recipes, strict=True)):
        where = document.place(("name",))
        if recipe.name is None and i < len(recipes) - 1:
            hint = "later stages use it as a model by its name"
            problems.append(RecipeError("a stage needs a 'name'", where=where, hint=hint))
        elif recipe.name is not None and not _NAME.fullmatch(recipe.name):
            message = f"a stage's name is of letters, digits, '.', '_' and '-', found '{recipe.name}'"
            problems.append(RecipeError(message, where=where))
        elif recipe.name is not None and recipe.name in names[:i]:
            problems.append(RecipeError(f"two stages have the name '{recipe.name}'", where=where))
        later = {name for name in names[i:] if name is not None} - set(names[:i])
        for model in recipe.models():
            if str(model) in later:
                message = f"'{model}' is made by a later stage" if str(model) != recipe.name else "a stage uses itself"
                problems.append(RecipeError(message, where=document.place(()), hint="put what is used first"))
    return problems


def _linked(recipes: list[Recipe]) -> tuple[Recipe, ...]:
    """Give each recipe the digests of the stages that it uses, so that its own digest covers them."""
    linked: list[Recipe] = []
    for recipe in recipes:
        known = {made.name: made.digest for made in linked if made.name is not None}
        used = {str(model): known[str(model)] for model in recipe.models() if str(model) in known}
        linked.append(replace(recipe, stages=used))
    return tuple(linked)
