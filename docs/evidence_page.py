"""The tables of the page of evidence, from each model's score on each private item.

`explanation/evidence.json` holds the scores, as examples/smollm2/evidence.py wrote them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from cuvee.evaluation.statistics import Estimate, Gap, average, average_difference, difference, mean
from cuvee.search.bench import holm

DOCS = Path(__file__).parent
SCORES = DOCS / "explanation" / "evidence.json"

REPAIRS = {"align": "aligned by {} texts of each", "regmean_pp": "regmean_pp by {} texts of each"}
TEXTS = (8, 32, 128)
LEVEL, FOUND = 0.05, 0.8
"""A difference is told from noise at this level; a true one should be found in this share of repetitions."""

TINY = 0.001
"""Lower p-values are not shown."""

PLAIN = "task_arithmetic"
"""The row that blends are compared with, beside the best parent."""

SEARCHED = "search over weights"
CONTRASTS = (
    (REPAIRS["align"].format(8), "multitask"),
    (REPAIRS["align"].format(8), REPAIRS["regmean_pp"].format(8)),
    (REPAIRS["align"].format(32), REPAIRS["align"].format(8)),
    (REPAIRS["align"].format(128), REPAIRS["align"].format(8)),
    (REPAIRS["regmean_pp"].format(32), REPAIRS["regmean_pp"].format(8)),
    (SEARCHED, "ties"),
    (SEARCHED, "ties, tuned"),
    ("ties, tuned", "ties"),
)
"""Pairs of rows that the page's text compares, too."""

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
class Comparison:
    """A model minus another over the same items. `p` is corrected for all comparisons of the ladder."""

    gap: Gap
    p: float

    @property
    def is_noise(self) -> bool:
        return self.p >= LEVEL


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

    @cached_property
    def comparisons(self) -> Mapping[str, Comparison]:
        """All comparisons of the ladder: of each blend with the best parent and with PLAIN, and of CONTRASTS.

        The p-values are two-sided, of the difference over its standard error by the normal distribution, and corrected
        by Holm for as many as these are.
        """
        blends = [row.name for row in self.of_kind("blend")]
        pairs = [(name, other.name) for other in (self.best_parent, self.plain) for name in blends]
        gaps = {}
        for name, other in (*pairs, *CONTRASTS):
            row, partner = self.row(name), self.row(other)
            if row is not None and partner is not None and row is not partner:
                gaps[against(name, other)] = gap(row, partner)
        p_values = holm({names: two_sided(each) for names, each in gaps.items()})
        return {names: Comparison(each, p_values[names]) for names, each in gaps.items()}

    def comparison(self, row: Row, other: Row) -> Comparison | None:
        return self.comparisons.get(against(row.name, other.name))

    @property
    def strictest(self) -> float:
        """The level that Bonferroni's correction leaves to each comparison."""
        return LEVEL / len(self.comparisons)

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


def against(name: str, other: str) -> str:
    return f"{name} against {other}"


def two_sided(gap: Gap) -> float:
    """Return how often chance alone brings a difference as large, by the normal distribution."""
    return 2 * NormalDist().cdf(-abs(gap.value) / gap.standard_error)


def errors_at(level: float) -> float:
    """Return how many standard errors an interval at a level reaches to either side."""
    return NormalDist().inv_cdf(1 - level / 2)


def wide_interval(gap: Gap, level: float) -> tuple[float, float]:
    """Return the interval of a difference at a level, by the normal distribution."""
    error = errors_at(level) * gap.standard_error
    return gap.value - error, gap.value + error


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


def experts_table(evidence: Evidence) -> Iterator[str]:
    """Give what each expert adds to the base on its own skill: the check that it is worth merging."""
    yield "| skill | base | expert | expert minus base |"
    yield "|---|---|---|---|"
    for skill, scores in evidence.base.scores.items():
        expert = evidence.row(skill)
        assert expert is not None, f"the evidence lacks the expert of {skill}"
        own = expert.scores[skill]
        gain = _gap(difference(own, scores))
        yield f"| {skill} | {_interval(mean(scores))} | {_interval(mean(own))} | {gain} |"


