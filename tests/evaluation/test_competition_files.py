"""The original competition's files are read and scored as they are."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cuvee.evaluation import Report, evaluate, load_task
from cuvee.evaluation.choices import Scoring
from cuvee.evaluation.model import LanguageModel

Find = Callable[[str], Path]


@pytest.fixture(scope="module")
def cosmos_qa(competition_file: Find, make_model: Callable[..., LanguageModel]) -> Report:
    return evaluate(make_model(num_hidden_layers=1), [load_task(competition_file("kit_cosmos_qa.csv"))])


def test_the_validation_files_are_read(competition_file: Find) -> None:
    cosmos_qa, xsum = (load_task(competition_file(f"kit_{name}.csv")) for name in ("cosmos_qa", "xsum"))
    assert (len(cosmos_qa.samples), cosmos_qa.metrics) == (500, ("accuracy",))
    assert Counter(sample.target for sample in cosmos_qa.samples) == {0: 128, 1: 117, 2: 128, 3: 127}
    assert sum(sample.choices == ("A", "B", "C", "D") for sample in cosmos_qa.samples) == 200
    assert (len(xsum.samples), {sample.choices for sample in xsum.samples}) == (200, {()})
    assert all(sample.input.endswith(" A summary is") and sample.target for sample in xsum.samples)


def test_the_test_file_is_read(competition_file: Find) -> None:
    samples = load_task(competition_file("kit_test.csv")).samples
    kinds = Counter((sample.eval_type, len(sample.choices)) for sample in samples)
    assert len(samples) == 807
    assert kinds == {
        ("multiple_choice", 2): 100,
        ("multiple_choice", 4): 307,
        ("multiple_choice", 8): 50,
        ("generation", 0): 300,
        ("generation", 2): 50,
    }
    assert {sample.target for sample in samples} == {None}
    assert sum(sample.input != sample.input.strip() for sample in samples) == 58


def test_all_rows_of_cosmos_qa_are_scored(cosmos_qa: Report) -> None:
    task = cosmos_qa.tasks[0]
    assert (task.scores[0].n, task.unscored) == (500, 0)
    assert task.truncated > 400
    assert f"{task.truncated} of 500 items were cut on the left" in cosmos_qa.notes[0]
    assert 0.1 < task.scores[0].value < 0.4
    assert {item.prediction for item in task.items} == {0, 1, 2, 3}


@pytest.mark.parametrize("scoring", ["letter", "kit"])
def test_letter_choices_are_scored_in_other_ways(
    competition_file: Find, model: LanguageModel, tmp_path: Path, scoring: Scoring
) -> None:
    with competition_file("kit_cosmos_qa.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row[3] in ("answer_choices", "['A', 'B', 'C', 'D']")]
    with (tmp_path / "letters.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    report = evaluate(model, [tmp_path / "letters.csv"], scoring=scoring)
    assert report.task("letters").scores[0].n == 200


def test_the_test_file_gives_a_submission_of_every_row(
    competition_file: Find, model: LanguageModel, tmp_path: Path
) -> None:
    report = evaluate(model, [competition_file("kit_test.csv")], out=tmp_path, limit=60)
    assert report.macro is None
    assert (tmp_path / "submission.csv").read_text(encoding="utf-8").startswith("id,prediction,dummy_field\n0,")
    assert len(report.task("kit_test").items) == 60
