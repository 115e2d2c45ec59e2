"""Questions go into the sandbox without targets; what comes out is read as what it is: foreign."""

import json
from pathlib import Path

import pytest

from cuvee.demo import task_file, task_names
from cuvee.errors import SubmissionError
from cuvee.evaluation import Sample, Task, load_task
from cuvee.submission.answers import limited, read_answers, write_without_targets
from cuvee.submission.build import Rejection
from cuvee.submission.measure import Parts, measure

TASK = Task(
    "t",
    (
        Sample("a", "one?", "multiple_choice", ("x", "y"), 1),
        Sample("b", "two?", "generation", (), "the secret answer"),
    ),
    ("exact_match",),
)
CHOICE = {"id": "a", "prediction": 1, "tokens": 3, "cut": 0}
TEXT = {"id": "b", "prediction": "some text", "tokens": 3, "cut": 0}


def answers(folder: Path, *lines: object) -> Path:
    path = folder / "t.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("name", task_names())
def test_a_task_is_asked_as_it_is_but_without_targets(name: str, tmp_path: Path) -> None:
    task = load_task(task_file(name))
    (file,) = write_without_targets({f"public.{name}": task}, tmp_path / "questions")
    asked = load_task(file)
    assert [sample.target for sample in asked.samples] == [None] * len(task.samples)
    assert [(s.id, s.input, s.choices) for s in asked.samples] == [(s.id, s.input, s.choices) for s in task.samples]
    assert asked.prompt == task.prompt


def test_no_target_is_in_any_file_of_the_questions(tmp_path: Path) -> None:
    write_without_targets({"t": TASK}, tmp_path / "questions")
    text = "".join(file.read_text() for file in (tmp_path / "questions").iterdir())
    assert "secret answer" not in text
    assert "target" not in text


def test_answers_are_read(tmp_path: Path) -> None:
    found = read_answers(answers(tmp_path, CHOICE, {**TEXT, "metrics": {"exact_match": 1.0}, "more": 1}), TASK)
    assert {name: answer.prediction for name, answer in found.items()} == {"a": 1, "b": "some text"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((CHOICE,), "1 items have no answer, 'b' first"),
        ((CHOICE, CHOICE, TEXT), "answered twice"),
        ((CHOICE, TEXT, {**TEXT, "id": "c"}), "not asked"),
        (({**CHOICE, "prediction": 2}, TEXT), "neither one of the choices"),
        (({**CHOICE, "prediction": True}, TEXT), "neither one of the choices"),
        (({**CHOICE, "prediction": "y"}, TEXT), "neither one of the choices"),
        ((CHOICE, {**TEXT, "prediction": 1}), "neither one of the choices"),
        ((CHOICE, {**TEXT, "tokens": -1}), "are counts"),
        ((CHOICE, {**TEXT, "tokens": 1.5}), "are counts"),
        ((CHOICE, {"id": "b"}), "this is no answer"),
        ((CHOICE, "[" * 100_000), "this is no answer"),
        ((CHOICE, "null"), "this is no answer"),
    ],
)
def test_odd_answers_are_refused(tmp_path: Path, lines: tuple[object, ...], message: str) -> None:
    with pytest.raises(SubmissionError, match=message):
        read_answers(answers(tmp_path, *lines), TASK)


def test_a_score_that_came_out_counts_for_nothing(tmp_path: Path) -> None:
    boast = {**TEXT, "metrics": {"exact_match": 1.0}, "target": "some text"}
    answers(tmp_path, CHOICE, boast).rename(tmp_path / "public.t.jsonl")
    found = measure(Parts({"t": TASK}, {}), tmp_path)
    assert found.public is not None
    assert found.public.items["t"][-1] == 0.0
    assert found.private is None


def test_missing_answers_are_a_rejection(tmp_path: Path) -> None:
    with pytest.raises(Rejection, match="cannot be used"):
        measure(Parts({"t": TASK}, {}), tmp_path)


def test_a_limit_takes_the_first_items() -> None:
    assert [sample.id for sample in limited(TASK, 1, ()).samples] == ["a"]
    assert limited(TASK, None, ["f1"]).metrics == ("f1",)
