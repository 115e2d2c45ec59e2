"""A backup that is taken while the server works restores to what was shown at its moment, on either database."""

import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from competition.filled import fill
from competition.made import ORGANISER, Clock, tiny_competition
from competition.serving import Served, serve
from cuvee.competition import audit
from cuvee.competition.backup import restore_backup, small_files, write_backup
from cuvee.competition.board import make_board
from cuvee.competition.database import Database, open_database
from cuvee.competition.dump import dump
from cuvee.competition.tables import archives, metadata, teams
from cuvee.competition.teams import new_team
from cuvee.competition.views import BoardView, board_view
from cuvee.errors import CheckpointError, RecipeError
from cuvee.submission.competition import Competition
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.template import new_competition


@pytest.fixture
def competition(tmp_path: Path) -> Competition:
    """A tiny competition with a folder of its own."""
    folder = tmp_path / "tiny"
    for name in ("tasks/capitals.csv", "tasks/sums.csv", "private/capitals.csv", "private/sums.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"a question of {name}\n")
    (folder / "private/competition.db").write_text("the rows are kept in another way")
    (folder / "competition.yaml").write_text(tiny_competition().text)
    return load_competition(folder)


@pytest.fixture
def filled(database: Database, clock: Clock, competition: Competition) -> Iterator[Served]:
    """The tiny competition with teams and scores, on either database."""
    for served in serve(database, clock, competition):
        fill(served)
        yield served


def board_of(connection: Connection, competition: Competition) -> BoardView:
    return board_view(make_board(connection, competition, "open"))


def everything(database: Database) -> dict[str, object]:
    with database.read() as connection:
        shown = dump(connection)
        shown["archives"] = [list(row) for row in connection.execute(sa.select(archives).order_by(archives.c.digest))]
    return shown


def test_a_backup_under_load_restores_to_the_board_of_its_moment(
    filled: Served, competition: Competition, empty: str, tmp_path: Path
) -> None:
    stop = threading.Event()

    def load() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with filled.service.database.write() as connection:
                new_team(connection, ORGANISER, f"team {number} of the load", filled.clock())

    busy = threading.Thread(target=load)
    busy.start()
    try:
        with filled.service.database.read() as connection:
            shown = board_of(connection, competition)
            kept = write_backup(connection, competition, tmp_path / "kept.tar", filled.clock())
            rows = dump(connection)
    finally:
        stop.set()
        busy.join()
    restored = restore_backup(tmp_path / "kept.tar", tmp_path / "again", empty)
    assert restored == kept
    database = open_database(empty)
    with database.read() as connection:
        assert board_of(connection, competition) == shown
        assert dump(connection) == rows
        assert audit.look_at_chain(connection).is_whole
    with database.write() as connection:
        team_id, _ = new_team(connection, ORGANISER, "the next one", filled.clock())
        assert connection.execute(sa.select(sa.func.max(teams.c.id))).scalar() == team_id
    database.close()
    names = {path.relative_to(tmp_path / "again").as_posix() for path in (tmp_path / "again").rglob("*")}
    assert names == {
        "competition.yaml", "tasks", "tasks/capitals.csv", "tasks/sums.csv",
        "private", "private/capitals.csv", "private/sums.csv",
    }  # fmt: skip


def test_models_are_left_out(tmp_path: Path) -> None:
    family = new_competition(tmp_path / "family", "a secret of the tests", items=2)
    names = {name for name, _ in small_files(family)}
    assert {"competition.yaml", "private/tasks/odd.yaml"} <= names
    assert not any(name.startswith("models/") for name in names)


def test_every_table_and_archive_is_kept(filled: Served, competition: Competition, empty: str, tmp_path: Path) -> None:
    with filled.service.database.read() as connection:
        write_backup(connection, competition, tmp_path / "kept.tar", filled.clock())
    restore_backup(tmp_path / "kept.tar", tmp_path / "again", empty)
    database = open_database(empty)
    assert everything(database) == everything(filled.service.database)
    database.close()
    with tarfile.open(tmp_path / "kept.tar") as archive:
        record = json.loads(archive.extractfile("backup.json").read())  # type: ignore[union-attr]  # it is a file
    assert record["rows"].keys() == {table.name for table in metadata.sorted_tables}
    assert (tmp_path / "kept.tar").stat().st_mode & 0o777 == 0o600


def test_what_is_there_is_not_overwritten(filled: Served, competition: Competition, url: str, tmp_path: Path) -> None:
    with filled.service.database.read() as connection:
        write_backup(connection, competition, tmp_path / "kept.tar", filled.clock())
        with pytest.raises(RecipeError, match="exists already"):
            write_backup(connection, competition, tmp_path / "kept.tar", filled.clock())
    with pytest.raises(RecipeError, match="the database is not empty"):
        restore_backup(tmp_path / "kept.tar", tmp_path / "again", url)


def test_a_cut_or_other_file_is_refused_and_leaves_no_rows(
    filled: Served, competition: Competition, empty: str, tmp_path: Path
) -> None:
    whole = tmp_path / "kept.tar"
    with filled.service.database.read() as connection:
        write_backup(connection, competition, whole, filled.clock())
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    noise = tmp_path / "noise.tar"
    noise.write_bytes(b"no backup" * 1000)
    for damaged in (cut, noise, tmp_path / "nothing.tar"):
        with pytest.raises(CheckpointError):
            restore_backup(damaged, tmp_path / "again", empty)
    restore_backup(whole, tmp_path / "again", empty)
