"""A recipe file -> the archive of a submission."""

from pathlib import Path

from cuvee.api import load_recipe
from cuvee.submission.competition import Competition
from cuvee.submission.lock import make_lock
from cuvee.submission.pack import LOCK, RECIPE, canonical_json, make_archive


def pack_recipe(path: Path, name: str, competition: Competition) -> bytes:
    """Lock a recipe and pack it. Task digests are left out: the judge has the tasks."""
    recipe = load_recipe(path)
    lock = canonical_json(make_lock(recipe).to_json())
    return make_archive(name, "recipe", competition.name, {RECIPE: path.read_bytes(), LOCK: lock})