def ladder_table(evidence: Evidence) -> Iterator[str]:
    parent, plain = evidence.best_parent, evidence.plain
    yield f"| model | settings | macro | against {parent.name} | against {PLAIN} | gain kept |"
    yield "|---|---|---|---|---|---|"
    for row in evidence.rows:
        cells = [row.name, row.how, _interval(row.macro)]
        cells += [_compared(evidence.comparison(row, other)) for other in (parent, plain)]
        kept = "" if row.kind == "base" else _share(*evidence.share_kept(row))
        yield "| " + " | ".join([*cells, kept]) + " |"


def contrasts_table(evidence: Evidence) -> Iterator[str]:
    yield "| model | against | difference |"
    yield "|---|---|---|"
    for name, other in CONTRASTS:
        comparison = evidence.comparisons.get(against(name, other))
        if comparison is not None:
            yield f"| {name} | {other} | {_compared(comparison)} |"


def skills_table(evidence: Evidence) -> Iterator[str]:
    skills = list(evidence.base.scores)
    yield "| model | " + " | ".join(skills) + " |"
    yield "|---" * (len(skills) + 1) + "|"
    for row in evidence.rows:
        yield f"| {row.name} | " + " | ".join(_interval(mean(row.scores[skill])) for skill in skills) + " |"


def power(evidence: Evidence) -> Iterator[str]:
    """Say how many comparisons there are, which difference they would find, and what holds at the strictest level."""
    blends, number = evidence.of_kind("blend"), len(evidence.comparisons)
    yield (
        f"{number} comparisons are corrected together: {len(blends)} blends with {evidence.best_parent.name}, "
        f"{len(blends) - 1} with {PLAIN}, and {number - 2 * len(blends) + 1} of other pairs (below)."
    )
    for other in (evidence.best_parent, evidence.plain):
        compared = [evidence.comparison(row, other) for row in blends]
        errors = sorted(100 * each.gap.standard_error for each in compared if each is not None)
        middle, often = errors[len(errors) // 2], NormalDist().inv_cdf(FOUND)
        alone, strict = (middle * (errors_at(level) + often) for level in (LEVEL, evidence.strictest))
        yield (
            f"The standard error of a difference to {other.name} is {errors[0]:.1f} to {errors[-1]:.1f} points: with "
            f"the middle one a true difference of {alone:.1f} points is found four times out of five by a comparison "
            f"alone, and one of {strict:.1f} points by one of {number}."
        )
    yield _surely_better(evidence)


def _surely_better(evidence: Evidence) -> str:
    """Say which blends beat the best parent by an interval for all comparisons at once."""
    blends, parent, beyond = evidence.of_kind("blend"), evidence.best_parent, []
    for row in blends:
        comparison = evidence.comparison(row, parent)
        assert comparison is not None, "every blend is compared with the best parent"
        low, high = wide_interval(comparison.gap, evidence.strictest)
        if low > 0:
            beyond.append(f"{row.name}, by {100 * low:.1f} to {100 * high:.1f}")
    return (
        f"By intervals that all hold at once ({1 - evidence.strictest:.2%} each, Bonferroni) {len(beyond)} of "
        f"{len(blends)} blends are better than {parent.name}: the first, {beyond[0]} points, the last, {beyond[-1]}."
    )


def forgotten_table(evidence: Evidence) -> Iterator[str]:
    yield "| model | perplexity of general text | times the base's | opposites | against base |"
    yield "|---|---|---|---|---|"
    for row in evidence.rows:
        times, right = "", ""
        if row.kind != "base":
            value, low, high = evidence.times_base(row)
            times = f"{value:.2f} [{low:.2f}, {high:.2f}]"
            opposites = difference(row.opposites, evidence.base.opposites)
            right = _gap(opposites) + (" (noise)" if opposites.verdict == "tie" else "")
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
    "experts": experts_table,
    "ladder": ladder_table,
    "power": power,
    "contrasts": contrasts_table,
    "skills": skills_table,
    "forgotten": forgotten_table,
    "texts": curve_table,
}
"""What is written into the page, by the name in its marks."""


def _interval(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _gap(gap: Gap) -> str:
    return f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"


def _compared(comparison: Comparison | None) -> str:
    """Return a difference, and its p-value unless it is tiny; nothing where nothing is compared."""
    if comparison is None:
        return ""
    if comparison.p < TINY:
        return _gap(comparison.gap)
    noise = ", noise" if comparison.is_noise else ""
    return f"{_gap(comparison.gap)} (p {comparison.p:.3f}{noise})"


def _share(value: float, low: float, high: float) -> str:
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"
