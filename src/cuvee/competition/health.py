"""How a competition is: workers, queue, backups, database. /api/health says it in sentences, /metrics in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.facts import LAST_BACKUP, fact
from cuvee.competition.limits import Limits
from cuvee.competition.locks import is_postgres
from cuvee.competition.states import State
from cuvee.competition.tables import runs
from cuvee.competition.workforce import known_workers


@dataclass(frozen=True)
class Health:
    """What was found at one moment. `queued_since` is when the run was queued that waits for the longest time."""

    now: datetime
    workers: Sequence[Row[Any]]
    queued_since: datetime | None
    last_backup: datetime | None

    @property
    def longest_wait(self) -> timedelta:
        """Return for how long the oldest run in the queue has waited; zero where none waits."""
        return timedelta(0) if self.queued_since is None else max(self.now - self.queued_since, timedelta(0))

    @property
    def last_seen(self) -> datetime | None:
        """Return when any worker was seen last."""
        return max((worker.seen_at for worker in self.workers), default=None)

    def alive(self, limits: Limits) -> int:
        """Count the workers that are in service and have been seen a short while ago."""
        return sum(self.state_of(worker, limits) == "alive" for worker in self.workers)

    def state_of(self, worker: Row[Any], limits: Limits) -> str:
        """Return "alive", "silent" (in service, and not seen for a while) or "out" (it took itself out of service)."""
        if not worker.ready:
            return "out"
        return "alive" if self.now - worker.seen_at <= limits.worker_silence else "silent"

    def problems(self, limits: Limits) -> list[str]:
        """Say in sentences that name nobody what is not well; nothing where all is."""
        sentences = []
        if self.longest_wait > limits.worker_silence and not self.alive(limits):
            sentences.append(f"submissions wait, and no worker was seen for {_spelled(limits.worker_silence)}")
        if self.longest_wait > limits.longest_wait:
            wait = _spelled(limits.longest_wait)
            sentences.append(f"the oldest submission in the queue has waited for more than {wait}")
        if limits.backup_every is None:
            return sentences
        if self.last_backup is None:
            sentences.append("no backup was made yet")
        elif self.now - self.last_backup > limits.backup_every:
            sentences.append(f"the last backup was made more than {_spelled(limits.backup_every)} ago")
        return sentences


def look(connection: Connection, now: datetime) -> Health:
    """Look at a competition."""
    oldest = sa.select(sa.func.min(runs.c.queued_at)).where(runs.c.state == State.QUEUED.value)
    backup = fact(connection, LAST_BACKUP)
    return Health(
        now,
        known_workers(connection),
        connection.execute(oldest).scalar(),
        None if backup is None else datetime.fromisoformat(backup),
    )


def count_runs(connection: Connection) -> dict[tuple[str, str], int]:
    """Count runs by purpose and state."""
    counts = sa.select(runs.c.purpose, runs.c.state, sa.func.count()).group_by(runs.c.purpose, runs.c.state)
    return {(purpose, state): count for purpose, state, count in connection.execute(counts)}


def database_bytes(connection: Connection) -> int:
    """Return how large the database is on its disk."""
    if is_postgres(connection):
        size = sa.text("SELECT pg_database_size(current_database())")
    else:
        size = sa.text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
    return int(connection.execute(size).scalar_one())


def _spelled(period: timedelta) -> str:
    """Write a period: "5 minutes", "24 hours"."""
    minutes = period.total_seconds() / 60
    if minutes < 60:
        return f"{minutes:g} minutes"
    return f"{minutes / 60:g} hours"
