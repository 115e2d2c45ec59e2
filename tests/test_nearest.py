"""A path that leads nowhere gets the nearest name, or what there is beside it."""

from pathlib import Path

import pytest

import cuvee
from cuvee.errors import CheckpointError, RecipeError
from cuvee.nearest import MOST_SHOWN, nearest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("base", "sort", "reverse", ".hidden"):
        (tmp_path / "models" / name).mkdir(parents=True)
    (tmp_path / "recipe.yaml").touch()
    (tmp_path / "questions.csv").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("models/sorts", "did you mean 'models/sort'? 'models' has base, reverse, sort"),
        ("modles/sort", "did you mean 'models/sort'?"),
        ("modles/gone", "did you mean 'models'?"),
        ("models/zzzz", "'models' has base, reverse, sort"),
        ("recipes.yaml", "did you mean 'recipe.yaml'?"),
        ("org/name", None),
        ("zzzz", None),
        ("question.csv", None),
    ],
)
def test_the_hint_names_what_is_like_it(here: Path, path: str, hint: str | None) -> None:
    assert nearest(path, suffixes=(".yaml",)) == hint


def test_names_beside_the_recipe_count_too(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "experts" / "odd").mkdir(parents=True)
    assert nearest("experts/od", elsewhere, suffixes=()) == "did you mean 'experts/odd'? 'experts' has odd"


def test_of_many_names_the_first_are_shown(here: Path) -> None:
    for number in range(20):
        (here / "many" / f"{number:02}").mkdir(parents=True)
    hint = nearest("many/zzzz", suffixes=())
    assert hint is not None
    assert hint.count(",") == MOST_SHOWN - 1
    assert hint.endswith("and 12 more")


def test_a_model_that_does_not_exist_and_a_recipe_too_have_the_hint(here: Path) -> None:
    text = "merge_method: linear\nmodels: [{model: ./models/sorts}]\nparameters: {weight: 1}\n"
    with pytest.raises(CheckpointError, match=r"did you mean 'models/sort'\?"):
        cuvee.make_plan(cuvee.recipe_from_text(text))
    with pytest.raises(RecipeError, match=r"there is no such file\n  hint: did you mean 'recipe.yaml'\?"):
        cuvee.load_recipe("recipes.yaml")
