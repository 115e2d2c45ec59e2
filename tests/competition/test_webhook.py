"""What the organiser is told by a webhook, and where one cannot lead."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest

from competition.made import Clock, tiny_competition
from competition.serving import Served, serve
from cuvee.competition.database import Database
from cuvee.competition.limits import Limits
from cuvee.competition.messages import tell_news
from cuvee.competition.settings import read_limits
from cuvee.competition.webhook import Webhook, is_public
from cuvee.errors import CuveeError, PlatformError

LOCAL = ("127.0.0.0/8",)


class Listener(HTTPServer):
    """Takes messages, and answers as told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[dict[str, str]] = []
        self.hosts: list[str] = []
        self.status = 204

    @property
    def url(self) -> str:
        return f"http://hooks.test:{self.server_port}/services/a-secret"

    def webhook(self, *networks: str, address: str = "127.0.0.1") -> Webhook:
        return Webhook(self.url, networks, lambda host, port: [address])


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.messages.append(json.loads(body))
        self.server.hosts.append(self.headers["Host"])
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_a_message_is_what_chats_read_and_names_the_host(listener: Listener) -> None:
    listener.webhook(*LOCAL).send("all is well")
    assert listener.messages == [{"text": "all is well", "content": "all is well"}]
    assert listener.hosts == [f"hooks.test:{listener.server_port}"]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fd00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:7f00:1::", "2001:db8::1"),
    ],
)
def test_an_address_inside_is_no_public_one(listener: Listener, address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(PlatformError, match="not public") as refused:
        listener.webhook(address=address).send("a secret of the inside")
    assert "a-secret" not in str(refused.value)
    assert listener.messages == []


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_a_public_address_is_reached_by_https_alone(listener: Listener, address: str) -> None:
    assert is_public(ip_address(address))
    with pytest.raises(PlatformError, match="not HTTPS"):
        listener.webhook(address=address).send("in the clear")


def test_one_address_inside_among_several_is_enough_to_refuse(listener: Listener) -> None:
    webhook = Webhook(listener.url.replace("http:", "https:"), (), lambda *_: ["93.184.215.14", "10.0.0.1"])
    with pytest.raises(PlatformError, match=r"10\.0\.0\.1, which is not public"):
        webhook.send("anything")


def test_a_name_is_looked_up_once_and_no_redirect_is_followed(listener: Listener) -> None:
    looked: list[str] = []

    def look_up(host: str, port: int) -> list[str]:
        looked.append(host)
        return ["127.0.0.1"] if len(looked) == 1 else ["127.0.0.2"]

    listener.status = 302
    with pytest.raises(PlatformError, match="answers 302"):
        Webhook(listener.url, LOCAL, look_up).send("anything")
    assert looked == ["hooks.test"]
    assert len(listener.messages) == 1


def test_environment_proxies_do_not_count(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    listener.webhook(*LOCAL).send("straight")
    assert len(listener.messages) == 1


@pytest.fixture
def watched(sqlite: Database, clock: Clock) -> Iterator[Served]:
    """A server that wants a backup a day."""
    yield from serve(sqlite, clock, tiny_competition(), Limits(backup_every=timedelta(hours=24)))


def test_what_begins_and_what_is_over_is_told_once_each(watched: Served, listener: Listener) -> None:
    from cuvee.competition.backup import remember_backup
    from cuvee.competition.local import ORGANISER

    webhook = listener.webhook(*LOCAL)
    assert [tell_news(watched.service, webhook) for _ in range(2)] == [1, 0]
    remember_backup(watched.service.database, ORGANISER, watched.clock())
    assert [tell_news(watched.service, webhook) for _ in range(2)] == [1, 0]
    assert [message["text"] for message in listener.messages] == [
        "A tiny competition: no backup was made yet",
        "A tiny competition: over: no backup was made yet",
    ]


def test_what_could_not_be_sent_is_sent_at_the_next_look(watched: Served, listener: Listener) -> None:
    webhook = listener.webhook(*LOCAL)
    listener.status = 500
    with pytest.raises(PlatformError, match="answers 500"):
        tell_news(watched.service, webhook)
    listener.status = 200
    assert tell_news(watched.service, webhook) == 1


def test_quarantine_failed_tests_and_a_ready_final_are_told_without_any_teams_text(
    served: Served, listener: Listener
) -> None:
    served.send(title="<!channel> look here")
    served.judge_all()
    served.ask("organiser", "POST", "/api/organiser/freeze")
    served.judge_all()
    assert tell_news(served.service, listener.webhook(*LOCAL)) == 1
    text = listener.messages[0]["text"]
    assert text == "A tiny competition: all final runs are over, and the ranking can be published"


def test_a_webhook_stands_in_the_organisers_file(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("webhook: https://hooks.example.org/x\nwebhook_networks: [10.0.0.0/8]\n")
    limits = read_limits(file)
    assert (limits.webhook, limits.webhook_networks) == ("https://hooks.example.org/x", ("10.0.0.0/8",))
    for wrong in ("ftp://hooks.example.org", "https://ada:secret@example.org", "https:///x"):
        file.write_text(f"webhook: {wrong}\n")
        with pytest.raises(CuveeError, match="'webhook'"):
            read_limits(file)
