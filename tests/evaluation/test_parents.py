"""A blend against its parents: found from cuvee.json, measured on the same items, compared task by task."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import cuvee
from cuvee.checkpoint import weights_digest
from cuvee.cli import main
from cuvee.errors import CheckpointError, EvaluationError
from cuvee.evaluation import Item, Report, TaskReport
from cuvee.evaluation.evaluated import read_evaluated
from cuvee.evaluation.parents import against_parents, blends_in, parents_of
from cuvee.evaluation.statistics import as_score, macro_score, mean
from cuvee.hub import Hub
from cuvee.progress import Silent

from .conftest import byte_tokenizer, save_model

ROWS = "id,input,target,answer_choices,eval_type\n" + "".join(
    f"{n},Is {'x' * n} it?,{n % 2},\"['No', 'Yes']\",multiple_choice\n" for n in range(12)
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, their blend made by a recipe in a folder of its own, and a task."""
    root = tmp_path_factory.mktemp("family")
    for seed, name in enumerate(("one", "two")):
        save_model(root / "models" / name, byte_tokenizer(), seed=seed)
    recipe = root / "recipes" / "half.yaml"
    recipe.parent.mkdir()
    sources = "".join(f"  - model: ../models/{name}\n    parameters: {{weight: 1}}\n" for name in ("one", "two"))
    recipe.write_text(f"merge_method: linear\nmodels:\n{sources}dtype: float32\n")
    for blend in ("half", "again"):
        cuvee.merge(cuvee.load_recipe(recipe), root / "blends" / blend)
    (root / "task.csv").write_text(ROWS)
    return root


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["cuvee", *map(str, arguments)])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def scored(**tasks: list[float]) -> Report:
    results = tuple(
        TaskReport(
            name, name, 1.0, (as_score(name, "accuracy", mean(scores)),),
            tuple(Item(f"{name}{place}", 0, score) for place, score in enumerate(scores)), 0, 0,
        )
        for name, scores in tasks.items()
    )  # fmt: skip
    return Report("m", "d", results, macro_score(results), {}, 0.0, 0)


def test_what_was_gained_and_forgotten_is_against_the_best_parent_of_each_task() -> None:
    blend = scored(sums=[1.0] * 20, words=[0.0] * 15 + [1.0] * 5, colours=[1.0, 0.0] * 10)
    generalist = scored(sums=[1.0] * 5 + [0.0] * 15, words=[0.0] * 20, colours=[1.0, 0.0] * 10)
    writer = scored(sums=[0.0] * 20, words=[1.0] * 19 + [0.0], colours=[0.0] * 20)
    found = against_parents(blend, ["generalist", "writer"], [generalist, writer])
    assert [(change.task, change.best_parent, change.outcome) for change in found.changes] == [
        ("sums", "generalist", "gained"),
        ("words", "writer", "forgotten"),
        ("colours", "generalist", "tie"),
    ]
    assert found.changes[1].lost == tuple(f"words{place}" for place in range(15))
    assert found.changes[1].won == ("words19",)
    assert found.sentence == "Against the best parent of each task gained: sums; forgotten: words."


def test_parents_are_found_from_the_folders_above_the_blend(place: Path) -> None:
    found = parents_of(place / "blends" / "half", Hub(offline=True), Silent())
    assert [(parent.reference, parent.folder) for parent in found] == [
        (f"../models/{name}", (place / "models" / name).resolve()) for name in ("one", "two")
    ]


def test_a_blend_that_was_moved_needs_the_folder_of_its_recipe(place: Path, tmp_path: Path) -> None:
    moved = tmp_path / "a" / "b" / "c" / "half"
    shutil.copytree(place / "blends" / "half", moved)
    with pytest.raises(CheckpointError, match="not where the recipe says") as caught:
        parents_of(moved, Hub(offline=True), Silent())
    assert "--recipe-folder" in str(caught.value)
    assert len(parents_of(moved, Hub(offline=True), Silent(), recipe_folder=place / "recipes")) == 2


