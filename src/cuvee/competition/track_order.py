"""The order of a track: who stands where among entries within a cost, by score for each token, by claims, by raters.

The same functions order a track's board, by public scores, and its final, by private scores. Ranks are ranges, as on
the board: by score they come from paired differences on the same items, by claims from equal gaps, and by raters from
what all of them agree on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from cuvee.competition.comparisons import Items, ranks
from cuvee.report import Figure
from cuvee.submission.competition import Cost as CostUnit
from cuvee.submission.competition import Track, TrackKind

PARTICIPANT = "participant"
TOKENS = 1000
"""The score for each token is told for so many, as it is a small number."""

UNITS: Mapping[TrackKind, str] = {
    "score": "score",
    "score_per_token": f"score per {TOKENS} tokens",
    "claim_gap": "how far a claimed public score is from the judge's, on the task where they differ most",
    "report": "mean of the raters' scores",
}

Ranks = tuple[int, int]


@dataclass(frozen=True)
class Contender:
    """A submission that may stand in a track. `score` and `items` are public on the board and private in the final.

    `board_score`, `tokens`, `cpu_seconds` and `tuning_tokens` are always those of the public run. `gap` is None without
    a claim.
    """

    submission_id: int
    team_id: int
    team: str
    kind: str
    title: str
    score: Figure
    items: Items
    board_score: float
    tokens: int
    cpu_seconds: float | None
    tuning_tokens: int
    gap: float | None

    @property
    def cost(self) -> "Cost":
        """What it cost, beside its score of now."""
        return Cost(self.score.value, self.tokens, self.cpu_seconds, self.tuning_tokens, self.gap)


@dataclass(frozen=True)
class Standing:
    """A row of a track. `low` and `high` are a 95 % interval, or of a report the least and the most that raters gave.

    `ranks` are None for parents and baselines. A report has no submission, score, tokens or seconds; only it has
    `raters`.
    """

    place: int
    ranks: Ranks | None
    team_id: int
    team: str
    kind: str
    value: float
    low: float | None = None
    high: float | None = None
    submission_id: int | None = None
    title: str = ""
    score: float | None = None
    tokens: int | None = None
    cpu_seconds: float | None = None
    tuning_tokens: int | None = None
    raters: int = 0


@dataclass(frozen=True)
class Rating:
    """What a rater gives a team's report, from 0 to the track's scale."""

    team_id: int
    team: str
    kind: str
    rater: str
    value: float


@dataclass(frozen=True)
class Cost:
    """What decides whether a submission may stand in a track, and which of a team's is its best there."""

    score: float
    tokens: int
    cpu_seconds: float | None
    tuning_tokens: int
    gap: float | None

    def spent(self, unit: CostUnit) -> float | None:
        """Return the cost that a limit counts; None where nobody has measured it."""
        match unit:
            case "tokens":
                return self.tokens
            case "cpu_seconds":
                return self.cpu_seconds
            case "tuning_tokens":
                return self.tuning_tokens


def may_stand(track: Track, cost: Cost) -> bool:
    """Say whether a submission has a place in a track. One whose cost nobody has measured has none."""
    if track.by == "report" or cost.score < track.at_least:
        return False
    if track.by == "claim_gap":
        return cost.gap is not None
    if track.by == "score_per_token":
        return cost.tokens > 0
    if track.within is None:
        return True
    spent = cost.spent(track.within.cost)
    return spent is not None and spent <= track.within.most


def order_key(track: Track, cost: Cost) -> tuple[float, ...]:
    """Return what sorts submissions of a track, best first, by their scores and costs."""
    if track.by == "score_per_token":
        return (-cost.score / cost.tokens,)
    if track.by == "claim_gap":
        return (cost.gap or 0.0, -cost.score)
    return (-cost.score,)


