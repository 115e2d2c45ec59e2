"""Metrics, by examples worked by hand."""

import pytest

from cuvee.evaluate.metrics import exact_match, f1, number_match, score
from cuvee.evaluate.task import Sample


@pytest.mark.parametrize(
    ("prediction", "target", "value"),
    [(" a  b\n", "a b", 1.0), ("A b", "a b", 0.0), ("a b.", "a b", 0.0), ("", "a", 0.0)],
)
def test_exact_match_ignores_whitespace_only(prediction: str, target: str, value: float) -> None:
    assert exact_match(prediction, target) == value


@pytest.mark.parametrize(
    ("prediction", "target", "value"),
    [
        ("first 3, then 1,234.50.", "1234.5", 1.0),
        ("it is -4", "4", 0.0),
        ("5-3", "3", 1.0),
        ("1,2", "2", 1.0),
        ("so .5", "0.5", 1.0),
        ("3.", "3", 1.0),
        ("nothing", "3", 0.0),
        ("12", "2", 0.0),
    ],
)
def test_number_match_compares_the_last_numbers(prediction: str, target: str, value: float) -> None:
    assert number_match(prediction, target) == value


@pytest.mark.parametrize(
    ("prediction", "target", "value"),
    [("The red fox.", "a fox", 2 / 3), ("fox fox", "fox", 2 / 3), ("dog", "fox", 0.0), ("the", "a", 1.0)],
)
def test_f1_counts_shared_words(prediction: str, target: str, value: float) -> None:
    assert f1(prediction, target) == pytest.approx(value)


def test_text_metrics_compare_the_texts_of_choices() -> None:
    sample = Sample("0", "q", "multiple_choice", ("red fox", "grey fox", "red  fox"), 0)
    assert [score("accuracy", sample, place) for place in range(3)] == [1.0, 0.0, 0.0]
    assert [score("exact_match", sample, place) for place in range(3)] == [1.0, 0.0, 1.0]
    assert [score("f1", sample, place) for place in range(3)] == [1.0, 0.5, 1.0]
