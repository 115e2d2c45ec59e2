"""`cuvee evaluate` on the command line: what it prints, and the exit codes of mistakes."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cuvee.cli import main
from cuvee.cli.report import print_report
from cuvee.evaluation import Sample, Task, evaluate
from cuvee.evaluation.model import LanguageModel

ROWS = "id,input,target,answer_choices,eval_type\n0,Is it?,1,\"['No', 'Yes']\",multiple_choice\n"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "task.csv").write_text(ROWS)
    return tmp_path / "task.csv"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["cuvee", "evaluate", *map(str, arguments)])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@pytest.mark.parametrize("size", ["²", "0", "many", "1.5", "9" * 5000, ""])
def test_a_batch_size_that_is_no_number_is_the_authors_mistake(
    size: str, model_folder: Path, task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, model_folder, task, "--batch-size", size) == 2
    assert capsys.readouterr().err.startswith("error: batch size is ")


@pytest.mark.parametrize("size", ["3", "auto"])
def test_a_batch_size_is_taken(size: str, model_folder: Path, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, model_folder, task, "--batch-size", size) == 0


@pytest.mark.parametrize("name", ["a[bold]b", "a[", "[link=x]a", ":dog:"])
def test_the_name_of_a_file_is_shown_as_it_is(
    name: str, model_folder: Path, task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = task.rename(task.with_name(f"{name}.csv"))
    assert run(monkeypatch, model_folder, odd) == 0
    assert name in capsys.readouterr().out


def test_notes_and_metrics_are_shown_as_they_are(model: LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Task("task", (Sample("0", "Is it?", "multiple_choice", ("No", "Yes"), 1),), ("accuracy",))
    report = evaluate(model, [asked])
    scores = tuple(replace(score, metric="by[red]hand") for score in report.tasks[0].scores)
    print_report(replace(report, tasks=(replace(report.tasks[0], scores=scores),), notes=("a [/x] and :dog:",)))
    said = capsys.readouterr().out
    assert "by[red]hand" in said
    assert "note: a [/x] and :dog:\n" in said


def test_a_file_where_the_output_goes_is_the_authors_mistake(
    model_folder: Path, task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, model_folder, task, "--out", task) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {task}: cannot write the output: a file is in the way")
    assert "hint:" in said
