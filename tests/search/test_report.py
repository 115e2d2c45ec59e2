"""`report.json`: what is written is what is read."""

from dataclasses import replace
from pathlib import Path

import pytest

from cuvee.errors import EvaluationError
from cuvee.search.report import Candidate, Cost, Dimension, SearchReport, TaskItems, read_report, write_report

ROWS = (
    Candidate(0, "sort", "", {}, "measured", 0.5, 0.0, 400, 9600, 2.0, anchor="parent"),
    Candidate(1, "candidate 1", "dare", {"lambda": 0.5, "density": "0.2"}, "measured", 0.7, 0.02, 400, 9600, 2.0),
    Candidate(2, "candidate 2", "dare", {"lambda": 0.1}, "dropped", 0.75, 0.05, 100, 2400, 0.5, "behind", None),
    Candidate(3, "candidate 3", "dare", {"lambda": 0.1}, "failed", None, None, 0, 0, 0.5, "out of memory"),
)
REPORT = SearchReport(
    title="A search",
    phase="running",
    base="base",
    models=("sort", "shift"),
    tasks=(TaskItems("sort", 1.0, 400, 300, 300, "sort-private"),),
    sampler="cmaes",
    budget="1h",
    seed=0,
    dimensions=(Dimension("lambda", 0.1, 1.0, logarithmic=True), Dimension("density", choices=("0.2", "0.5"))),
    candidates=ROWS,
    cost=Cost(900, 21600, 5.0, 1),
    recipe="merge_method: dare\n",
    importance={"lambda": 0.9},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write_report(REPORT, tmp_path / "out")
    assert path == tmp_path / "out" / "report.json"
    assert read_report(tmp_path / "out") == REPORT
    assert [each.name for each in path.parent.iterdir()] == ["report.json"]


def test_candidates_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    shuffled = replace(REPORT, candidates=tuple(reversed(ROWS)))
    first, second = (write_report(each, tmp_path).read_bytes() for each in (REPORT, shuffled))
    assert first == second


def test_a_missing_or_wrong_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no report of a search"):
        read_report(tmp_path)
    write_report(REPORT, tmp_path)
    path = tmp_path / "report.json"
    path.write_text(path.read_text().replace('"phase": "running"', '"phase": "asleep"'))
    with pytest.raises(EvaluationError, match="not the report of a search: phase"):
        read_report(tmp_path)
    path.write_text("{")
    with pytest.raises(EvaluationError, match="not the report of a search"):
        read_report(tmp_path)


def test_what_racing_saved_counts_the_candidates_that_raced() -> None:
    assert REPORT.saved == pytest.approx(1 - 500 / 800)
    assert replace(REPORT, candidates=ROWS[:1]).saved is None


def test_the_best_was_measured_on_everything() -> None:
    assert REPORT.best == ROWS[1]
    assert replace(REPORT, candidates=()).best is None


@pytest.mark.parametrize(
    ("low", "high", "logarithmic", "choices", "text"),
    [
        (0.0, None, False, (), "a range or choices"),
        (None, None, False, (), "a range or choices"),
        (0.0, 1.0, False, ("a",), "a range or choices"),
        (0.0, 1.0, True, (), "starts above 0"),
    ],
)
def test_a_dimension_has_a_range_or_choices(
    low: float | None, high: float | None, logarithmic: bool, choices: tuple[str, ...], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        Dimension("lambda", low, high, logarithmic, choices)