def test_another_file_in_the_place_of_a_parent_is_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "copy")
    file = tmp_path / "copy" / "models" / "two" / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match="not the file that was merged"):
        parents_of(tmp_path / "copy" / "blends" / "half", Hub(offline=True), Silent())


def test_a_model_without_a_record_has_no_parents(place: Path) -> None:
    with pytest.raises(CheckpointError, match="does not say what it was made of"):
        parents_of(place / "models" / "one", Hub(offline=True), Silent())
    with pytest.raises(CheckpointError, match="there is no blend here"):
        blends_in(place / "models")
    assert [blend.name for blend in blends_in(place / "blends")] == ["again", "half"]


def test_the_command_measures_blend_and_parents_and_writes_one_page(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blend, out = place / "blends" / "half", tmp_path / "out"
    arguments = ("evaluate", blend, place / "task.csv", "--against-parents", "--out", out, "--json")
    assert run(monkeypatch, *arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["against_parents"] == json.loads((out / "against_parents.json").read_text())
    parents = found["against_parents"]["parents"]
    assert [parent["model_digest"] for parent in parents] == [
        weights_digest(place / "models" / name) for name in ("one", "two")
    ]
    kept = [read_evaluated(folder).report for folder in sorted((out / "parents").iterdir())]
    own = read_evaluated(out).report
    for parent, report in zip(parents, kept, strict=True):
        assert report.macro is not None
        assert own.macro is not None
        assert parent["macro"]["value"] == pytest.approx(own.macro.value - report.macro.value)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("half", "one", "two", "Differences"))


def test_tasks_without_targets_compare_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "open.csv").write_text("id,input,eval_type\n1,Say it,generation\n")
    assert run(monkeypatch, "evaluate", place / "blends" / "half", tmp_path / "open.csv", "--against-parents") == 3
    assert "no targets" in capsys.readouterr().err


def test_the_table_says_what_was_forgotten(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(monkeypatch, "parents", place / "blends", place / "task.csv", "--limit", "6") == 0
    said = capsys.readouterr().out
    assert said.count("Against the best parent of each task gained:") == 2
    assert said.count("best parent") == 4


def test_evaluations_are_reported_side_by_side(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        run(monkeypatch, "evaluate", place / "models" / name, place / "task.csv", "--out", tmp_path / name)
    capsys.readouterr()
    page = tmp_path / "page.html"
    assert run(monkeypatch, "report", tmp_path / "one", tmp_path / "two", "--out", page, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {rank["model"] for rank in found["ranks"]} == {str(place / "models" / name) for name in ("one", "two")}
    assert found["differences"][0]["tasks"]["task"]["n"] == 12
    assert "Item by item" in page.read_text(encoding="utf-8")
    assert run(monkeypatch, "report", tmp_path / "one", tmp_path / "two") == 0
    assert "tied with" in capsys.readouterr().out


def test_what_was_read_back_is_what_was_written(place: Path, tmp_path: Path) -> None:
    written = cuvee.evaluate(place / "models" / "one", [place / "task.csv"], out=tmp_path, limit=5)
    cuvee.evaluate(place / "models" / "one", [place / "task.csv"], out=tmp_path)
    again = cuvee.evaluate(place / "models" / "one", [place / "task.csv"], out=tmp_path, limit=5)
    found = read_evaluated(tmp_path)
    assert found.report == replace(again, seconds=round(again.seconds, 3))
    assert found.report.tasks == written.tasks
    assert [line["id"] for line in found.lines["task"]] == [str(place) for place in range(5)]


@pytest.mark.parametrize("damage", ["report.json", "submission.csv", "samples/task.jsonl"])
def test_a_folder_in_disorder_is_named(place: Path, tmp_path: Path, damage: str) -> None:
    cuvee.evaluate(place / "models" / "one", [place / "task.csv"], out=tmp_path, limit=3)
    (tmp_path / damage).write_text("{}\n")
    with pytest.raises(EvaluationError, match=str(tmp_path)):
        read_evaluated(tmp_path)
    (tmp_path / damage).unlink()
    with pytest.raises(EvaluationError, match=damage):
        read_evaluated(tmp_path)
