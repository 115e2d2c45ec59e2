"""The functions of `import cuvee`, each a few lines over the rooms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuvee.arguments import as_path, refused
from cuvee.catalogue import language
from cuvee.plan.recipes import recipe_path
from cuvee.recipe.load import parse_recipe, read_recipe
from cuvee.recipe.load import recipe_from_data as checked_recipe
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.slips import refuse_slips
from cuvee.recipe.stages import parse_stages, read_stages
from cuvee.recipe.sweep import read_sweep


def load_recipe(path: Path | str, *, strict: bool = False) -> Recipe:
    """Read a recipe file with all methods known. Raises RecipeError that holds every problem with its line.

    With `strict` slips that mergekit lets pass are problems, too: a parameter of another method, a number in quotes.
    """
    recipe = read_recipe(recipe_path(path, "the path of a recipe"), language())
    return _checked((recipe,), strict)[0]


def load_stages(path: Path | str, *, strict: bool = False) -> tuple[Recipe, ...]:
    """Read a file of a recipe or of several, of which later recipes use the names of earlier recipes as models.

    With `strict` slips that mergekit lets pass are problems, too: a parameter of another method, a number in quotes.
    """
    return _checked(read_stages(recipe_path(path, "the path of recipes"), language()), strict)


def load_sweep(path: Path | str, *, strict: bool = False) -> dict[str, Recipe]:
    """Read a recipe file with a `sweep`: the recipe of each of its merges, by name; `merge_together` merges them.

    A file without a `sweep` is one merge, named as the file. With `strict` slips that mergekit lets pass are problems.
    """
    recipes = read_sweep(recipe_path(path, "the path of a recipe"), language())
    _checked(tuple(recipes.values()), strict)
    return recipes


def stages_from_text(text: str, *, folder: Path | str | None = None, strict: bool = False) -> tuple[Recipe, ...]:
    """Read a recipe or several from a string; relative paths are also looked up in `folder`."""
    return _checked(parse_stages(_text(text), language(), folder=_folder(folder)), strict)


def recipe_from_text(text: str, *, folder: Path | str | None = None, strict: bool = False) -> Recipe:
    """Read a recipe from a string; `folder` is where relative paths are looked up besides the current one.

    With `strict` slips that mergekit lets pass are problems, too: a parameter of another method, a number in quotes.
    """
    recipe = parse_recipe(_text(text), language(), folder=_folder(folder))
    return _checked((recipe,), strict)[0]


def recipe_from_data(data: Mapping[str, Any], *, folder: Path | str | None = None, strict: bool = False) -> Recipe:
    """Check a recipe that is a dict of plain values; relative paths are also looked up in `folder`.

    With `strict` slips that mergekit lets pass are problems, too. Raises RecipeError that holds every problem.
    """
    if not isinstance(data, Mapping):
        raise refused(data, "data", "a mapping", "`recipe_from_text` reads the text of a recipe")
    return _checked((checked_recipe(data, language(), folder=_folder(folder)),), strict)[0]


def _checked(recipes: tuple[Recipe, ...], strict: bool) -> tuple[Recipe, ...]:
    """Return the recipes. Raises RecipeError for their slips where these count."""
    if strict:
        refuse_slips(slip for recipe in recipes for slip in recipe.slips)
    return recipes


def _text(text: object) -> str:
    """Return the text of a recipe. Raises ArgumentError, for the path of a file too."""
    if isinstance(text, str) and ("\n" in text or not text.endswith((".yaml", ".yml"))):
        return text
    raise refused(text, "text", "the text of a recipe", "`load_recipe` reads a file")


def _folder(folder: object) -> Path | None:
    return None if folder is None else as_path(folder, "folder")
