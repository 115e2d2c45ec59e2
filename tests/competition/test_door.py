"""The door: who asks comes first, a body is counted and timed while it comes, asked of a real server over sockets."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from competition.made import Clock, tiny_competition
from competition.serving import Served, archive, serve
from cuvee.competition.buckets import MOST_BUCKETS, Buckets, Rate
from cuvee.competition.database import Database, sqlite_url
from cuvee.competition.limits import Limits
from cuvee.competition.refusals import Refusal
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
    limits = Limits(head_seconds=1, body_seconds=1)
    for served in serve(sqlite, clock, tiny_competition(), limits):
        with listening(served) as port:
            yield served, port


@pytest.fixture
def usual(sqlite: Database, clock: Clock) -> Iterator[tuple[Served, int]]:
    """A server as it is without settings."""
    for served in serve(sqlite, clock, tiny_competition()):
        with listening(served) as port:
            yield served, port


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: here", *headers, "", ""]).encode()


def answer(connection: socket.socket) -> tuple[int, str]:
    """Read one answer: its status and its text."""
    connection.settimeout(PATIENCE)
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read().decode()


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
    usual: tuple[Served, int], path: str, headers: tuple[str, ...], status: int, code: str
) -> None:
    _, port = usual
    seen, text = ask(port, head("POST", path, *headers), pieces=80)
    assert (seen, json.loads(text)["error"]["code"]) == (status, code)


def test_a_large_form_is_refused_with_a_page(usual: tuple[Served, int]) -> None:
    served, port = usual
    form = ("Content-Type: multipart/form-data; boundary=B", "Transfer-Encoding: chunked")
    file = b'--B\r\nContent-Disposition: form-data; name="archive"; filename="a"\r\n\r\n'
    beginning = head("POST", "/me/send", f"Cookie: cuvee={served.tokens['team']}", *form)
    seen, text = ask(port, beginning + f"{len(file):x}\r\n".encode() + file + b"\r\n", pieces=80)
    assert seen == 413
    assert "bytes that may be sent here" in text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/api/health", 200), ("POST", "/api/me", 405)])
def test_a_body_that_nobody_reads_is_thrown_away_and_ends_in_time(
    hurried: tuple[Served, int], method: str, path: str, status: int
) -> None:
    _, port = hurried
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(head(method, path, "Transfer-Encoding: chunked"))
        assert answer(connection)[0] == status
        with pytest.raises(ConnectionError):
            send_for_long(connection)


@pytest.mark.parametrize(("path", "form"), [("/api/teams", "json"), ("/join", "x-www-form-urlencoded")])
def test_a_body_that_dribbles_in_ends_in_time(hurried: tuple[Served, int], path: str, form: str) -> None:
    _, port = hurried
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(head("POST", path, f"Content-Type: application/{form}", "Content-Length: 100"))
        stop = threading.Event()
        dribble = threading.Thread(target=send_slowly, args=(connection, b"{", stop), daemon=True)
        dribble.start()
        seen, _ = answer(connection)
        stop.set()
        dribble.join()
    assert seen == 408
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


def test_one_address_holds_so_many_connections_and_no_more(sqlite: Database, clock: Clock) -> None:
    asked = head("GET", "/api/health", "Connection: close")
    for served in serve(sqlite, clock, tiny_competition(), Limits(connections_per_address=5)):
        with listening(served) as port:
            with contextlib.ExitStack() as stack:
                held = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(5)]
                while not is_turned_away(port, asked):  # the server has seen all five by then
                    time.sleep(0.02)
                held[0].sendall(asked)
                assert answer(held[0])[0] == 200, "those that it has go on"
            while is_turned_away(port, asked):
                time.sleep(0.02)


def send_for_long(connection: socket.socket) -> None:
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE / 2:
        connection.sendall(b"1\r\nx\r\n")
        time.sleep(0.05)


def is_turned_away(port: int, asked: bytes) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as one_more:
        try:
            one_more.sendall(asked)
            return one_more.recv(1) == b""
        except ConnectionError:
            return True


def send_slowly(connection: socket.socket, piece: bytes, stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not stop.wait(0.1):
            connection.sendall(piece)


def test_honest_requests_pass_over_one_connection(usual: tuple[Served, int]) -> None:
    import httpx2

    served, port = usual
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


def test_many_registrations_of_one_visitor_lock_nobody_else_out(served: Served) -> None:
    noisy, honest = from_address(served, "192.0.2.1"), from_address(served, "192.0.2.2")
    codes = [noisy.post("/api/teams", json={"name": f"noise {nth}"}).status_code for nth in range(70)]
    assert codes == [201] * 30 + [429] * 40
    assert noisy.post("/join", data={"name": "by form"}).status_code == 429, "the form counts as well"
    assert honest.post("/api/teams", json={"name": "honest"}).status_code == 201
    served.clock.advance(minutes=2)
    again = [noisy.post("/api/teams", json={"name": "later"}).status_code for _ in range(2)]
    assert again == [201, 429], "two minutes bring one of thirty an hour"


def test_a_refusal_says_when_to_try_again(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(), Limits(teams_per_hour=1)):
        visitor = from_address(served, "192.0.2.1")
        visitor.post("/api/teams", json={"name": "first"})
        problem = visitor.post("/api/teams", json={"name": "second"}).json()["error"]
        assert problem["code"] == "too_many"
        assert problem["message"] == "too many registrations: 1 in an hour are as many as may be"
        assert problem["hint"] == "try again in 3600 seconds"


def test_addresses_of_one_network_of_the_new_kind_are_one_visitor(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(), Limits(teams_per_hour=1)):
        first, neighbour, other = (
            from_address(served, address) for address in ("2001:db8::1", "2001:db8::ffff", "2001:db8:1::1")
        )
        codes = [
            visitor.post("/api/teams", json={"name": f"of {nth}"}).status_code
            for nth, visitor in enumerate((first, neighbour, other))
        ]
        assert codes == [201, 429, 201]


def test_a_team_that_sends_too_often_waits_and_the_others_do_not(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(), Limits(sends_per_hour=2)):
        codes = [
            served.ask(who, "POST", "/api/submissions", content=archive(f"{who}-{nth}")).status_code
            for who in ("team", "other")
            for nth in range(3)
        ]
        assert codes == [201, 201, 429] * 2


def test_a_team_has_only_so_many_archives_on_their_way(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(), Limits(sends_at_once=2)):
        authorized = f"Authorization: Bearer {served.tokens['team']}"
        content = archive()
        length = f"Content-Length: {len(content)}"
        asked = head("POST", "/api/submissions", authorized, length)
        with listening(served) as port, contextlib.ExitStack() as stack:
            slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(2)]
            for connection in slow:
                connection.settimeout(PATIENCE)
                connection.sendall(head("POST", "/api/submissions", authorized, length, "Expect: 100-continue"))
                assert connection.recv(1000).startswith(b"HTTP/1.1 100"), "the server waits for the body"
            status, text = ask(port, asked + content)
            assert status == 429
            assert "2 archives of the team are on their way already" in text
            for connection in slow:
                connection.sendall(content)
                assert answer(connection)[0] == 201
            assert ask(port, asked + content)[0] == 201


def test_a_proxy_that_nobody_has_named_is_told_once(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        served.http.get("/", headers={"X-Forwarded-For": "192.0.2.1"})
    assert [line for line in caplog.messages if "name it in private/server.yaml" in line] == caplog.messages
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("path", ["/sign-in", "/board?w.sums=WEIGHT"])
def test_signing_in_and_other_weights_are_counted_by_address(sqlite: Database, clock: Clock, path: str) -> None:
    limits = Limits(sign_ins_per_hour=2, what_ifs_per_minute=2)
    for served in serve(sqlite, clock, tiny_competition(), limits):
        noisy, honest = from_address(served, "192.0.2.1"), from_address(served, "192.0.2.2")
        codes = [act(visitor, path, nth) for visitor in (noisy, honest) for nth in range(3)]
        assert codes[:3] == codes[3:]
        assert codes[2] == 429
        assert 429 not in codes[:2]
        assert noisy.get("/").status_code == 200


def act(visitor: TestClient, path: str, nth: int) -> int:
    if path == "/sign-in":
        return visitor.post(path, data={"token": "wrong"}).status_code
    return visitor.get(path.replace("WEIGHT", str(nth))).status_code


def from_address(served: Served, address: str) -> TestClient:
    """Ask from an address of one's own."""
    return TestClient(served.http.app, client=(address, 50_000), follow_redirects=False)


