"""Several models on the same tasks: what one after the other gives, wherever each is measured."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from cuvee.cli import main
from cuvee.demo import model_folder
from cuvee.errors import RecipeError
from cuvee.evaluation import evaluate
from cuvee.evaluation.several import Measured, evaluate_several, folders_of
from cuvee.executor import Here, Processes

MODELS = [str(model_folder(name)) for name in ("base", "sort", "shift")]
TASKS = ["sort", "shift"]
OPTIONS: dict[str, Any] = {"limit": 15, "device": "cpu"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a folder for each model, measured alone."""
    out = tmp_path_factory.mktemp("alone")
    for model in MODELS:
        evaluate(model, TASKS, out=out / Path(model).name, prompt={}, **OPTIONS)
    return out


def contents(out: Path) -> dict[str, bytes]:
    """Return the bytes of each file but a report's own time, which is taken out."""
    files = {}
    for path in sorted(out.rglob("*")):
        if path.is_file():
            files[str(path.relative_to(out))] = path.read_bytes()
        if path.name == "report.json":
            report = json.loads(path.read_text())
            del report["seconds"]
            files[str(path.relative_to(out))] = json.dumps(report).encode()
    return files


class Killing(Processes):
    """Processes of which the first is killed when it has its first model."""

    submitted = 0

    def submit(self, slot: int, function: Any, *arguments: Any) -> None:
        super().submit(slot, function, *arguments)
        self.submitted += 1
        if self.submitted == 1:
            os.kill(self.process_ids()[slot] or 0, signal.SIGKILL)


def test_models_give_in_several_places_what_each_gives_alone(alone: Path, tmp_path: Path) -> None:
    here = evaluate_several(MODELS, TASKS, Here(), out=tmp_path / "here", **OPTIONS)
    with Killing(2) as processes:
        there = evaluate_several(MODELS, TASKS, processes, out=tmp_path / "there", **OPTIONS)
    assert processes.submitted == len(MODELS) + 1
    assert [outcome.model for outcome in there] == MODELS
    assert contents(tmp_path / "here") == contents(tmp_path / "there") == contents(alone)
    for ours, theirs in zip(here, there, strict=True):
        assert ours.report is not None
        assert theirs.report is not None
        assert ours.report.tasks == theirs.report.tasks


def test_a_model_that_fails_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken, whole = evaluate_several([str(tmp_path / "empty"), MODELS[1]], ["sort"], Here(), **OPTIONS)
    assert broken.report is None
    assert str(broken.error).count(str(tmp_path / "empty")) == 1
    assert whole.report is not None
    assert whole.error is None


def test_a_failure_that_names_no_model_gets_its_name() -> None:
    assert str(Measured("a", None, None, "it ended").error) == "a: it ended"


def test_folders_are_named_by_models_and_told_apart(tmp_path: Path) -> None:
    assert folders_of(["a/b"], tmp_path) == (tmp_path,)
    assert folders_of(["a/b", "b/c@v1", "models/d/"], tmp_path) == (tmp_path / "b", tmp_path / "c@v1", tmp_path / "d")
    first, second = folders_of(["x/b", "y/b"], tmp_path)
    assert first != second
    assert folders_of(["z", "y/b", "x/b"], tmp_path)[1:] == (second, first)
    with pytest.raises(RecipeError, match="'a' is named twice"):
        folders_of(["a", "b", "a"], tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["cuvee", "evaluate", *map(str, arguments)])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_the_command_ranks_models_and_writes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = (MODELS[0], "sort", "--limit", 15, "--device", "cpu", "--out", out, "--json", "--also")
    assert run(monkeypatch, *map(str, arguments), MODELS[1], tmp_path / "none") == 3
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [rank["model"] for rank in found["ranks"]] == [MODELS[1], MODELS[0]]
    assert [report["model"] for report in found["reports"]] == MODELS[:2]
    assert str(tmp_path / "none") in printed.err
    assert "sort" in (out / "report.html").read_text()


@pytest.mark.parametrize("option", [("--against-parents",), ("--card",), ("--probe", "x")])
def test_options_of_one_model_are_refused(
    option: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, MODELS[0], "sort", *option, "--also", MODELS[1]) == 2
    assert f"{option[0]} is for one model" in capsys.readouterr().err


def test_a_server_is_measured_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, MODELS[0], "sort", "--also", "http://127.0.0.1:1/v1") == 2
    assert "is a server" in capsys.readouterr().err
