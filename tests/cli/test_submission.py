"""The commands of participants and organisers: what they print, and how they end."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cuvee.cli.app import app
from cuvee.errors import RecipeError, SubmissionError

RUN = CliRunner()


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new competition in the current folder, with a recipe in it."""
    monkeypatch.chdir(tmp_path)
    made = RUN.invoke(app, ["competition", "new", "family", "--items", "2", "--no-calibrated", "--seed", "s"])
    assert made.exit_code == 0, made.output
    monkeypatch.chdir(tmp_path / "family")
    text = (tmp_path / "family/baselines/average.yaml").read_text().replace("../", "")
    (tmp_path / "family/mine.yaml").write_text(text)
    return tmp_path / "family"


def said(*arguments: str, code: int = 0) -> str:
    result = RUN.invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.stdout


def test_a_recipe_is_checked_and_packed(family: Path) -> None:
    assert "50 checks passed, 0 with a note, 0 failed" in said("submission", "check", "mine.yaml")
    printed = json.loads(said("submission", "pack", "mine.yaml", "--out", "a.tar", "--json"))
    again = json.loads(said("submission", "pack", "mine.yaml", "--out", "b.tar", "--json"))
    assert printed["digest"] == again["digest"]
    assert (family / "a.tar").read_bytes() == (family / "b.tar").read_bytes()
    assert (printed["name"], printed["tier"]) == ("mine", "recipe")


def test_the_competition_is_that_in_whose_folder_the_recipe_lies(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(family.parent)
    assert "0 failed" in said("submission", "check", "family/baselines/average.yaml")
    assert "submission " in said("submission", "pack", "family/mine.yaml", "--out", "a.tar")
    monkeypatch.chdir(family.parent.parent)
    result = RUN.invoke(app, ["submission", "pack"])
    assert "cuvee competition get" in str(getattr(result.exception, "hint", ""))


def test_a_broken_rule_ends_with_4_and_json_has_the_evidence(family: Path) -> None:
    competition = family / "competition.yaml"
    competition.write_text(competition.read_text().replace("max_parameters: 10000000", "max_parameters: 1000"))
    assert "fail  parameters: models/sort: 1,410,400 parameters" in said("submission", "check", "mine.yaml", code=4)
    printed = json.loads(said("submission", "check", "mine.yaml", "--json", code=4))
    assert printed["evidence"]["models"][0]["parameters"] == 1_410_400


def test_a_lock_is_printed_or_written(family: Path) -> None:
    printed = json.loads(said("submission", "lock", "mine.yaml"))
    said("submission", "lock", "mine.yaml", "--out", "lock.json")
    assert json.loads((family / "lock.json").read_text()) == printed
    assert len(printed["models"]) == 5


def test_a_competition_is_checked(family: Path) -> None:
    assert json.loads(said("competition", "check", ".", "--json"))["problems"] == []
    (family / "tasks/sort.csv").unlink()
    found = json.loads(said("competition", "check", ".", "--json", code=2))
    assert "sort.csv" in found["problems"][0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("competition", "new", "x", "--template", "other"), RecipeError, "expected family or original"),
        (("competition", "new", "x", "--opens", "soon"), RecipeError, "--opens"),
        (("submission", "check", "mine.yaml", "-c", "nowhere"), RecipeError, "cannot read the competition"),
        (("submission", "pack"), RecipeError, "expected a recipe"),
        (("submission", "verify", "a.tar", "--key", "nowhere"), RecipeError, "cannot read the private key"),
        (("submission", "check", "--verdict", "mine.yaml"), SubmissionError, "not JSON"),
    ],
)
def test_a_mistake_is_told(family: Path, arguments: tuple[str, ...], error: type[Exception], message: str) -> None:
    result = RUN.invoke(app, list(arguments))
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