@pytest.mark.parametrize(("proxies", "codes"), [((), [201, 429]), (("127.0.0.0/8",), [201, 201])])
def test_a_header_on_the_address_counts_only_from_our_proxies(
    sqlite: Database, clock: Clock, proxies: tuple[str, ...], codes: list[int]
) -> None:
    import httpx2

    for served in serve(sqlite, clock, tiny_competition(), Limits(teams_per_hour=1, proxies=proxies)):
        with listening(served) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            seen = [
                client.post(
                    "/api/teams",
                    json={"name": f"of {address}"},
                    headers={"X-Forwarded-For": f"198.51.100.9, {address}"},
                ).status_code
                for address in ("192.0.2.1", "192.0.2.2")
            ]
            assert seen == codes
            spoofed = {"X-Forwarded-For": "203.0.113.5, 192.0.2.1"}
            assert client.post("/api/teams", json={"name": "spoofed"}, headers=spoofed).status_code == 429


def test_the_buckets_of_a_server_are_bounded() -> None:
    buckets, rate = Buckets(), Rate("tries", 1, timedelta(hours=1))
    for nth in range(MOST_BUCKETS + 100):
        buckets.take(rate, str(nth), 0.0)
    assert len(buckets._levels) == MOST_BUCKETS
    with pytest.raises(Refusal, match="too many tries"):
        buckets.take(rate, str(MOST_BUCKETS), 0.0)
