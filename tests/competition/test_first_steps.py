"""What a new organiser reads in a terminal: each step names the next, and nothing happens unsaid."""

import logging
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cuvee.cli.app import app
from cuvee.competition.run import ready


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["competition", *words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("first") / "blend-day"
    made = run("new", str(place), "--items", "2", "--no-calibrated")
    assert made.exit_code == 0, made.output
    assert f"next: cuvee competition check {place}, then cuvee competition serve {place}" in made.output
    return place


def test_each_step_of_the_final_ranking_says_what_comes_next(folder: Path) -> None:
    assert f"not begun; next, once no more entries shall come: cuvee competition final {folder} freeze" in (
        run("final", str(folder)).output
    )
    early = run("final", str(folder), "publish")
    assert early.exit_code != 0
    assert "the final ranking is not begun" in str(early.exception)
    nothing = run("final", str(folder), "freeze")
    assert "no entry has a score, so there is nothing to rank" in str(nothing.exception)


def test_a_token_is_for_raters_whom_the_file_names(folder: Path) -> None:
    assert "no track names raters, and not 'Ada'" in str(run("token", str(folder), "rater", "Ada").exception)


def test_rules_that_change_without_a_new_version_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = folder / "competition.yaml"
    said = "competition.yaml is not the one that was served before"

    def warned() -> bool:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            ready(folder, None)
        return said in caplog.text

    text = file.read_text(encoding="utf-8")
    assert not warned()
    assert not warned()
    file.write_text(f"{text}\nabout: {{contact: ada@example.org}}\n", encoding="utf-8")
    assert [warned(), warned()] == [True, False]
    change = "  - {version: 2, date: 2099-01-01, what: a contact}\n\nrules:"
    file.write_text(text.replace("version: 1\nchangelog", "version: 2\nchangelog").replace("\nrules:", change, 1))
    assert not warned()
