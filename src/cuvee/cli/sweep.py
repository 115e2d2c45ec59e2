"""Recipes that are merged in one pass: the files that a command names, with the merges of their sweeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cuvee.recipe.recipe import Recipe


def is_sweep(recipe: Path) -> bool:
    """Say whether a file is one recipe with a sweep."""
    from cuvee.documents.document import read_documents, read_text
    from cuvee.recipe.sweep import has_sweep

    documents = read_documents(read_text(recipe, "recipe"), str(recipe))
    return len(documents) == 1 and has_sweep(documents[0])


def swept(files: Sequence[Path], *, strict: bool) -> dict[str, "Recipe"]:
    """Return the recipes of files by the names of their outputs. Raises RecipeError for two of a name."""
    from cuvee.api import load_sweep
    from cuvee.errors import RecipeError

    recipes: dict[str, Recipe] = {}
    for file in files:
        for merge, recipe in load_sweep(file, strict=strict).items():
            names_file = len(files) > 1 and merge != file.stem
            name = f"{file.stem},{merge}" if names_file else merge
            if name in recipes:
                message = f"two recipes would be merged into the folder '{name}'"
                raise RecipeError(message, where=str(file), hint="outputs have the names of the files: rename one")
            recipes[name] = recipe
    return recipes
