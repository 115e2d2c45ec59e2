"""The time of a competition is that of its database: all servers and workers that share one agree on it.

PostgreSQL has a clock of its own. SQLite reads that of the machine, which all who open the file are on.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.locks import is_postgres

Clock = Callable[[Connection], datetime]
"""Reads the time by a connection; tests have one that goes when told to."""


def database_time(connection: Connection) -> datetime:
    """Return the moment of asking, in UTC. That of the transaction's start may be older, as it may have waited."""
    if is_postgres(connection):
        moment: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)
    text = connection.execute(sa.select(sa.func.strftime("%Y-%m-%d %H:%M:%f", "now"))).scalar_one()
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
