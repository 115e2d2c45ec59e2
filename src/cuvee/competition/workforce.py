"""The workers that the server knows: which are in service, which are out, and why."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.expected import check_fit
from cuvee.competition.fitness import Fitness
from cuvee.competition.suspects import TakenBack, take_back
from cuvee.competition.tables import workers

FAILURES_AT_MOST = 3
"""So many failures of the platform in a row, and a worker gets nothing more until it says hello again."""


def enter(connection: Connection, worker: Actor, fitness: Fitness, competition_digest: str, now: datetime) -> str:
    """Take a worker that has passed its test into service, unless it scores otherwise than expected.

    Return why it is not taken, as if its test had failed; nothing if it is.
    """
    objection = check_fit(connection, worker, fitness.control, competition_digest, now)
    if objection:
        take_out(connection, worker, now, reason=objection)
        return objection
    _set(connection, worker, now, ready=True, reason="", hardware=fitness.hardware)
    return ""


def leave(connection: Connection, worker: Actor, now: datetime, *, reason: str) -> None:
    """Take a worker out of service. What it has judged counts."""
    _set(connection, worker, now, ready=False, reason=reason, hardware={})


def take_out(connection: Connection, worker: Actor, now: datetime, *, reason: str) -> TakenBack:
    """Take a worker that has failed its test out of service, and take back what it judged since it last passed."""
    leave(connection, worker, now, reason=reason)
    return take_back(connection, worker, reason, now)


def _set(
    connection: Connection, worker: Actor, now: datetime, *, ready: bool, reason: str, hardware: Mapping[str, str]
) -> None:
    """Note a worker as in service, after one more passed test, or as out. One that stays in keeps its failures."""
    values = {"ready": ready, "reason": reason, "seen_at": now, "hardware": dict(hardware)}
    was_in_service = sa.and_(workers.c.ready, sa.literal(ready))
    failures = sa.case((was_in_service, workers.c.failures), else_=0)
    tests = workers.c.tests_passed + int(ready)
    this_one = workers.update().where(workers.c.name == worker.name)
    known = connection.execute(this_one.values(**values, failures=failures, tests_passed=tests)).rowcount
    if not known:
        connection.execute(workers.insert().values(name=worker.name, tests_passed=int(ready), **values))
    audit.record(connection, worker, "worker in" if ready else "worker out", worker.name, now, reason=reason)


def is_ready(connection: Connection, worker: Actor, now: datetime) -> bool:
    """Tell whether a worker may have work. One that failed too often in a row is taken out here."""
    row = connection.execute(sa.select(workers).where(workers.c.name == worker.name)).one_or_none()
    if row is None or not row.ready:
        return False
    if row.failures < FAILURES_AT_MOST:
        connection.execute(workers.update().where(workers.c.name == worker.name).values(seen_at=now))
        return True
    reason = f"{row.failures} failures in a row"
    _set(connection, worker, now, ready=False, reason=reason, hardware=row.hardware)
    return False


def known_workers(connection: Connection) -> Sequence[Row[Any]]:
    """List all workers."""
    return connection.execute(sa.select(workers).order_by(workers.c.name)).all()
