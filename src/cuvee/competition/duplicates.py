"""Submissions of different teams that are the same: equal archives, equal weights or equal answers."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.tables import public_results, submissions

KINDS: dict[str, Any] = {
    "archive": submissions.c.archive_digest,
    "weights": public_results.c.weights_digest,
    "predictions": public_results.c.predictions_digest,
}


@dataclass(frozen=True)
class Duplicate:
    """What is the same, and in which submissions; the first one came first."""

    what: str
    digest: str
    submissions: list[int]
    teams: list[int]


def duplicates(connection: Connection) -> list[Duplicate]:
    """Find what two teams or more have sent alike."""
    found: list[Duplicate] = []
    for kind, column in KINDS.items():
        found += _shared(connection, kind, column)
    return found


def _shared(connection: Connection, what: str, column: sa.ColumnElement[str]) -> list[Duplicate]:
    rows = connection.execute(
        sa.select(column.label("digest"), submissions.c.id, submissions.c.team_id)
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .where(column != "")
        .order_by(submissions.c.id)
    ).all()
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row.digest, []).append(row)
    shared = []
    for digest, group in groups.items():
        teams_of_group = sorted({row.team_id for row in group})
        if len(teams_of_group) > 1:
            shared.append(Duplicate(what, digest, [row.id for row in group], teams_of_group))
    return shared
