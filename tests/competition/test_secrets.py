"""Where the URL of a database, which may have a password, can be read, and what a server needs to write."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from cuvee.cli.app import app
from cuvee.competition.database import open_database, sqlite_url
from cuvee.competition.local import open_service, prepare
from cuvee.competition.tables import tokens
from cuvee.errors import PlatformError
from cuvee.submission.sandbox.watched import descendants
from cuvee.submission.template import new_competition

PASSWORD = "a-password-of-the-tests"
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("secrets") / "family"
    new_competition(place, "a secret of the tests", items=2)
    return place


@pytest.fixture
def read_only(folder: Path) -> Iterator[Path]:
    """The folder as a server finds it at its first start, mounted so that nobody, root neither, can write to it."""
    (folder / "private" / "organiser.token").unlink(missing_ok=True)
    bind = ["mount", "--bind", str(folder), str(folder)]
    if os.geteuid() != 0 or subprocess.run(bind, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a folder that root cannot write to")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the system shows no arguments of processes")
def test_no_process_beside_the_server_has_the_databases_url_among_its_arguments(folder: Path, tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / PASSWORD)
    serving = [sys.executable, "-m", "cuvee", "competition", "serve", str(folder), "--database", url]
    server = subprocess.Popen([*serving, "--port", str(free_port())], stderr=subprocess.DEVNULL)
    try:
        worker = wait_for_worker(server)
        assert f"CUVEE_DATABASE={url}".encode() in Path(f"/proc/{worker}/environ").read_bytes()
        for process in descendants(server.pid):
            assert PASSWORD.encode() not in Path(f"/proc/{process}/cmdline").read_bytes()
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def wait_for_worker(server: "subprocess.Popen[bytes]") -> int:
    """Return the number of the process that works beside a server, once it runs."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server has ended"
        for process in descendants(server.pid):
            if b"\0work\0" in Path(f"/proc/{process}/cmdline").read_bytes():
                return process
        time.sleep(0.1)
    raise AssertionError("no worker has started")


def test_a_command_finds_the_database_in_the_environment(folder: Path, tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "elsewhere.db")
    command = ["competition", "token", str(folder), "worker", "gpu-1"]
    made = CliRunner().invoke(app, command, env={"CUVEE_DATABASE": url})
    assert made.exit_code == 0, made.output
    database = open_database(url)
    with database.read() as connection:
        assert connection.execute(sa.select(tokens.c.label)).scalars().all() == ["gpu-1"]
    database.close()


def test_who_types_a_password_is_told_that_others_see_it(folder: Path) -> None:
    nowhere = f"postgresql://cuvee:{PASSWORD}@127.0.0.1:1/cuvee"
    typed = CliRunner().invoke(app, ["competition", "final", str(folder), "--database", nowhere])
    assert "give the URL in CUVEE_DATABASE instead" in typed.stderr
    kept = CliRunner().invoke(app, ["competition", "final", str(folder)], env={"CUVEE_DATABASE": nowhere})
    assert "CUVEE_DATABASE instead" not in kept.stderr
    for result in (typed, kept):
        assert "the database cannot be opened" in str(result.exception)
        assert PASSWORD not in result.output + str(result.exception)


def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(PlatformError, match="no database URL") as refused:
        open_database(f"postgresql:/cuvee:{PASSWORD}@host")
    assert PASSWORD not in str(refused.value)


def test_a_folder_that_cannot_be_written_to_serves_without_a_file_for_the_token(
    read_only: Path, tmp_path: Path
) -> None:
    service = open_service(read_only, sqlite_url(tmp_path / "competition.db"))
    assert prepare(service) is None
    with service.database.read() as connection:
        roles = connection.execute(sa.select(tokens.c.role)).scalars()
        assert "organiser" not in roles, "nobody could read such a token"
    service.database.close()
