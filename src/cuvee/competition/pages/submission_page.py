"""What pages of submissions and teams draw: rules and models as a grid, and a team's scores as a staircase."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cuvee.competition.pages.board_page import axis_of
from cuvee.competition.views import SubmissionView
from cuvee.report import Figure

MARKS = {"pass": "✓", "fail": "✗", "note": "•"}
WORDS = {"pass": "kept", "fail": "broken", "note": "note"}
WORST = ("fail", "note", "pass")
WIDTH, HEIGHT, LEFT = 640, 236, 44
BELOW = 36
"""Room for the numbers of entries below the lowest tick, also where a phone draws them larger."""


@dataclass(frozen=True)
class Cell:
    """What a rule says of a model: a mark, its word, and the messages."""

    outcome: str
    text: str

    @property
    def mark(self) -> str:
        return MARKS[self.outcome]

    @property
    def word(self) -> str:
        return WORDS[self.outcome]


@dataclass(frozen=True)
class Grid:
    """Rules downwards, models to the right; the first column is the submission as a whole. `told` are the messages."""

    models: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    told: tuple[tuple[str, str, str, str], ...]


def rules_grid(findings: Sequence[Mapping[str, Any]]) -> Grid:
    """Lay out findings, whose messages are told below where a rule is not simply kept."""
    models = tuple(dict.fromkeys(str(finding["model"]) for finding in findings if finding["model"]))
    rules = dict.fromkeys(str(finding["rule"]) for finding in findings)
    rows: list[tuple[str, tuple[Cell | None, ...]]] = []
    for rule in rules:
        cells = [_cell(findings, rule, model) for model in ("", *models)]
        rows.append((rule, tuple(cells)))
    told = tuple(
        (WORDS[finding["outcome"]], str(finding["rule"]), str(finding["model"]), str(finding["message"]))
        for finding in findings
        if finding["outcome"] != "pass"
    )
    return Grid(models, tuple(rows), told)


def _cell(findings: Sequence[Mapping[str, Any]], rule: str, model: str) -> Cell | None:
    of_rule = [finding for finding in findings if finding["rule"] == rule]
    found = [finding for finding in of_rule if (finding["model"] or "") == model]
    if not found:
        return None
    outcome = min((str(each["outcome"]) for each in found), key=WORST.index)
    return Cell(outcome, "; ".join(str(each["message"]) for each in found if each["message"]))


@dataclass(frozen=True)
class Step:
    """One entry: its number among the scored ones, where its dot is, whether it was a new best, and what it says."""

    number: int
    x: float
    y: float
    is_best: bool
    text: str


@dataclass(frozen=True)
class Staircase:
    """A team's scored entries in the order in which they came; the line is the best so far."""

    line: str
    steps: tuple[Step, ...]
    ticks: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT


def staircase(sent: Sequence[SubmissionView]) -> Staircase | None:
    """Draw the scores of a team; None with fewer than two."""
    scored = [(each, each.score) for each in reversed(sent) if each.score is not None]
    if len(scored) < 2:
        return None
    axis = axis_of([Figure(score.value, score.value, score.value) for _, score in scored], HEIGHT - BELOW - 16)
    best, line, steps = -1.0, "", []
    for number, (each, score) in enumerate(scored):
        x = round(LEFT + 16 + (WIDTH - LEFT - 32) * number / (len(scored) - 1), 1)
        y = round(HEIGHT - BELOW - axis.at(score.value), 1)
        is_best = score.value > best
        if is_best:
            line += f"H{x}V{y}" if line else f"M{x} {y}"
            best = score.value
        steps.append(Step(number + 1, x, y, is_best, f"{each.title}: {100 * score.value:.1f}"))
    ticks = tuple((round(HEIGHT - BELOW - at, 1), text) for at, text in axis.ticks)
    return Staircase(f"{line}H{WIDTH - 16}", tuple(steps), ticks)