def best_of_each_team(track: Track, contenders: Iterable[Contender]) -> list[Contender]:
    """Return each team's best contender, best first."""

    def key(one: Contender) -> tuple[float, ...]:
        return (*order_key(track, one.cost), one.submission_id)

    best: dict[int, Contender] = {}
    ordered = sorted(contenders, key=key)
    for one in ordered:
        best.setdefault(one.team_id, one)
    return list(best.values())


def order(track: Track, contenders: Iterable[Contender], weights: Mapping[str, float]) -> tuple[Standing, ...]:
    """Order the contenders of a track that is not by reports, each team by its best contender."""
    best = best_of_each_team(track, contenders)
    own = [one for one in best if one.kind == PARTICIPANT]
    by_submission = dict(zip((one.submission_id for one in own), _ranks(track, own, weights), strict=True))
    rows = []
    for place, one in enumerate(best, start=1):
        value, low, high = _figures(track, one)
        rows.append(
            Standing(
                place,
                by_submission.get(one.submission_id),
                one.team_id,
                one.team,
                one.kind,
                value,
                low,
                high,
                one.submission_id,
                one.title,
                one.score.value,
                one.tokens,
                one.cpu_seconds,
                one.tuning_tokens,
            )
        )
    return tuple(rows)


def _figures(track: Track, one: Contender) -> tuple[float, float | None, float | None]:
    if track.by == "claim_gap":
        return one.gap or 0.0, None, None
    each = TOKENS / one.tokens if track.by == "score_per_token" else 1.0
    return one.score.value * each, one.score.low * each, one.score.high * each


def _ranks(track: Track, own: Sequence[Contender], weights: Mapping[str, float]) -> Sequence[Ranks]:
    if not own:
        return ()
    if track.by == "claim_gap":
        return ranges_of_gaps([contender.gap or 0.0 for contender in own])
    if track.by == "score":
        return ranks([contender.items for contender in own], weights)
    least = min(contender.tokens for contender in own)  # so that scaled scores stay within 0..1
    return ranks([_scaled(contender, least, weights) for contender in own], weights)


def _scaled(contender: Contender, least: int, tasks: Iterable[str]) -> dict[str, list[float]]:
    """Return a contender's scores of items for each token, in units of the `least` tokens."""
    scaled = {}
    for task in tasks:
        scaled[task] = [score * least / contender.tokens for score in contender.items[task]]
    return scaled


def ranges_of_gaps(gaps: Sequence[float]) -> tuple[Ranks, ...]:
    """Return the best and the worst rank of each gap, the smallest first; equal ones share theirs."""
    found = []
    for gap in gaps:
        smaller = sum(other < gap for other in gaps)
        larger = sum(other > gap for other in gaps)
        found.append((1 + smaller, len(gaps) - larger))
    return tuple(found)


def order_reports(ratings: Iterable[Rating]) -> tuple[Standing, ...]:
    """Order teams by the mean of what raters give their reports.

    A report counts as better than another only where at least two raters have read both, and all of these say so.
    """
    by_team: dict[int, list[Rating]] = {}
    for rating in ratings:
        by_team.setdefault(rating.team_id, []).append(rating)
    teams = sorted(by_team.values(), key=lambda given: (-mean(one.value for one in given), given[0].team_id))
    given_by = list(map(_by_rater, teams))
    rows = []
    for place, (given, own) in enumerate(zip(teams, given_by, strict=True), start=1):
        above = sum(agree(other, own) for other in given_by)
        below = sum(agree(own, other) for other in given_by)
        values = [one.value for one in given]
        rows.append(
            Standing(
                place,
                (1 + above, len(teams) - below),
                given[0].team_id,
                given[0].team,
                given[0].kind,
                mean(values),
                min(values),
                max(values),
                raters=len(values),
            )
        )
    return tuple(rows)


def _by_rater(ratings: Iterable[Rating]) -> dict[str, float]:
    return {rating.rater: rating.value for rating in ratings}


def agree(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Say whether all raters of both reports, at least two, give `one` more than `other`."""
    both = one.keys() & other.keys()
    return len(both) > 1 and all(one[rater] > other[rater] for rater in both)
