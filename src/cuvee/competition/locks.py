"""Locks that a writing transaction holds until it ends. On SQLite such a transaction is the only one anyway."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# numbers that all our servers agree on
SCHEMA, FACTS, AUDIT = 0x43757665, 0x43757666, 0x43757667


def is_postgres(connection: Connection) -> bool:
    """Tell whether writing transactions may run beside one another, and rows can be locked one by one."""
    return connection.dialect.name == "postgresql"


def hold(connection: Connection, lock: int) -> None:
    """Hold a lock alone: wait until nobody else does."""
    if is_postgres(connection):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))


def hold_shared(connection: Connection, lock: int) -> None:
    """Hold a lock beside others who share it: wait only while somebody holds it alone."""
    if is_postgres(connection):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(lock)))
