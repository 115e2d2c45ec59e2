"""The page of evidence says what the stored scores say, by arithmetic that is not the page's."""

import json
import re
from math import exp, sqrt
from pathlib import Path
from statistics import NormalDist, mean, stdev
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EVIDENCE: dict[str, Any] = json.loads((DOCS / "explanation" / "evidence.json").read_text(encoding="utf-8"))
ROWS: list[dict[str, Any]] = [row for row in EVIDENCE["rows"] if row["kind"] != "draw"]
"""The ladder's rows; draws stand beside it."""

BASE = next(row for row in ROWS if row["kind"] == "base")
PAGE = (DOCS / "explanation" / "evidence.md").read_text(encoding="utf-8")


def lines_of(table: str) -> list[str]:
    """Return the lines of a table of the page below its head, by the name in its marks."""
    _, _, rest = PAGE.partition(f"<!-- {table}, written")
    lines, _, _ = rest.partition(f"<!-- end of {table} -->")
    return [line for line in lines.splitlines() if line.startswith("| ")][1:]


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def cells(row: dict[str, Any], table: str) -> list[str]:
    """Return a row's cells in a table of the page."""
    return next(cells_of(line) for line in lines_of(table) if line.startswith(f"| {row['name']} | "))


def points(cell: str) -> float:
    """Return the first number of a cell, in points."""
    return float(re.match(r"[+-]?[\d.]+", cell)[0])  # type: ignore[index]  # every such cell begins with one


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_row_of_the_page_follows_from_its_scores(row: dict[str, Any]) -> None:
    skills = [100 * mean(scores) for scores in row["scores"].values()]
    assert points(cells(row, "ladder")[2]) == pytest.approx(mean(skills), abs=0.051)
    assert [points(cell) for cell in cells(row, "skills")[1:]] == pytest.approx(skills, abs=0.051)


def test_gaps_and_shares_follow_from_the_scores() -> None:
    macro = {row["name"]: 100 * macro_of(row) for row in ROWS}
    experts = [row for row in ROWS if row["kind"] == "expert"]
    best_parent = max(macro[row["name"]] for row in (BASE, *experts))
    upper = 100 * mean(max(mean(expert["scores"][skill]) for expert in experts) for skill in BASE["scores"])
    for row in ROWS:
        shown = cells(row, "ladder")
        if row["kind"] == "blend":
            assert points(shown[3]) == pytest.approx(macro[row["name"]] - best_parent, abs=0.051)
        if row["kind"] != "base":
            share = 100 * (macro[row["name"]] - macro[BASE["name"]]) / (upper - macro[BASE["name"]])
            assert points(shown[5]) == pytest.approx(share, abs=0.51)


def macro_of(row: dict[str, Any]) -> float:
    scores: dict[str, list[float]] = row["scores"]
    return mean(map(mean, scores.values()))


def chance_of(row: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the p-value of a difference of macro scores: of its mean over its error, summed over the skills."""
    value, variance = 0.0, 0.0
    for own, others in zip(row["scores"].values(), other["scores"].values(), strict=True):
        gaps = [first - second for first, second in zip(own, others, strict=True)]
        value += mean(gaps) / 5
        variance += (stdev(gaps) / 5) ** 2 / len(gaps)
    return 2 * NormalDist().cdf(-abs(value) / sqrt(variance))


def test_p_values_are_corrected_for_every_comparison_that_the_ladder_and_the_text_make() -> None:
    by_name = {row["name"]: row for row in ROWS}
    parent = max((row for row in ROWS if row["kind"] == "expert"), key=macro_of)["name"]
    shown = {}
    for row in ROWS:
        _, _, _, to_parent, to_plain, _ = cells(row, "ladder")
        shown[row["name"], parent] = to_parent
        shown[row["name"], "task_arithmetic"] = to_plain
    for name, other, gap in map(cells_of, lines_of("contrasts")):
        shown[name, other] = gap
    shown = {names: gap for names, gap in shown.items() if gap}
    ordered = sorted((chance_of(by_name[name], by_name[other]), name, other) for name, other in shown)
    corrected = 0.0
    for place, (chance, name, other) in enumerate(ordered):
        corrected = max(corrected, min(1.0, chance * (len(ordered) - place)))
        noise = ", noise" if corrected >= 0.05 else ""
        assert shown[name, other].endswith("]" if corrected < 0.001 else f"(p {corrected:.3f}{noise})")
    assert f"{len(ordered)} comparisons are corrected together" in PAGE


def test_every_expert_is_worth_merging() -> None:
    """15 points above the base on its own skill, by the lower end of the interval."""
    for skill, scores in BASE["scores"].items():
        own = next(row for row in ROWS if row["name"] == skill)["scores"][skill]
        gaps = [expert - base for expert, base in zip(own, scores, strict=True)]
        assert mean(gaps) - 1.96 * stdev(gaps) / sqrt(len(gaps)) > 0.15


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_what_is_forgotten_follows_from_its_scores(row: dict[str, Any]) -> None:
    _, perplexity, times, opposites, gap = cells(row, "forgotten")
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
