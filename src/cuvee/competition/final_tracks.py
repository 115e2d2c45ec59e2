"""The finals of the tracks, by private scores and by raters. They are written as the final ranking is published."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.chosen import counted_submissions, gaps_of
from cuvee.competition.final_places import what_counts
from cuvee.competition.rated import ratings_of
from cuvee.competition.runs import HIDDEN
from cuvee.competition.tables import public_results, submissions, track_places
from cuvee.competition.track_order import Contender, Standing, order, order_reports
from cuvee.report import Figure
from cuvee.submission.competition import Competition, Track


def write_track_places(connection: Connection, competition: Competition) -> None:
    """Make the final of each track, in place of an earlier one. Who is hidden has no place.

    The private scores must be whole, which the final ranking has checked.
    """
    connection.execute(track_places.delete())
    weights = {task.name: task.weight for task in competition.tasks if task.private}
    for track in competition.tracks:
        rows = [_row(track, standing) for standing in _standings(connection, competition, track, weights)]
        if rows:
            connection.execute(track_places.insert(), rows)


def _standings(
    connection: Connection, competition: Competition, track: Track, weights: Mapping[str, float]
) -> tuple[Standing, ...]:
    if track.by == "report":
        return order_reports(ratings_of(connection, track.name))
    return order(track, _contenders(connection, competition, track), weights)


def _contenders(connection: Connection, competition: Competition, track: Track) -> Iterator[Contender]:
    everything = what_counts(connection)
    teams_of = {judged.submission_id: judged.team_id for judged in everything}
    chosen = counted_submissions(connection, competition, track.name, teams_of)
    gaps = gaps_of(connection, competition, HIDDEN)
    rows = connection.execute(
        sa.select(submissions.c.id, submissions.c.title, public_results)
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .where(submissions.c.id.in_(chosen))
    )
    public = {row.id: row for row in rows}
    for judged in everything:
        row = public.get(judged.submission_id)
        if row is None or judged.private is None:
            continue
        if track.by == "claim_gap" and judged.submission_id not in gaps:
            continue
        score = Figure(judged.private.value, judged.private.low, judged.private.high)
        yield Contender(
            judged.submission_id,
            judged.team_id,
            judged.team,
            judged.kind,
            row.title,
            score,
            judged.private.item_scores,
            row.value,
            row.tokens,
            row.cpu_seconds,
            row.tuning_tokens,
            gaps.get(judged.submission_id),
        )


def _row(track: Track, standing: Standing) -> dict[str, Any]:
    content = asdict(standing)
    low, high = content.pop("ranks") or (0, 0)
    for name in ("team", "kind", "title"):
        content.pop(name)
    return {**content, "track": track.name, "rank_low": low, "rank_high": high}
