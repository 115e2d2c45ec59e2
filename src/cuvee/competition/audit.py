"""The append-only record of who did what. The database itself refuses to change or delete a line of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.tables import audit

if TYPE_CHECKING:
    from cuvee.competition.actors import Actor


def record(connection: Connection, by: "Actor", action: str, subject: str, now: datetime, **details: Any) -> None:
    """Add a line, in the transaction of what it tells."""
    connection.execute(
        audit.insert().values(
            at=now, role=by.role.value, actor=by.name, action=action, subject=subject, details=details
        )
    )


def lines(
    connection: Connection, *, after: int = 0, limit: int = 200, newest_first: bool = False
) -> Sequence[Row[Any]]:
    """Read lines with an id above `after`, oldest first unless asked otherwise."""
    order = audit.c.id.desc() if newest_first else audit.c.id
    return connection.execute(sa.select(audit).where(audit.c.id > after).order_by(order).limit(limit)).all()
