"""The door: who asks comes first, a body is counted and timed while it comes, asked of a real server over sockets."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from competition.made import Clock, tiny_competition
from competition.serving import Served, archive, serve
from cuvee.competition.database import Database, sqlite_url
from cuvee.competition.limits import Limits
from cuvee.competition.run import server_of

PATIENCE = 60.0
PIECE = b"x" * 65_536


@contextlib.contextmanager
def listening(served: Served) -> Iterator[int]:
    """Serve on a port of this machine, as `cuvee competition serve` does."""
    server = server_of(served.service, host="127.0.0.1", port=0, log_level="error")
    server.config.lifespan = "off"
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def hurried(sqlite: Database, clock: Clock) -> Iterator[tuple[Served, int]]:
    """A server that waits a second for a head and for a body."""
    limits = Limits(head_seconds=1, body_seconds=1, connections_per_address=5)
    for served in serve(sqlite, clock, tiny_competition(), limits):
        with listening(served) as port:
            yield served, port


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: here", *headers, "", ""]).encode()


def answer(connection: socket.socket) -> tuple[int, str]:
    """Read until the server ends the connection; return the status and the text."""
    connection.settimeout(PATIENCE)
    content = b""
    while piece := connection.recv(65_536):
        content += piece
    first, _, text = content.decode().partition("\r\n\r\n")
    return int(first.split()[1]), text


def send_pieces(connection: socket.socket, count: int) -> None:
    """Send a body in pieces, whatever the server says meanwhile."""
    with contextlib.suppress(OSError):
        for _ in range(count):
            connection.sendall(f"{len(PIECE):x}\r\n".encode() + PIECE + b"\r\n")


def ask(port: int, first: bytes, pieces: int = 0) -> tuple[int, str]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(first)
        sending = threading.Thread(target=send_pieces, args=(connection, pieces), daemon=True)
        sending.start()
        return answer(connection)


IN_PIECES = ("Content-Type: application/json", "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/api/teams", ("Content-Type: application/json", "Content-Length: 200000000"), 413, "too_large"),
        ("/api/teams", IN_PIECES, 413, "too_large"),
        ("/api/organiser/teams", IN_PIECES, 401, "not_signed_in"),
        ("/api/submissions", IN_PIECES, 401, "not_signed_in"),
    ],
)
def test_a_large_body_is_refused_by_who_asks_and_then_while_it_comes(
    hurried: tuple[Served, int], path: str, headers: tuple[str, ...], status: int, code: str
) -> None:
    _, port = hurried
    seen, text = ask(port, head("POST", path, *headers), pieces=80)
    assert (seen, json.loads(text)["error"]["code"]) == (status, code)


def test_a_large_form_is_refused_with_a_page(hurried: tuple[Served, int]) -> None:
    _, port = hurried
    headers = ("Content-Type: application/x-www-form-urlencoded", "Transfer-Encoding: chunked")
    seen, text = ask(port, head("POST", "/join", *headers), pieces=80)
    assert seen == 413
    assert "bytes that may be sent here" in text


def test_a_body_that_is_not_asked_for_ends_the_connection(hurried: tuple[Served, int]) -> None:
    _, port = hurried
    assert ask(port, head("GET", "/api/health", "Transfer-Encoding: chunked"), pieces=1)[0] == 200


@pytest.mark.parametrize("path", ["/api/teams", "/join"])
def test_a_body_that_dribbles_in_ends_in_time(hurried: tuple[Served, int], path: str) -> None:
    _, port = hurried
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(head("POST", path, "Content-Type: application/json", "Content-Length: 100"))
        stop = threading.Event()
        dribble = threading.Thread(target=send_slowly, args=(connection, b"{", stop), daemon=True)
        dribble.start()
        seen, _ = answer(connection)
        stop.set()
        dribble.join()
    assert seen == 408 if path.startswith("/api/") else seen in (400, 408)
    assert 0.9 < time.monotonic() - began < PATIENCE / 2


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHost: h"])
def test_a_head_that_does_not_come_ends_the_connection(hurried: tuple[Served, int], beginning: bytes) -> None:
    _, port = hurried
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        stop = threading.Event()
        if beginning:
            connection.sendall(beginning)
            threading.Thread(target=send_slowly, args=(connection, b"h", stop), daemon=True).start()
        connection.settimeout(PATIENCE / 2)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        stop.set()


def test_one_address_holds_so_many_connections_and_no_more(hurried: tuple[Served, int]) -> None:
    _, port = hurried
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) for _ in range(5)]
        assert len(held) == 5
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as one_more, pytest.raises(
            (ConnectionError, IndexError, TimeoutError)
        ):
            one_more.sendall(head("GET", "/api/health", "Connection: close"))
            answer(one_more)


def send_slowly(connection: socket.socket, piece: bytes, stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not stop.wait(0.1):
            connection.sendall(piece)


def test_honest_requests_pass_over_one_connection(hurried: tuple[Served, int]) -> None:
    import httpx2

    served, port = hurried
    headers = {"Authorization": f"Bearer {served.tokens['team']}"}
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, headers=headers) as client:
        sent = client.post("/api/submissions", content=archive())
        assert sent.status_code == 201, sent.text
        assert client.get("/api/submissions/1").json()["state"] == "queued"
        assert client.post("/api/teams", json={"name": "Third"}).status_code == 201


def test_the_memory_of_a_server_does_not_grow_by_bodies_that_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from competition.soak import _free_port, _wait_for

    here, port = Path(__file__).parents[1], _free_port()
    monkeypatch.setenv("PYTHONPATH", f"{here.parent / 'src'}:{here}")
    command = [sys.executable, "-m", "competition.soak", "--part", "server", "--port", str(port)]
    server = subprocess.Popen([*command, "--url", sqlite_url(tmp_path / "competition.db")])
    try:
        _wait_for(port)
        assert ask(port, head("GET", "/api/board", "Connection: close"))[0] == 200
        before = peak_bytes(server.pid)
        for path, status in (("/api/teams", 413), ("/api/organiser/teams", 401)):
            assert ask(port, head("POST", path, *IN_PIECES), pieces=800)[0] == status
        assert peak_bytes(server.pid) - before < 8_000_000
    finally:
        server.kill()
        server.wait()


def peak_bytes(process: int) -> int:
    """Return the most memory that a process has held."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024
