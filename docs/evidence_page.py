"""The tables of the page of evidence, from each model's score on each private item.

`explanation/evidence.json` holds the scores, as examples/smollm2/evidence.py wrote them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.evaluation.statistics import Estimate, Gap, average, average_difference, difference, mean
from cuvee.search.bench import holm

DOCS = Path(__file__).parent
SCORES = DOCS / "explanation" / "evidence.json"

REPAIRS = {"align": "aligned by {} texts of each", "regmean_pp": "regmean_pp by {} texts of each"}
TEXTS = (8, 32, 128)
FOUND = 2.8
"""Standard errors of a difference that is found four times out of five at the level of 5 %: 1.96 and 0.84."""

PLAIN = "task_arithmetic"
"""The row that blends are compared with, beside the best parent."""

DRAW = "draw"
DRAWS, SEED = 2000, 0


@dataclass(frozen=True)
class Row:
    """A model: its kind (base, expert, multitask, blend, draw), its settings, and its scores by skill.

    A draw is a blend by other texts than the ladder's. `nats` are the costs of each general text, `opposites` the
    scores of a skill that no expert was trained for. `seconds` of a processor went by until it was merged and loaded;
    None where it was made otherwise.
    """

    name: str
    kind: str
    how: str
    scores: Mapping[str, Sequence[float]]
    nats: Sequence[float]
    opposites: Sequence[float]
    seconds: float | None
    digest: str

    @property
    def tasks(self) -> list[Sequence[float]]:
        return list(self.scores.values())

    @property
    def macro(self) -> Estimate:
        """The mean of the skills' means."""
        return average(self.tasks, [1.0] * len(self.tasks))


@dataclass(frozen=True)
class Evidence:
    """The ladder's rows, in the order of their macro scores, the best first; draws; what they were measured with."""

    rows: tuple[Row, ...]
    draws: tuple[Row, ...]
    measured: Mapping[str, Any]

    def of_kind(self, *kinds: str) -> list[Row]:
        return [row for row in self.rows if row.kind in kinds]

    def row(self, name: str) -> Row | None:
        return next((row for row in (*self.rows, *self.draws) if row.name == name), None)

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

    @property
    def repairs(self) -> dict[str, dict[int, Row]]:
        """The rows of each repair by their numbers of texts, of repairs that were measured."""
        found: dict[str, dict[int, Row]] = {}
        for method, name in REPAIRS.items():
            for texts in TEXTS:
                row = self.row(name.format(texts))
                if row is not None:
                    found.setdefault(method, {})[texts] = row
        return found

    def perplexity(self, row: Row) -> float:
        """Return e to the mean loss of a token of the general texts."""
        return float(np.exp(sum(row.nats) / sum(self.measured["tokens_of_texts"])))

    def times_base(self, row: Row) -> tuple[float, float, float]:
        """Return a model's perplexity over the base's, with its 95 % interval by the bootstrap over texts."""
        tokens = np.asarray(self.measured["tokens_of_texts"])
        more = np.asarray(row.nats) - np.asarray(self.base.nats)
        texts = np.random.default_rng(SEED).integers(len(tokens), size=(DRAWS, len(tokens)))
        low, high = np.quantile(np.exp(more[texts].sum(1) / tokens[texts].sum(1)), [0.025, 0.975])
        return float(np.exp(more.sum() / tokens.sum())), float(low), float(high)


def read_evidence(file: Path = SCORES) -> Evidence:
    document = json.loads(file.read_text(encoding="utf-8"))
    every = sorted((Row(**row) for row in document.pop("rows")), key=lambda row: -row.macro.value)
    ladder = tuple(row for row in every if row.kind != DRAW)
    return Evidence(ladder, tuple(row for row in every if row.kind == DRAW), document)


def gap(row: Row, other: Row) -> Gap:
    pairs = [(row.scores[skill], other.scores[skill]) for skill in row.scores]
    return average_difference(pairs, [1.0] * len(pairs))


def evidence_page() -> str:
    """Return the page with each table between its marks."""
    text = (DOCS / "explanation" / "evidence.md").read_text(encoding="utf-8")
    evidence = read_evidence()
    for name, table in TABLES.items():
        start, end = f"<!-- {name}, written by docs/generate.py from evidence.json -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        assert found, f"docs/explanation/evidence.md lacks the marks of its table of {name}"
        written = "\n".join(table(evidence))
        text = f"{before}{start}\n\n{written}\n\n{end}{after}"
    return text


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


def power(evidence: Evidence) -> Iterator[str]:
    """Say how many comparisons there are, and which difference they would find."""
    for name, other in (("the best parent", evidence.best_parent), (PLAIN, evidence.plain)):
        gaps = evidence.gaps(other)
        errors = sorted(100 * each.standard_error for each in gaps.values())
        found = FOUND * errors[len(errors) // 2]
        yield (
            f"{len(gaps)} blends are compared with {name}. The standard error of a difference is {errors[0]:.1f} to "
            f"{errors[-1]:.1f} points: with the middle one a true difference of {found:.1f} points is found four "
            "times out of five, before correction."
        )


def forgotten_table(evidence: Evidence) -> Iterator[str]:
    yield "| model | perplexity of general text | times the base's | opposites | against base |"
    yield "|---|---|---|---|---|"
    for row in evidence.rows:
        times, right = "", ""
        if row.kind != "base":
            value, low, high = evidence.times_base(row)
            times = f"{value:.2f} [{low:.2f}, {high:.2f}]"
            right = _gap(difference(row.opposites, evidence.base.opposites))
        cells = [row.name, f"{evidence.perplexity(row):.1f}", times, _interval(mean(row.opposites)), right]
        yield "| " + " | ".join(cells) + " |"


def curve_table(evidence: Evidence) -> Iterator[str]:
    """Give the macro score of each repair by its number of texts, and that of the other draws of texts."""
    repairs = evidence.repairs
    yield "| texts of each expert | " + " | ".join(repairs) + " |"
    yield "|---" * (len(repairs) + 1) + "|"
    for texts in TEXTS:
        rows = [by_texts.get(texts) for by_texts in repairs.values()]
        if any(rows):
            yield f"| {texts} | " + " | ".join(_interval(row.macro) if row else "" for row in rows) + " |"
    for row in evidence.draws:
        yield f"| {row.name.removeprefix('aligned by ')} | {_interval(row.macro)} |" + " |" * (len(repairs) - 1)


TABLES: Mapping[str, Callable[[Evidence], Iterator[str]]] = {
    "ladder": ladder_table,
    "power": power,
    "skills": skills_table,
    "forgotten": forgotten_table,
    "texts": curve_table,
}
"""What is written into the page, by the name in its marks."""


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
