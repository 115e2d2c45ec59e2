"""A submission is valid, or refused with the line of every problem; a suite names tasks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cuvee.errors import EvaluationError
from cuvee.evaluation import Prompt, Sample, Task, evaluate, load_task, load_tasks
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.predictions import Predictions, check_predictions

TASK = Task(
    "mixed",
    (
        Sample("a", "q", "multiple_choice", ("x", "y"), 0),
        Sample("b", "q", "generation", ("x", "y")),
        Sample("c", "q", "multiple_choice", tuple("abcdefghijkl")),
    ),
    ("exact_match",),
    prompt=Prompt(max_new_tokens=2),
)
HEADER = "id,prediction,dummy_field\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "submission.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_a_valid_submission_is_counted_whatever_its_order(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + 'c,11,0\na,0,0\nb,"two\nlines, quoted",0\n')
    assert check_predictions(path, [TASK]) == Predictions(3, 2, 1)


def test_every_problem_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + 'a,2,0\nb,"\n ",0\nz,1,0\na,0,0\nc,1\n')
    with pytest.raises(EvaluationError) as caught:
        check_predictions(path, [TASK])
    found = [(str(each.where).removeprefix(str(path)), each.message) for each in caught.value.problems]
    assert found == [
        (":2", "id 'a': the prediction is '2', not an index from 0 to 1"),
        (":3", "id 'b': the prediction is blank"),
        (":5", "id 'z' is none that was asked"),
        (":6", "id 'a' again, first in " + f"{path}:2"),
        (":7", "2 cells, not 3"),
        ("", "no prediction for id 'c'"),
    ]
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("index", ["-1", "1.0", "x", "²", "0 ", "12"])
def test_what_is_no_index_is_refused(tmp_path: Path, index: str) -> None:
    path = write(tmp_path, f"{HEADER}a,0,0\nb,text,0\nc,{index},0\n")
    with pytest.raises(EvaluationError, match="not an index from 0 to 11"):
        check_predictions(path, [TASK])


@pytest.mark.parametrize("header", ["", "id,prediction\n", "prediction,id,dummy_field\n"])
def test_another_header_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(EvaluationError, match="not id,prediction,dummy_field"):
        check_predictions(write(tmp_path, header), [TASK])


def test_what_evaluate_writes_is_valid_unless_a_text_is_blank(model: LanguageModel, tmp_path: Path) -> None:
    report = evaluate(model, [TASK], out=tmp_path)
    assert report.tasks[0].items[1].prediction != ""
    assert check_predictions(tmp_path / "submission.csv", [TASK]).rows == 3


def test_the_competitions_test_file_gets_a_valid_submission(
    competition_file: Callable[[str], Path], make_model: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    """All 807 rows; two tokens each, so that it takes seconds."""
    task = load_task(competition_file("kit_test.csv"))
    short = replace(task, prompt=Prompt(max_new_tokens=2, otherwise="unknown"))
    evaluate(make_model(num_hidden_layers=1), [short], out=tmp_path)
    assert check_predictions(tmp_path / "submission.csv", [task]) == Predictions(807, 457, 350)
    lines = (tmp_path / "submission.csv").read_text(encoding="utf-8").splitlines()
    write(tmp_path, "\n".join(lines[:-1]) + "\n")
    with pytest.raises(EvaluationError, match="no prediction for id '806'"):
        check_predictions(tmp_path / "submission.csv", [task])


def test_a_suite_weighs_its_tasks(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("id,input,eval_type\n0,q,generation\n")
    suite = tmp_path / "suite.yaml"
    suite.write_text("name: both\ntasks:\n- {task: one.csv, weight: 2}\n- sort\n")
    first, second = load_tasks(suite)
    assert (first.name, first.weight, second.name, second.weight) == ("one", 2.0, "sort", load_task("sort").weight)
    assert [task.name for task in load_tasks(tmp_path / "one.csv")] == ["one"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: s\ntasks:\n- {tusk: a.csv}\n", "unknown key 'tasks.0.tusk'"),
        ("name: s\ntasks: []\n", "'tasks': expected one entry at least"),
        ("name: s\ntasks: [suite.yaml]\n", "'suite.yaml' is a suite"),
        ("name: s\ntasks: [{task: sort, weight: 0}]\n", "weight"),
        ("name: s\ntasks: [gone.csv]\n", "no such task file"),
    ],
)
def test_a_bad_suite_is_refused(tmp_path: Path, text: str, message: str) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(text)
    with pytest.raises(EvaluationError) as caught:
        load_tasks(suite)
    assert message in str(caught.value)
