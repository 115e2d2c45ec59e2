"""Recipes as Python hands them over: read already, or as the path of a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cuvee.arguments import at_home, refused
from cuvee.catalogue import language
from cuvee.recipe.load import read_recipe, recipe_from_data
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.stages import read_stages

EXPECTED = "a Recipe or the path of one"


def as_recipe(recipe: Recipe | Path | str) -> Recipe:
    """Return a recipe, read if it is a path. Raises ArgumentError for anything else, RecipeError for a wrong recipe."""
    if isinstance(recipe, Recipe):
        return recipe
    return read_recipe(recipe_path(recipe, EXPECTED), language())


def as_stages(recipes: Sequence[Recipe] | Recipe | Path | str) -> tuple[Recipe, ...]:
    """Return the recipes of stages, read if they are a path."""
    if isinstance(recipes, Recipe):
        return (recipes,)
    if not isinstance(recipes, Sequence) or isinstance(recipes, str):
        return read_stages(recipe_path(recipes, "Recipes or the path of a file of them"), language())
    for place, recipe in enumerate(recipes):
        if not isinstance(recipe, Recipe):
            hint = "`load_stages` reads a file of several"
            raise refused(recipe, f"recipes[{place}]", "a Recipe", hint)
    if not recipes:
        raise refused(recipes, "recipes", "at least one Recipe")
    return tuple(recipes)


def copy_recipe(model: str, *, source: str, keys: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe that copies a model, with further keys. `source` names the command that needs it."""
    copied = {"merge_method": "passthrough", "models": [{"model": model}]}
    return recipe_from_data({**copied, **(keys or {})}, language(), source=source)


def recipe_path(value: object, expected: str) -> Path:
    """Return the path of a recipe. Raises ArgumentError, for the text of a recipe too."""
    if isinstance(value, str) and "\n" in value:
        raise refused(value, "recipe", expected, "`recipe_from_text` reads the text of a recipe")
    if isinstance(value, str | Path):
        return at_home(value)
    raise refused(value, "recipe", expected, "`load_recipe` reads a file, `recipe_from_text` a text")
