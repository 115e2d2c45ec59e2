"""A competition on the bundled family, made once."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cuvee.api import recipe_from_text
from cuvee.submission.competition import FILE, Competition
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.lock import make_lock
from cuvee.submission.pack import LOCK, RECIPE, canonical_json, make_archive
from cuvee.submission.template import new_competition

AVERAGE = """\
merge_method: linear
models:
  - model: ../models/sort
  - model: ../models/odd
parameters:
  weight: 1.0
dtype: bfloat16
"""
"""A recipe of two of the competition's models, from beside its baselines."""

WAIVED = "without: [sandbox]\n"
"""Tests judge recipes of their own, which need no walls on a machine that has none."""

OPENED = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def competition(tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """Eight private items a task; nobody writes to its folder."""
    folder = tmp_path_factory.mktemp("competition") / "family"
    new_competition(folder, "a secret of the tests", now=OPENED, items=8)
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(WAIVED)
    return load_competition(folder)


@pytest.fixture
def text(competition: Competition) -> str:
    """The text of its file, as the template writes it."""
    return competition.text.removesuffix(WAIVED)


def written(folder: Path, text: str) -> Path:
    """Write a competition file."""
    path = folder / "competition.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def packed(
    folder: Path, competition: Competition, recipe: str, *, name: str = "mine", beside: Path | None = None
) -> Path:
    """Lock and pack a recipe, whose paths lead from `beside`, as a participant would."""
    read = recipe_from_text(recipe, folder=beside or competition.folder / "baselines")
    lock = canonical_json(make_lock(read, competition).to_json())
    path = folder / f"{name}.tar"
    path.write_bytes(make_archive(name, "recipe", competition.name, {RECIPE: recipe.encode(), LOCK: lock}))
    return path
