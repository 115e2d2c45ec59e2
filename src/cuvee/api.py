"""What `import cuvee` offers, each a few lines over the rooms."""

from pathlib import Path

from cuvee.addition import language
from cuvee.recipe.load import parse_recipe, read_recipe
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.stages import parse_stages, read_stages


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe file with all methods known. Raises RecipeError that holds every problem with its line."""
    return read_recipe(Path(path), language())


def load_stages(path: Path | str) -> tuple[Recipe, ...]:
    """Read a file of one recipe or of several, of which the later ones use the earlier ones' names as models."""
    return read_stages(Path(path), language())


def stages_from_text(text: str, *, folder: Path | None = None) -> tuple[Recipe, ...]:
    """Read one recipe or several from a string; `folder` is where relative paths are looked up besides this one."""
    return parse_stages(text, language(), folder=folder)


def recipe_from_text(text: str, *, folder: Path | None = None) -> Recipe:
    """Read a recipe from a string; `folder` is where relative paths are looked up besides the current one."""
    return parse_recipe(text, language(), folder=folder)
