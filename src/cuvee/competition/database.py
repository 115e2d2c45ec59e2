"""The database of a competition: one SQLite file (write-ahead log), or PostgreSQL by its URL.

Two ways in, so that no transaction is half a write: `read()` sees one snapshot, `write()` is one commit. A writing
transaction on SQLite takes the write lock when it begins (BEGIN IMMEDIATE), so it never fails half-way for a lock.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from cuvee.errors import PlatformError

SECONDS_TO_WAIT_FOR_A_LOCK = 30
ADVISORY_LOCK = 0x43757665  # one number that all our servers agree on


class Database:
    """An open database. Threads may share it; each transaction has a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read in one snapshot."""
        with self.engine.connect() as connection:
            if is_postgres(connection):
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Write in one transaction: all of it, or nothing if an error leaves the block."""
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open the database at an SQLAlchemy URL and bring its tables up to date."""
    database = Database(_engine(url))
    try:
        _upgrade(database)
    except DBAPIError as error:
        raise PlatformError(
            f"the database cannot be opened: {error.orig}",
            where=sa.engine.make_url(url).render_as_string(hide_password=True),
        ) from error
    return database


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def is_postgres(connection: Connection) -> bool:
    """Tell whether rows can be locked one by one."""
    return connection.dialect.name == "postgresql"


def _engine(url: str) -> Engine:
    try:
        parsed = sa.engine.make_url(url)
    except sa.exc.ArgumentError as error:
        raise PlatformError(f"{url!r} is no database URL", hint="e.g. postgresql+psycopg://user@host/name") from error
    if parsed.get_backend_name() == "postgresql":
        driver = parsed.set(drivername="postgresql+psycopg")
        return sa.create_engine(driver, pool_pre_ping=True, pool_size=8, max_overflow=24)
    engine = sa.create_engine(
        parsed, connect_args={"timeout": SECONDS_TO_WAIT_FOR_A_LOCK}, pool_size=8, max_overflow=24
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-32000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _upgrade(database: Database) -> None:
    import logging

    from alembic import command
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.write() as connection:
        if is_postgres(connection):
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
