"""A file shaped like the original competition's validation file, made here, from its text to its scores.

500 rows, every other pair of them letters: `A` to `D`, with the options inside the input. The others are the options
themselves. Inputs have several lines and both kinds of quotes, choices are Python list literals in the quotes that
Python picks, and every fourth context is longer than the tiny model can see.
"""

import csv
from collections import Counter
from pathlib import Path

import pytest

from cuvee.evaluation import Sample, evaluate, load_task
from cuvee.evaluation.choices import Scoring
from cuvee.evaluation.model import LanguageModel

LETTERS = ("A", "B", "C", "D")
LETTER_PLACES = (1, 4)
"""Of every five rows, these have letters: 200 of 500."""
OPTIONS = ("He is late .", "It wo n't start .", 'She said " no " .', """They "ca n't" agree .""", "None of the above .")


def made_sample(number: int) -> Sample:
    options = tuple(OPTIONS[(number + step) % len(OPTIONS)] for step in range(4))
    letters = number % 5 in LETTER_PLACES
    signs = ("A. ", "B. ", "C. ", "D. ") if letters else ("- ", " - ", " - ", " - ")
    story = 'It was a long day , and "nobody" said so , \'til now . ' * (10 if is_long(number) else 1)
    asked = "\n".join([story, f"Why ({number}) ?", "Options:", *map("".join, zip(signs, options, strict=True))])
    return Sample(str(number), asked, "multiple_choice", LETTERS if letters else options, number * 7 % 4)


def is_long(number: int) -> bool:
    return number % 4 == 3


SAMPLES = tuple(made_sample(number) for number in range(500))
LETTER_SAMPLES = tuple(sample for sample in SAMPLES if sample.choices == LETTERS)


def write(path: Path, samples: tuple[Sample, ...]) -> Path:
    """Write rows as the competition did; every third one with all its cells quoted."""
    with path.open("w", newline="", encoding="utf-8") as file:
        sparing, full = (csv.writer(file, quoting=q, lineterminator="\n") for q in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
        sparing.writerow(["id", "input", "target", "answer_choices", "eval_type"])
        for sample in samples:
            writer = full if int(sample.id) % 3 == 0 else sparing
            writer.writerow([sample.id, sample.input, sample.target, str(list(sample.choices)), sample.eval_type])
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("made") / "validation.csv", SAMPLES)


def test_the_file_is_as_mixed_as_it_is_meant_to_be(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert all(part in text for part in ('\n1,"', '\n"3","', '""nobody""', "\nA. ", "\n- ", '""It wo n\'t start .""'))
    assert (len(SAMPLES), len(LETTER_SAMPLES)) == (500, 200)
    assert Counter(sample.target for sample in SAMPLES) == dict.fromkeys(range(4), 125)


def test_all_rows_are_read_as_they_were_written(file: Path) -> None:
    task = load_task(file)
    assert task.samples == SAMPLES
    assert (task.name, task.metrics) == ("validation", ("accuracy",))


def test_all_rows_are_scored_and_those_that_were_cut_are_counted(
    file: Path, model: LanguageModel, tmp_path: Path
) -> None:
    report = evaluate(model, [file], out=tmp_path)
    task = report.task("validation")
    assert (task.scores[0].n, task.unscored, task.truncated) == (500, 0, 125)
    assert report.notes == ("validation: 125 of 500 items were cut on the left to fit 256 tokens",)
    right = sum(item.prediction == sample.target for item, sample in zip(task.items, SAMPLES, strict=True))
    assert task.scores[0].value == pytest.approx(right / 500)
    assert {item.prediction for item in task.items} == {0, 1, 2, 3}
    with (tmp_path / "submission.csv").open(newline="", encoding="utf-8") as written:
        assert [row[0] for row in csv.reader(written)] == ["id", *(sample.id for sample in SAMPLES)]


@pytest.mark.parametrize("scoring", ["sum", "letter", "kit"])
def test_letter_rows_are_scored_each_way(model: LanguageModel, tmp_path: Path, scoring: Scoring) -> None:
    report = evaluate(model, [write(tmp_path / "letters.csv", LETTER_SAMPLES)], scoring=scoring)
    task = report.task("letters")
    assert (task.scores[0].n, task.unscored, task.truncated) == (200, 0, 50)
    right = sum(item.prediction == sample.target for item, sample in zip(task.items, LETTER_SAMPLES, strict=True))
    assert task.scores[0].value == pytest.approx(right / 200)
