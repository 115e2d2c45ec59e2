"""What `import cuvee` offers, each a few lines over the rooms."""

from pathlib import Path

from cuvee.addition import language
from cuvee.arguments import as_path, refused
from cuvee.plan.recipes import recipe_path
from cuvee.recipe.load import parse_recipe, read_recipe
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.stages import parse_stages, read_stages


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe file with all methods known. Raises RecipeError that holds every problem with its line."""
    return read_recipe(recipe_path(path, "the path of a recipe"), language())


def load_stages(path: Path | str) -> tuple[Recipe, ...]:
    """Read a file of one recipe or of several, of which the later ones use the earlier ones' names as models."""
    return read_stages(recipe_path(path, "the path of recipes"), language())


def stages_from_text(text: str, *, folder: Path | str | None = None) -> tuple[Recipe, ...]:
    """Read one recipe or several from a string; `folder` is where relative paths are looked up besides this one."""
    return parse_stages(_text(text), language(), folder=_folder(folder))


def recipe_from_text(text: str, *, folder: Path | str | None = None) -> Recipe:
    """Read a recipe from a string; `folder` is where relative paths are looked up besides the current one."""
    return parse_recipe(_text(text), language(), folder=_folder(folder))


def _text(text: object) -> str:
    """Return the text of a recipe. Raises ArgumentError, for the path of a file too."""
    if isinstance(text, str) and ("\n" in text or not text.endswith((".yaml", ".yml"))):
        return text
    raise refused(text, "text", "the text of a recipe", "`load_recipe` reads a file")


def _folder(folder: object) -> Path | None:
    return None if folder is None else as_path(folder, "folder")
