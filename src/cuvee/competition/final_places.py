"""The rows of the final ranking: which final runs count, whether their scores are whole, and who has which place.

What counts is a final run that ended with a score, of a submission that is shown.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.chosen import RANKING, counted_submissions
from cuvee.competition.comparisons import Items, ranks, weighted_score
from cuvee.competition.private import private_scores
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import HIDDEN
from cuvee.competition.shown import is_shown
from cuvee.competition.states import State
from cuvee.competition.tables import final_scores, public_results, runs, submissions, teams
from cuvee.submission.competition import Competition

NEAR = 1e-6
MOST_NAMED = 10

Counts = tuple[tuple[str, int], ...]
"""How many items each task has, in the order of the tasks' names."""


@dataclass(frozen=True)
class Judged:
    """A submission whose final run counts. `private` is its row of private scores, None where there is none."""

    submission_id: int
    team_id: int
    team: str
    kind: str
    public_value: float | None
    private: sa.Row[Any] | None


def write_places(connection: Connection, competition: Competition) -> int:
    """Rank what counts, in place of an earlier ranking. Return how many places there are.

    What was judged for a track alone counts there only: nobody has a further try by it.

    Raises Refusal, with the teams' names, where scores are missing or cannot be right.
    """
    weights = {task.name: task.weight for task in competition.tasks if task.private}
    judged = what_counts(connection)
    in_ranking = judged
    if competition.tracks:
        teams_of = {entry.submission_id: entry.team_id for entry in judged}
        counted = counted_submissions(connection, competition, RANKING, teams_of)
        in_ranking = [entry for entry in judged if entry.submission_id in counted]
    problems = tuple(problems_of(judged, weights))
    if problems:
        named = "; ".join(problems[:MOST_NAMED])
        more = f"; and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        hint = "judge these again for the final ranking, or hide them"
        raise Refusal("wrong_state", f"the final ranking cannot be made: {named}{more}", hint=hint)
    places = _places(_best_of_each_team(in_ranking), weights)
    connection.execute(final_scores.delete())
    if places:
        connection.execute(final_scores.insert(), places)
    return len(places)


def what_counts(connection: Connection) -> list[Judged]:
    """Read the submissions that count, in the order in which they came."""
    private = {row.submission_id: row for row in private_scores(connection, HIDDEN)}
    rows = connection.execute(
        sa.select(submissions.c.id, teams.c.id.label("team_id"), teams.c.name, teams.c.kind, public_results.c.value)
        .join(teams, teams.c.id == submissions.c.team_id)
        .join(runs, sa.and_(runs.c.submission_id == submissions.c.id, runs.c.purpose == HIDDEN))
        .join(public_results, public_results.c.submission_id == submissions.c.id, isouter=True)
        .where(runs.c.state == State.SCORED.value, is_shown())
        .order_by(submissions.c.id)
    )
    return [Judged(row.id, row.team_id, row.name, row.kind, row.value, private.get(row.id)) for row in rows]


def left_out(connection: Connection) -> list[str]:
    """Name the shown teams that were judged for the final ranking and have nothing that counts, with the states."""
    rows = connection.execute(
        sa.select(teams.c.name, runs.c.state)
        .join(submissions, submissions.c.team_id == teams.c.id)
        .join(runs, sa.and_(runs.c.submission_id == submissions.c.id, runs.c.purpose == HIDDEN))
        .where(is_shown())
        .order_by(teams.c.id, submissions.c.id)
    )
    states: dict[str, list[str]] = {}
    for row in rows:
        states.setdefault(row.name, []).append(row.state)
    return [f"{team}: {', '.join(ends)}" for team, ends in states.items() if State.SCORED not in ends]


def problems_of(judged: Sequence[Judged], weights: Mapping[str, float]) -> Iterator[str]:
    """Say what is wrong with scores: missing, of other tasks or items than the rest, out of range."""
    counts = _usual_counts(judged, weights)
    for entry in judged:
        problem = _problem(entry, weights, counts)
        if problem:
            yield f"{entry.team} (submission {entry.submission_id}) {problem}"


def _usual_counts(judged: Sequence[Judged], weights: Mapping[str, float]) -> Counts:
    """Return the item counts that most entries of the right tasks have; the smaller ones of two that are as usual."""
    found: Counter[Counts] = Counter()
    for entry in judged:
        if entry.private is not None and entry.private.item_scores.keys() == weights.keys():
            found[_counts(entry.private.item_scores)] += 1
    return min(found, key=lambda counts: (-found[counts], counts), default=())


def _counts(items: Items) -> Counts:
    return tuple(sorted((task, len(scores)) for task, scores in items.items()))


def _problem(entry: Judged, weights: Mapping[str, float], usual: Counts) -> str:
    if entry.public_value is None:
        return "has no public score"
    if entry.private is None:
        return "has no private scores"
    items: Items = entry.private.item_scores
    if items.keys() != weights.keys() or entry.private.tasks.keys() != weights.keys():
        return f"has private scores of {_listed(items)}; the final ranking is made of {_listed(weights)}"
    if not all(items.values()) or _counts(items) != usual:
        return f"has {_shown_counts(_counts(items))} private items; the others have {_shown_counts(usual)}"
    if not all(0 <= score <= 1 for score in chain.from_iterable(items.values())):
        return "has private scores that are not between 0 and 1"
    if not abs(weighted_score(items, weights).value - entry.private.value) <= NEAR:
        return "has a private score that is not the average of its items"
    if not 0 <= entry.private.low <= entry.private.value <= entry.private.high <= 1:
        return "has a private interval that does not hold its score"
    return ""


def _listed(tasks: Mapping[str, object]) -> str:
    return ", ".join(sorted(tasks)) or "no task"


def _shown_counts(counts: Counts) -> str:
    return " and ".join(f"{count} {task}" for task, count in counts)


def _best_of_each_team(judged: Sequence[Judged]) -> list[Judged]:
    best: dict[int, Judged] = {}
    ordered = sorted(judged, key=_order)
    for entry in ordered:
        best.setdefault(entry.team_id, entry)
    return sorted(best.values(), key=_order)


def _order(entry: Judged) -> tuple[float, int]:
    assert entry.private is not None, "checked before"
    return -entry.private.value, entry.submission_id


def _places(best: Sequence[Judged], weights: Mapping[str, float]) -> list[dict[str, Any]]:
    """Rank participants with ranges; parents and baselines have a place in the order but the rank 0."""
    competing = [entry for entry in best if entry.kind == "participant"]
    items = [entry.private.item_scores for entry in competing if entry.private is not None]
    ranges = dict(zip((entry.submission_id for entry in competing), ranks(items, weights), strict=True))
    return [_row(place, entry, ranges.get(entry.submission_id, (0, 0))) for place, entry in enumerate(best, start=1)]


def _row(place: int, entry: Judged, rank_range: tuple[int, int]) -> dict[str, Any]:
    assert entry.private is not None, "checked before"
    return {
        "submission_id": entry.submission_id,
        "place": place,
        "rank_low": rank_range[0],
        "rank_high": rank_range[1],
        "value": entry.private.value,
        "low": entry.private.low,
        "high": entry.private.high,
        "public_value": entry.public_value,
        "tasks": entry.private.tasks,
        "controls": entry.private.controls,
    }
