"""Scores on the private parts. Only the final ranking and the organiser's own export may import this (a contract that
the tests check): what participants see is built by code that cannot reach these rows.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.tables import private_results
from cuvee.submission.verdict import PrivateScores


def keep_private(
    connection: Connection, submission_id: int, purpose: str, scores: PrivateScores, now: datetime
) -> None:
    """Keep what a run found on the private parts, in place of what an earlier one did."""
    drop_private(connection, submission_id, purpose)
    item_scores = {task: list(values) for task, values in scores.items.items()}
    connection.execute(
        private_results.insert().values(
            submission_id=submission_id,
            purpose=purpose,
            value=scores.macro.value,
            low=scores.macro.low,
            high=scores.macro.high,
            tasks={score.task: score.figures() | {"metric": score.metric} for score in scores.tasks},
            item_scores=item_scores,
            controls=_controls(scores),
            received_at=now,
        )
    )


def _controls(scores: PrivateScores) -> dict[str, Any] | None:
    """Return what controls and second answers say, as plain data; None where nothing was asked."""
    if not scores.controls and not scores.agreement:
        return None
    return {"controls": [asdict(control) for control in scores.controls], "agreement": dict(scores.agreement)}


def drop_private(connection: Connection, submission_id: int, purpose: str) -> None:
    """Forget what an earlier run found: the newest one says something else."""
    connection.execute(
        private_results.delete().where(
            private_results.c.submission_id == submission_id, private_results.c.purpose == purpose
        )
    )


def private_counts(connection: Connection, submission_id: int, purpose: str) -> dict[str, int]:
    """Return how many private items each task of a run has; nothing where it has no private scores."""
    return {task: len(scores) for task, scores in private_items(connection, submission_id, purpose).items()}


def private_items(connection: Connection, submission_id: int, purpose: str) -> dict[str, list[float]]:
    """Return the scores of a run's private items by task; nothing where it has no private scores."""
    items = connection.execute(
        sa.select(private_results.c.item_scores).where(
            private_results.c.submission_id == submission_id, private_results.c.purpose == purpose
        )
    ).scalar()
    return dict(items or {})


def private_scores(connection: Connection, purpose: str) -> Sequence[Row[Any]]:
    """Read what all runs of a purpose found."""
    return connection.execute(
        sa.select(private_results).where(private_results.c.purpose == purpose).order_by(private_results.c.submission_id)
    ).all()
