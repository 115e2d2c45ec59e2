"""The tables and the figure of the page of evidence, from each model's score on each private item.

`explanation/evidence.json` holds the scores, as examples/smollm2/evidence.py wrote them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_chart import STYLE

from cuvee.evaluation.statistics import Estimate, Gap, average, average_difference, mean
from cuvee.search.bench import holm

DOCS = Path(__file__).parent
SCORES = DOCS / "explanation" / "evidence.json"
START, END = "<!-- written by docs/generate.py from evidence.json -->", "<!-- end -->"

PLAIN = "task_arithmetic"
"""The row that blends are compared with, beside the best parent."""

DRAWS, SEED = 2000, 0

WIDTH, LEFT, RIGHT, TOP, ROW_HEIGHT, BOTTOM = 560, 230, 60, 34, 22, 40
MOST_SHOWN = 80
"""Points at which the axis of the figure ends."""


@dataclass(frozen=True)
class Row:
    """A model: its kind (base, expert, multitask, blend), its settings, and its scores by skill."""

    name: str
    kind: str
    how: str
    scores: Mapping[str, Sequence[float]]

    @property
    def tasks(self) -> list[Sequence[float]]:
        return list(self.scores.values())

    @property
    def macro(self) -> Estimate:
        """The mean of the skills' means."""
        return average(self.tasks, [1.0] * len(self.tasks))


@dataclass(frozen=True)
class Evidence:
    """All rows, in the order of their macro scores, the best first, and what they were measured with."""

    rows: tuple[Row, ...]
    measured: Mapping[str, Any]

    def of_kind(self, *kinds: str) -> list[Row]:
        return [row for row in self.rows if row.kind in kinds]

    @property
    def base(self) -> Row:
        return self.of_kind("base")[0]

    @property
    def best_parent(self) -> Row:
        return self.of_kind("base", "expert")[0]

    @property
    def plain(self) -> Row:
        return next(row for row in self.rows if row.name == PLAIN)

    def gaps(self, other: Row) -> dict[str, Gap]:
        """Return each blend minus another model, over the same items."""
        return {row.name: gap(row, other) for row in self.of_kind("blend") if row is not other}

    def share_kept(self, row: Row) -> tuple[float, float, float]:
        """Return the share of the experts' gain over the base that a model keeps, with its 95 % interval.

        The experts' gain is the mean over the skills of the best expert's score minus the base's. The interval is of
        the bootstrap over items, the same items for all models.
        """
        draw = np.random.default_rng(SEED)
        gains, gaps = np.zeros(DRAWS + 1), np.zeros(DRAWS + 1)
        for skill, scores in row.scores.items():
            own, base = np.asarray(scores), np.asarray(self.base.scores[skill])
            expert = np.asarray(max((each.scores[skill] for each in self.of_kind("expert")), key=np.mean))
            items = draw.integers(len(own), size=(DRAWS, len(own)))
            items = np.concatenate([np.arange(len(own))[None], items])
            gains += (own - base)[items].mean(1)
            gaps += (expert - base)[items].mean(1)
        shares = gains / gaps
        low, high = np.quantile(shares[1:], [0.025, 0.975])
        return float(shares[0]), float(low), float(high)


def read_evidence(file: Path = SCORES) -> Evidence:
    document = json.loads(file.read_text(encoding="utf-8"))
    rows = [Row(row["name"], row["kind"], row["how"], row["scores"]) for row in document.pop("rows")]
    return Evidence(tuple(sorted(rows, key=lambda row: -row.macro.value)), document)


def gap(row: Row, other: Row) -> Gap:
    pairs = [(row.scores[skill], other.scores[skill]) for skill in row.scores]
    return average_difference(pairs, [1.0] * len(pairs))


def evidence_page() -> str:
    """Return the page with the tables between its marks."""
    text = (DOCS / "explanation" / "evidence.md").read_text(encoding="utf-8")
    evidence = read_evidence()
    before, _, rest = text.partition(START)
    _, end, after = rest.partition(END)
    assert end, f"docs/explanation/evidence.md lacks the marks of its tables, {START}"
    tables = "\n\n".join(["\n".join(ladder_table(evidence)), "\n".join(skills_table(evidence))])
    return f"{before}{START}\n\n{tables}\n\n{END}{after}"


def ladder_table(evidence: Evidence) -> Iterator[str]:
    against_parent, against_plain = evidence.gaps(evidence.best_parent), evidence.gaps(evidence.plain)
    corrected = holm({name: 1 - each.better for name, each in against_parent.items()})
    parent_name = evidence.best_parent.name
    yield f"| model | settings | macro | against {parent_name} | against {PLAIN} | p, corrected | gain kept |"
    yield "|---|---|---|---|---|---|---|"
    for row in evidence.rows:
        parent, plain, p = against_parent.get(row.name), against_plain.get(row.name), corrected.get(row.name)
        cells = [row.name, row.how, _interval(row.macro), _gap(parent), _gap(plain), "" if p is None else _p(p)]
        kept = "" if row.kind == "base" else _share(*evidence.share_kept(row))
        yield "| " + " | ".join([*cells, kept]) + " |"


def skills_table(evidence: Evidence) -> Iterator[str]:
    skills = list(evidence.base.scores)
    yield "| model | " + " | ".join(skills) + " |"
    yield "|---" * (len(skills) + 1) + "|"
    for row in evidence.rows:
        yield f"| {row.name} | " + " | ".join(_interval(mean(row.scores[skill])) for skill in skills) + " |"


def _interval(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _gap(gap: Gap | None) -> str:
    if gap is None:
        return ""
    noise = " (noise)" if gap.verdict == "tie" else ""
    return f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]{noise}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _share(value: float, low: float, high: float) -> str:
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"


def evidence_chart() -> str:
    """Draw each model's macro score with its interval, the best first."""
    rows = read_evidence().rows
    height = TOP + ROW_HEIGHT * len(rows) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img">',
        "<title>Macro score of each model on private items, with 95 % intervals</title>",
        f"<style>{STYLE}</style>",
    ]
    bottom = height - BOTTOM
    for tick in range(0, MOST_SHOWN + 1, 20):
        parts.append(f'<line class="line" x1="{_x(tick)}" x2="{_x(tick)}" y1="{TOP - 14}" y2="{bottom}"/>')
        parts.append(f'<text class="quiet" x="{_x(tick)}" y="{bottom + 16}" text-anchor="middle">{tick}</text>')
    label = "mean of the five skills' scores, in points"
    parts.append(f'<text class="quiet" x="{_x(MOST_SHOWN / 2)}" y="{height - 6}" text-anchor="middle">{label}</text>')
    for number, row in enumerate(rows):
        parts += _drawn(row, TOP + ROW_HEIGHT * number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(row: Row, y: float) -> list[str]:
    macro = row.macro
    low, value, high = (_x(100 * each) for each in (macro.low, macro.value, macro.high))
    mark = "cuvee" if row.kind == "blend" else "mergekit"
    return [
        f'<text x="{LEFT - 14}" y="{y + 4.5}" text-anchor="end">{escape(row.name)}</text>',
        f'<line class="gap" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>',
        f'<circle class="{mark}" cx="{value}" cy="{y}" r="4.5"/>',
        f'<text x="{WIDTH}" y="{y + 4.5}" text-anchor="end">{100 * macro.value:.1f}</text>',
    ]


def _x(points: float) -> float:
    return round(LEFT + points / MOST_SHOWN * (WIDTH - LEFT - RIGHT), 1)
