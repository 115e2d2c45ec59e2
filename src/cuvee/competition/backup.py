"""A competition kept in one file: all rows of its database at one moment, and the organiser's small files.

backup.json            format, tables' revision, the competition's digest, when it was made, head of the audit log
tables/NAME.jsonl      the rows of a table, one a line
folder/...             competition.yaml, tasks and the private folder; models and databases are left out

The rows are of one snapshot, so a server may go on while they are read. A backup of one kind of database restores into
the other. It holds private items and scores, and digests of tokens: keep it as you keep the private folder.
"""

import base64
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.database import Database, open_database, revision_of
from cuvee.competition.dump import plain_row
from cuvee.competition.facts import LAST_BACKUP, set_fact, unset_fact
from cuvee.competition.locks import is_postgres
from cuvee.competition.tables import Moment, counters, metadata
from cuvee.errors import CheckpointError, RecipeError
from cuvee.submission.competition import FILE, Competition
from cuvee.submission.competition_yaml import load_competition

FORMAT = 1
RECORD = "backup.json"
TABLES = "tables/"
FILES = "folder/"
LEFT_OUT = (".db", ".db-wal", ".db-shm", ".db-journal")
ROWS_AT_ONCE = 16
"""An archive, which is one value of a row, may have megabytes."""


@dataclass(frozen=True)
class Backup:
    """What a backup says of itself. `rows` are counts by table."""

    revision: str
    competition: str
    made_at: str
    audit_head: str
    rows: Mapping[str, int]


