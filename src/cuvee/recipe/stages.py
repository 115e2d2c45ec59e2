"""A file of several recipes: YAML documents, of which the later use the names of earlier recipes as models."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cuvee.documents.document import Document, read_documents, read_text
from cuvee.errors import CuveeError, RecipeError, several
from cuvee.recipe.language import Language
from cuvee.recipe.load import recipe_of
from cuvee.recipe.recipe import Recipe

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def read_stages(path: Path, language: Language) -> tuple[Recipe, ...]:
    """Read a file of recipes. Raises RecipeError that holds every problem with its line."""
    return parse_stages(read_text(path, "recipe"), language, source=str(path), folder=path.parent)


def parse_stages(
    text: str, language: Language, *, source: str = "recipe", folder: Path | None = None
) -> tuple[Recipe, ...]:
    """Read recipes from text. Raises RecipeError that holds every problem with its line."""
    documents = read_documents(text, source)
    recipes: list[Recipe] = []
    problems: list[CuveeError] = []
    for document in documents:
        try:
            recipes.append(recipe_of(document, language, folder))
        except CuveeError as error:
            problems += error.problems or (error,)
    if problems:
        raise several(problems)
    if len(recipes) == 1:
        return tuple(recipes)
    for which, document in enumerate(documents):
        problems += _name_problems(which, document, recipes)
        problems += _order_problems(which, document, recipes)
    if problems:
        raise several(problems)
    *earlier, last = _linked(recipes)
    if last.stages:
        last = replace(last, text=text)
    return (*earlier, last)


def _name_problems(which: int, document: Document, recipes: list[Recipe]) -> Iterator[RecipeError]:
    """Every stage but the last needs a name of its own, by which later stages use it."""
    where = document.place(("name",))
    name = recipes[which].name
    earlier = [recipe.name for recipe in recipes[:which]]
    if name is None:
        if which < len(recipes) - 1:
            hint = "later stages use it as a model by its name"
            yield RecipeError("a stage needs a 'name'", where=where, hint=hint)
    elif not _NAME.fullmatch(name):
        message = f"a stage's name is of letters, digits, '.', '_' and '-', found '{name}'"
        yield RecipeError(message, where=where)
    elif name in earlier:
        yield RecipeError(f"two stages have the name '{name}'", where=where)


def _order_problems(which: int, document: Document, recipes: list[Recipe]) -> Iterator[RecipeError]:
    """A stage uses earlier stages only, not itself nor a later stage."""
    names = [recipe.name for recipe in recipes]
    later = set(names[which:]) - set(names[:which])
    for model in recipes[which].models():
        if str(model) in later:
            is_itself = str(model) == names[which]
            message = "a stage uses itself" if is_itself else f"'{model}' is made by a later stage"
            yield RecipeError(message, where=document.place(()), hint="put what is used first")


def _linked(recipes: list[Recipe]) -> tuple[Recipe, ...]:
    """Give each recipe the digests of the stages that it uses, so that its own digest covers them."""
    linked: list[Recipe] = []
    digests: dict[str, str] = {}
    for recipe in recipes:
        names = [str(model) for model in recipe.models()]
        stages = {name: digests[name] for name in names if name in digests}
        linked.append(replace(recipe, stages=stages))
        if recipe.name is not None:
            digests[recipe.name] = linked[-1].digest
    return tuple(linked)
