"""The page of evidence says what the stored scores say, by arithmetic that is not the page's."""

import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EVIDENCE: dict[str, Any] = json.loads((DOCS / "explanation" / "evidence.json").read_text(encoding="utf-8"))
ROWS: list[dict[str, Any]] = EVIDENCE["rows"]


def cells(row: dict[str, Any], table: int) -> list[str]:
    """Return a row's cells in the ladder (0) or in the table of skills (1), the last two tables of the page."""
    page = (DOCS / "explanation" / "evidence.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(f"| {row['name']} | ")]
    return [cell.strip() for cell in lines[-2:][table].strip("|").split("|")]


def points(cell: str) -> float:
    """Return the first number of a cell, in points."""
    return float(re.match(r"[+-]?[\d.]+", cell)[0])  # type: ignore[index]  # every such cell begins with one


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_row_of_the_page_follows_from_its_scores(row: dict[str, Any]) -> None:
    skills = [100 * mean(scores) for scores in row["scores"].values()]
    assert points(cells(row, 0)[2]) == pytest.approx(mean(skills), abs=0.051)
    assert [points(cell) for cell in cells(row, 1)[1:]] == pytest.approx(skills, abs=0.051)


def test_gaps_and_shares_follow_from_the_scores() -> None:
    macro = {row["name"]: 100 * mean(map(mean, row["scores"].values())) for row in ROWS}
    base = next(row for row in ROWS if row["kind"] == "base")
    experts = [row for row in ROWS if row["kind"] == "expert"]
    best_parent = max(macro[row["name"]] for row in (base, *experts))
    upper = 100 * mean(max(mean(expert["scores"][skill]) for expert in experts) for skill in base["scores"])
    for row in ROWS:
        shown = cells(row, 0)
        if row["kind"] == "blend":
            assert points(shown[3]) == pytest.approx(macro[row["name"]] - best_parent, abs=0.051)
        if row["kind"] != "base":
            share = 100 * (macro[row["name"]] - macro[base["name"]]) / (upper - macro[base["name"]])
            assert points(shown[6]) == pytest.approx(share, abs=0.51)


def test_every_model_answers_the_same_items() -> None:
    sizes = {tuple((skill, len(scores)) for skill, scores in row["scores"].items()) for row in ROWS}
    assert sizes == {tuple((skill, EVIDENCE["items"]["test"]) for skill in EVIDENCE["skills"])}