def write_backup(connection: Connection, competition: Competition, out: Path, now: datetime) -> Backup:
    """Write all that the snapshot of a reading connection shows, and the files of the competition's folder.

    `out` appears complete or not at all, readable by its owner alone. Raises RecipeError if it is there already.
    """
    if out.exists():
        raise RecipeError("the file exists already", where=str(out), hint="name another")
    partial = out.with_name(f".{out.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
            backup = _write(connection, competition, archive, now)
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
    return backup


def remember_backup(database: Database, by: Actor, now: datetime) -> None:
    """Let the server know that a backup was made: it says so where backups are expected."""
    with database.write() as connection:
        unset_fact(connection, LAST_BACKUP)
        set_fact(connection, LAST_BACKUP, now.astimezone(UTC).isoformat())
        audit.record(connection, by, "backup made", "competition", now)


def _write(connection: Connection, competition: Competition, archive: tarfile.TarFile, now: datetime) -> Backup:
    rows: dict[str, int] = {}
    for table in metadata.sorted_tables:
        with tempfile.TemporaryFile() as lines:
            rows[table.name] = _write_rows(connection, table, lines)
            _add(archive, f"{TABLES}{table.name}.jsonl", lines)
    for name, path in small_files(competition):
        with path.open("rb") as file:
            _add(archive, FILES + name, file)
    head = audit.head(connection).digest
    backup = Backup(revision_of(connection), competition.digest, now.astimezone(UTC).isoformat(), head, rows)
    record = {"format": FORMAT, **vars(backup), "rows": rows}
    _add(archive, RECORD, io.BytesIO(json.dumps(record, indent=1).encode()))
    return backup


def _write_rows(connection: Connection, table: sa.Table, lines: IO[bytes]) -> int:
    """Write a table's rows, a line each, few of them in memory at a time. Return how many there are."""
    count = 0
    query = sa.select(table).order_by(*table.primary_key).execution_options(yield_per=ROWS_AT_ONCE)
    for row in connection.execute(query).mappings():
        text = json.dumps(plain_row(row), ensure_ascii=False, separators=(",", ":"))
        lines.write(text.encode() + b"\n")
        count += 1
    return count


def small_files(competition: Competition) -> Iterator[tuple[str, Path]]:
    """Give the files of a competition's folder, but for models and databases."""
    models = [competition.folder / model.folder for model in competition.models]
    for path in sorted(competition.folder.rglob("*")):
        is_left_out = path.name.endswith(LEFT_OUT) or any(map(path.is_relative_to, models))
        is_plain = path.is_file() and not path.is_symlink()
        if is_plain and not is_left_out:
            yield path.relative_to(competition.folder).as_posix(), path


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    """Add all that a file holds under a name, readable by the owner alone."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = file.seek(0, os.SEEK_END), 0o600
    file.seek(0)
    archive.addfile(member, file)


def restore_backup(place: Path, folder: Path, database_url: str) -> Backup:
    """Put a backup's files into a folder and its rows into an empty database.

    Files that are there and differ are not overwritten. Raises RecipeError for those and for a database with rows, and
    CheckpointError for a file that is no backup or was made by another version of the tables.
    """
    try:
        with tarfile.open(place, "r:") as archive:
            backup = _read_record(archive, place)
            database = open_database(database_url)
            try:
                _check_is_fit(database, backup, place)
                _write_files(archive, folder)
                _check_is_same(folder, backup)
                _insert_rows(archive, database, backup, place)
            finally:
                database.close()
    except (OSError, tarfile.TarError) as error:
        raise CheckpointError(f"the backup cannot be read: {error}", where=str(place)) from error
    return backup


def _read_record(archive: tarfile.TarFile, place: Path) -> Backup:
    record = json.loads(_opened(archive, RECORD, place).read())
    if record.pop("format", None) != FORMAT:
        raise CheckpointError("this is no backup that this version reads", where=str(place))
    return Backup(**record)


def _opened(archive: tarfile.TarFile, name: str, place: Path) -> IO[bytes]:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise CheckpointError(f"there is no {name}: this is no backup, or not all of it", where=str(place))
    return file


def _check_is_fit(database: Database, backup: Backup, place: Path) -> None:
    with database.read() as connection:
        revision = revision_of(connection)
        tables = [table for table in metadata.sorted_tables if table is not counters]
        filled = [table.name for table in tables if _count(connection, table)]
    if backup.revision != revision:
        message = f"the backup has the tables of revision '{backup.revision}', and this version makes '{revision}'"
        hint = "restore it with the version of cuvee that made it; a newer one then brings the tables up to date"
        raise CheckpointError(message, where=str(place), hint=hint)
    if filled:
        raise RecipeError(f"the database is not empty: there are {filled[0]}", hint="restore into a new one")


def _count(connection: Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def _write_files(archive: tarfile.TarFile, folder: Path) -> None:
    below = [member for member in archive.getmembers() if member.name.startswith(FILES)]
    members = [member for member in below if member.isfile()]
    for member in members:
        name = PurePosixPath(member.name.removeprefix(FILES))
        if name.is_absolute() or ".." in name.parts:
            raise CheckpointError(f"the backup has a file outside its folder: {name}")
        path, file = folder / name, archive.extractfile(member)
        data = file.read() if file else b""
        if path.exists() and path.read_bytes() != data:
            raise RecipeError("the file is there and differs from the backup's", where=str(path))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
            written.write(data)


def _check_is_same(folder: Path, backup: Backup) -> None:
    if load_competition(folder).digest != backup.competition:
        raise CheckpointError(f"the backup's {FILE} is not that of its rows", where=str(folder))


def _insert_rows(archive: tarfile.TarFile, database: Database, backup: Backup, place: Path) -> None:
    with database.write() as connection:
        connection.execute(counters.delete())  # a new database begins with one that stands at 0
        for table in metadata.sorted_tables:
            count = 0
            with _opened(archive, f"{TABLES}{table.name}.jsonl", place) as lines:
                while some := list(islice(lines, ROWS_AT_ONCE)):
                    connection.execute(table.insert(), [_row(table, json.loads(line)) for line in some])
                    count += len(some)
            if count != backup.rows.get(table.name):
                raise CheckpointError(f"{table.name} has {count} rows, not all of them", where=str(place))
            if count and is_postgres(connection):
                _go_on_counting(connection, table)
        if audit.head(connection).digest != backup.audit_head:
            raise CheckpointError("the audit log does not end as the backup says", where=str(place))


def _row(table: sa.Table, plain: Mapping[str, Any]) -> dict[str, Any]:
    return {column.name: _typed(column, plain[column.name]) for column in table.columns}


def _typed(column: sa.Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, Moment):
        return datetime.fromisoformat(value)
    return base64.b64decode(value) if isinstance(column.type, sa.LargeBinary) else value


def _go_on_counting(connection: Connection, table: sa.Table) -> None:
    """Let PostgreSQL give the numbers after those that were restored."""
    keys: Sequence[sa.Column[Any]] = list(table.primary_key)
    if len(keys) != 1 or not isinstance(keys[0].type, sa.Integer):
        return
    sequence = sa.func.pg_get_serial_sequence(table.name, keys[0].name)
    if connection.execute(sa.select(sequence)).scalar() is not None:
        connection.execute(sa.select(sa.func.setval(sequence, sa.select(sa.func.max(keys[0])).scalar_subquery())))
