"""The append-only record of who did what, as a chain: each line has a digest of itself and of the line before.

The database refuses to change or delete a line of it. Who owns the database can take that refusal away, but cannot
change a line without changing every digest after it, and the last one, the head, stands on the guide's page and in the
API, for everybody to keep.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.actors import Actor
from cuvee.competition.locks import AUDIT, hold, is_postgres
from cuvee.competition.tables import audit

PENDING = "audit_lines"
"""The option of a writing connection with the lines of its transaction, which `append` writes at its end."""

START = "0" * 64
"""What stands for the digest of the line before the first."""

SQLITE_TRIGGERS = frozenset({"audit_no_update", "audit_no_delete", "moves_no_update", "moves_no_delete"})
POSTGRES_TRIGGERS = frozenset({"audit_append_only", "moves_append_only"})


@dataclass(frozen=True)
class Head:
    """The newest line: its number and its digest, which stands for all lines up to it."""

    line: int
    digest: str


@dataclass(frozen=True)
class Chain:
    """What a look at the whole record found. `broken` and `unprotected` say what is wrong, if anything."""

    lines: int
    head: Head
    broken: str
    unprotected: str

    @property
    def is_whole(self) -> bool:
        """Tell whether every line follows from the one before and the database guards them."""
        return not self.broken and not self.unprotected

    def __str__(self) -> str:
        if self.is_whole:
            return f"audit log: {self.lines} lines, a whole chain; its head is {self.head.digest}"
        return "audit log: " + "; ".join(problem for problem in (self.broken, self.unprotected) if problem)


def record(connection: Connection, by: Actor, action: str, subject: str, now: datetime, **details: Any) -> None:
    """Add a line, in the transaction of what it tells."""
    pending: list[dict[str, Any]] = connection.get_execution_options()[PENDING]
    pending.append(
        {"at": now, "role": by.role.value, "actor": by.name, "action": action, "subject": subject, "details": details}
    )


def append(connection: Connection, pending: Sequence[Mapping[str, Any]]) -> None:
    """Write the lines of a transaction as its last act, so that nobody who holds the end of the chain waits."""
    if not pending:
        return
    hold(connection, AUDIT)
    before = head(connection).digest
    rows = []
    for line in pending:
        before = line_digest(before, line)
        rows.append({**line, "digest": before})
    connection.execute(audit.insert(), rows)


def line_digest(before: str, line: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a line and the digest of the line before it, as JSON with sorted keys."""
    names = ("role", "actor", "action", "subject", "details")
    content = {name: line[name] for name in names}
    content |= {"before": before, "at": line["at"].astimezone(UTC).isoformat()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def lines(
    connection: Connection, *, after: int = 0, limit: int = 200, newest_first: bool = False
) -> Sequence[Row[Any]]:
    """Read lines with an id above `after`, oldest first unless asked otherwise."""
    order = audit.c.id.desc() if newest_first else audit.c.id
    return connection.execute(sa.select(audit).where(audit.c.id > after).order_by(order).limit(limit)).all()


def head(connection: Connection) -> Head:
    """Return the newest line's number and digest."""
    row = connection.execute(sa.select(audit.c.id, audit.c.digest).order_by(audit.c.id.desc()).limit(1)).one_or_none()
    return Head(row.id, row.digest) if row else Head(0, START)


def look_at_chain(connection: Connection) -> Chain:
    """Read the whole record and look whether each line follows from the one before."""
    before, broken, count = START, "", 0
    found = connection.execute(sa.select(audit).order_by(audit.c.id).execution_options(yield_per=1000))
    for row in found:
        count += 1
        if not broken and line_digest(before, row._asdict()) != row.digest:
            broken = f"the chain is broken: line {row.id} was changed, or a line before it was changed or taken out"
        before = row.digest
    return Chain(count, head(connection), broken, unprotected(connection))


def unprotected(connection: Connection) -> str:
    """Say which of the triggers are missing that guard the record; nothing where all are there."""
    if is_postgres(connection):
        wanted, query = POSTGRES_TRIGGERS, "SELECT tgname FROM pg_trigger WHERE tgenabled <> 'D'"
    else:
        wanted, query = SQLITE_TRIGGERS, "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    missing = sorted(wanted - set(connection.execute(sa.text(query)).scalars()))
    if not missing:
        return ""
    return f"the database does not guard it: of the triggers, {', '.join(missing)} are missing"
