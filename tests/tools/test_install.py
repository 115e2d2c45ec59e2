"""Installing torch: which release, and from where, without waiting for an index that does not answer."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import install
import pytest


class Slow(BaseHTTPRequestHandler):
    """Answers the path /fast at once, and others after a while."""

    def do_GET(self) -> None:
        if not self.path.startswith("/fast"):
            time.sleep(1.5)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as opened:
        threading.Thread(target=opened.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{opened.server_port}"
        opened.shutdown()


def test_an_index_that_answers_is_used(server: str) -> None:
    assert install.cpu_index_answers(f"{server}/fast", seconds=10)


def test_an_index_that_takes_too_long_is_given_up(server: str) -> None:
    assert not install.cpu_index_answers(f"{server}/slow", seconds=0.3)


@pytest.mark.parametrize("index", ["http://127.0.0.1:1", "http://no.such.host.invalid", "no address"])
def test_an_index_that_is_not_there_is_no_failure(index: str) -> None:
    assert not install.cpu_index_answers(index, seconds=5)


def test_the_pin_is_read_from_the_constraints() -> None:
    assert install.pinned_version("a==1\ntorch==2.13.0\ntorchvision==3\n") == "2.13.0"


def test_constraints_without_torch_are_refused() -> None:
    with pytest.raises(SystemExit, match="torch==VERSION"):
        install.pinned_version("torchvision==3\n")


def test_the_build_of_an_installed_release_does_not_count() -> None:
    assert install.installed_release() == version("torch").partition("+")[0]


@pytest.mark.parametrize("answers", [True, False])
def test_where_torch_comes_from(monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    asked: list[tuple[str, ...]] = []

    def pip(*arguments: str) -> int:
        asked.append(arguments)
        return 0

    monkeypatch.setattr(install, "installed_release", lambda: None)
    monkeypatch.setattr(install, "cpu_index_answers", lambda: answers)
    monkeypatch.setattr(install, "pip_install", pip)
    monkeypatch.setattr(install.platform, "system", lambda: "Linux")
    assert install.install_torch() == 0
    assert [("--index-url" in arguments) for arguments in asked] == [answers]


def test_what_fails_with_its_own_index_is_tried_with_the_configured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([1, 0])
    monkeypatch.setattr(install, "installed_release", lambda: None)
    monkeypatch.setattr(install, "cpu_index_answers", lambda: True)
    monkeypatch.setattr(install, "pip_install", lambda *_: next(codes))
    monkeypatch.setattr(install.platform, "system", lambda: "Linux")
    assert install.install_torch() == 0
    assert list(codes) == []
