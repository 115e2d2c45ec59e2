"""One number that grows whenever what the board shows may have changed: what is computed from it is kept by it."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.tables import counters

BOARD = "board"


def changed(connection: Connection) -> None:
    """Say, in the transaction of the change, that the board may look different now."""
    connection.execute(counters.update().where(counters.c.name == BOARD).values(value=counters.c.value + 1))


def revision(connection: Connection) -> int:
    """Return the number of the board's present contents."""
    return int(connection.execute(sa.select(counters.c.value).where(counters.c.name == BOARD)).scalar_one())
