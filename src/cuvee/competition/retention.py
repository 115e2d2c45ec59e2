"""What is not kept for ever: logs of jobs, sessions, tokens that ended, workers that are gone, archives of cancelled
submissions that earlier versions left, reports that nobody publishes. Verdicts, scores, moves and the audit log stay.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition import audit
from cuvee.competition.actors import QUEUE
from cuvee.competition.reports import let_go
from cuvee.competition.runs import PUBLIC
from cuvee.competition.states import State
from cuvee.competition.submissions import DROPPED, drop
from cuvee.competition.tables import archives, logs, runs, submissions, tokens, workers
from cuvee.competition.tokens import forget_sessions
from cuvee.submission.competition import Competition

LOG_IS_GONE = "[this log is not kept any more]"
BETWEEN_LOOKS = timedelta(hours=1)


class Duty:
    """When a server looks for what is old: at its start, and every hour."""

    def __init__(self) -> None:
        self._next: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Tell whether it is time; if so, the next time is an hour later."""
        if self._next is not None and now < self._next:
            return False
        self._next = now + BETWEEN_LOOKS
        return True


def remove_old(connection: Connection, competition: Competition, keep: timedelta, now: datetime) -> Mapping[str, int]:
    """Remove what has been over for longer than `keep`, and sessions that are over.

    Returns how many rows were removed or emptied, by table, but for sessions; a line of the audit log says the same.
    """
    before = now - keep
    forget_sessions(connection, now)
    counts = {
        "logs": _empty_logs(connection, before),
        "tokens": _remove_tokens(connection, before),
        "workers": _forget_workers(connection, before),
        "archives": _drop_archives(connection, before),
        "reports": let_go(connection, competition, before),
    }
    removed = {table: count for table, count in counts.items() if count}
    if removed:
        audit.record(connection, QUEUE, "old rows removed", "competition", now, **removed)
    return removed


def _empty_logs(connection: Connection, before: datetime) -> int:
    """Leave a sentence where a log was, so that nobody takes it for a job that wrote nothing."""
    over = sa.select(runs.c.id).where(runs.c.finished_at < before)
    old = logs.update().where(logs.c.run_id.in_(over), logs.c.text != LOG_IS_GONE)
    return connection.execute(old.values(text=LOG_IS_GONE)).rowcount


def _remove_tokens(connection: Connection, before: datetime) -> int:
    """Remove tokens that were revoked; their sessions ended with them."""
    return connection.execute(tokens.delete().where(tokens.c.revoked_at < before)).rowcount


def _forget_workers(connection: Connection, before: datetime) -> int:
    holders = sa.select(runs.c.worker).where(runs.c.state == State.RUNNING.value)
    gone = workers.delete().where(workers.c.seen_at < before, workers.c.name.not_in(holders))
    return connection.execute(gone).rowcount


def _drop_archives(connection: Connection, before: datetime) -> int:
    """Drop what submissions hold that were cancelled without a result. Return how many archives are empty now."""
    left = (
        sa.select(submissions.c.id)
        .join(runs, runs.c.submission_id == submissions.c.id)
        .join(archives, archives.c.digest == submissions.c.archive_digest)
        .where(
            runs.c.purpose == PUBLIC,
            runs.c.state == State.CANCELLED.value,
            runs.c.finished_at < before,
            archives.c.content != DROPPED,
        )
    )
    numbers = connection.execute(left).scalars().all()
    return sum(drop(connection, number) for number in numbers)
