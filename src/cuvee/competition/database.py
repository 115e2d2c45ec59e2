"""The database of a competition: one SQLite file (write-ahead log), or PostgreSQL by its URL.

Two ways in, so that no transaction is half a write: `read()` sees one snapshot, `write()` is one commit. A writing
transaction on SQLite takes the write lock when it begins (BEGIN IMMEDIATE), so it never fails half-way for a lock.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from cuvee.competition import audit
from cuvee.competition.locks import SCHEMA, hold, is_postgres
from cuvee.errors import PlatformError

if TYPE_CHECKING:
    from alembic.config import Config

SECONDS_TO_WAIT_FOR_A_LOCK = 30
CACHE_KILOBYTES = 4000
"""Pages of a SQLite file that each connection keeps. The system keeps them, too, so more of them is no faster."""

log = logging.getLogger("cuvee.competition")


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
        """Write in one transaction: all of it, or nothing if an error leaves the block.

        The lines of the audit log that it records are written at its end.
        """
        lines: list[dict[str, Any]] = []
        options = {"writes": True, audit.PENDING: lines}
        with self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection
            audit.append(connection, lines)

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open the database at an SQLAlchemy URL and bring its tables up to date.

    Raises PlatformError for one that cannot be opened or was made by a newer version. One whose audit log is not
    guarded any more is opened, with a warning in the log.
    """
    database = Database(_engine(url))
    try:
        _upgrade(database)
        with database.read() as connection:
            if audit.unprotected(connection):
                log.warning("%s", audit.look_at_chain(connection))
    except DBAPIError as error:
        raise PlatformError(
            f"the database cannot be opened: {error.orig}",
            where=sa.engine.make_url(url).render_as_string(hide_password=True),
        ) from error
    return database


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def revision_of(connection: Connection) -> str:
    """Return the revision of the tables; nothing where there are none."""
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision() or ""


def _engine(url: str) -> Engine:
    try:
        parsed = sa.engine.make_url(url)
    except sa.exc.ArgumentError as error:
        # it may hold a password, so it is not repeated
        raise PlatformError("this is no database URL", hint="e.g. postgresql://user@host/name") from error
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
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"cache_size=-{CACHE_KILOBYTES}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _upgrade(database: Database, revision: str = "head") -> None:
    from alembic import command
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.write() as connection:
        hold(connection, SCHEMA)
        _check_is_known(connection, config)
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _check_is_known(connection: Connection, config: "Config") -> None:
    """Refuse a database whose tables a version of ours has made that this one does not know."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    newer = sorted(set(MigrationContext.configure(connection).get_current_heads()) - known)
    if newer:
        raise PlatformError(
            f"the database was made by a newer version of cuvee: this one does not know its tables '{newer[0]}'",
            where=connection.engine.url.render_as_string(hide_password=True),
            hint="install the version that made it, or a newer one",
        )
