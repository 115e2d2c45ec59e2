"""The page of evidence says what the stored scores say, by arithmetic that is not the page's."""

import json
import re
from math import exp
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EVIDENCE: dict[str, Any] = json.loads((DOCS / "explanation" / "evidence.json").read_text(encoding="utf-8"))
ROWS: list[dict[str, Any]] = [row for row in EVIDENCE["rows"] if row["kind"] != "draw"]
"""The ladder's rows; draws stand beside it."""

BASE = next(row for row in ROWS if row["kind"] == "base")
LADDER, SKILLS, FORGOTTEN = range(3)


def cells(row: dict[str, Any], table: int) -> list[str]:
    """Return a row's cells in the ladder, in the table of skills or in that of what is forgotten."""
    page = (DOCS / "explanation" / "evidence.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(f"| {row['name']} | ")]
    return [cell.strip() for cell in lines[-3:][table].strip("|").split("|")]


def points(cell: str) -> float:
    """Return the first number of a cell, in points."""
    return float(re.match(r"[+-]?[\d.]+", cell)[0])  # type: ignore[index]  # every such cell begins with one


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_row_of_the_page_follows_from_its_scores(row: dict[str, Any]) -> None:
    skills = [100 * mean(scores) for scores in row["scores"].values()]
    assert points(cells(row, LADDER)[2]) == pytest.approx(mean(skills), abs=0.051)
    assert [points(cell) for cell in cells(row, SKILLS)[1:]] == pytest.approx(skills, abs=0.051)


def test_gaps_and_shares_follow_from_the_scores() -> None:
    macro = {row["name"]: 100 * mean(map(mean, row["scores"].values())) for row in ROWS}
    experts = [row for row in ROWS if row["kind"] == "expert"]
    best_parent = max(macro[row["name"]] for row in (BASE, *experts))
    upper = 100 * mean(max(mean(expert["scores"][skill]) for expert in experts) for skill in BASE["scores"])
    for row in ROWS:
        shown = cells(row, LADDER)
        if row["kind"] == "blend":
            assert points(shown[3]) == pytest.approx(macro[row["name"]] - best_parent, abs=0.051)
        if row["kind"] != "base":
            share = 100 * (macro[row["name"]] - macro[BASE["name"]]) / (upper - macro[BASE["name"]])
            assert points(shown[6]) == pytest.approx(share, abs=0.51)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_what_is_forgotten_follows_from_its_scores(row: dict[str, Any]) -> None:
    _, perplexity, times, opposites, gap = cells(row, FORGOTTEN)
    tokens = sum(EVIDENCE["tokens_of_texts"])
    assert points(perplexity) == pytest.approx(exp(sum(row["nats"]) / tokens), abs=0.051)
    assert points(opposites) == pytest.approx(100 * mean(row["opposites"]), abs=0.051)
    if row is not BASE:
        assert points(times) == pytest.approx(exp((sum(row["nats"]) - sum(BASE["nats"])) / tokens), abs=0.0051)
        assert points(gap) == pytest.approx(100 * (mean(row["opposites"]) - mean(BASE["opposites"])), abs=0.051)


def test_every_model_answers_the_same_items() -> None:
    sizes = {tuple((skill, len(scores)) for skill, scores in row["scores"].items()) for row in EVIDENCE["rows"]}
    assert sizes == {tuple((skill, EVIDENCE["items"]["test"]) for skill in EVIDENCE["skills"])}
    assert {(len(row["nats"]), len(row["opposites"])) for row in EVIDENCE["rows"]} == {
        (len(EVIDENCE["tokens_of_texts"]), len(BASE["opposites"]))
    }
