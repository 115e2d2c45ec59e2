"""A recipe file comes to a place on the board of the bundled family: the real judge, command line, server and pages."""

import html
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
import uvicorn
from typer.testing import CliRunner

from browser import chromium
from competition.serving import beside
from cuvee.cli.app import app
from cuvee.competition.app import make_app
from cuvee.competition.console import move_up
from cuvee.competition.database import sqlite_url
from cuvee.competition.judging import Bench
from cuvee.competition.limits import Limits
from cuvee.competition.local import ORGANISER, open_service, prepare
from cuvee.competition.service import Service
from cuvee.competition.tables import submissions, teams
from cuvee.competition.worker import Worker
from cuvee.progress import Progress
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.template import new_competition
from cuvee.submission.verdict import Verdict

PATIENCE_MS = 180_000  # for machines that do much else


@dataclass
class JudgedOnce:
    """The real judge; the same archive is judged once, for both databases."""

    bench: Bench
    known: dict[bytes, Verdict] = field(default_factory=dict)

    def __call__(self, archive: Path, workdir: Path, purpose: str, progress: Progress) -> Verdict:
        content = archive.read_bytes()
        if content not in self.known:
            self.known[content] = self.bench(archive, workdir, purpose, progress)
        return self.known[content]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> JudgedOnce:
    folder = tmp_path_factory.mktemp("end-to-end") / "family"
    new_competition(folder, "a secret of the tests", items=8)
    file = folder / "competition.yaml"
    written = file.read_text(encoding="utf-8")
    file.write_text(written.replace("scores: public\n", "scores: public\n    logs: all\n"), encoding="utf-8")
    return JudgedOnce(Bench(load_competition(file)))


@pytest.mark.slow  # it builds and measures a model
def test_the_three_lines_of_the_start_page_lead_from_an_address_to_a_place_on_the_board(
    judge: JudgedOnce, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A participant has an address, an empty home, and this package without its extras: no path of the organiser's."""
    monkeypatch.setattr("cuvee.competition.pages.start.origin", lambda: None)  # as if an index had it
    competition = judge.bench.competition
    service = open_service(competition.folder, url, Limits())
    token_file = prepare(service)
    assert token_file is not None
    assert oct(token_file.stat().st_mode)[-3:] == "600"
    server, address = _serving(service)
    worker = Worker(beside(service), judge, judge.bench.self_test)
    working = threading.Thread(target=_work_on_one, args=(worker, service, "Vintners"), daemon=True)
    home = tmp_path / "home"
    home.mkdir()

    page = httpx2.post(f"{address}/join", data={"name": "Vintners"}).text
    shown = re.search(r'aria-label="three lines"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert shown is not None
    install, get, send = html.unescape(re.sub(r"<[^>]+>", "", shown[1])).split("\n")
    _line(install, home)
    assert "came" in _line(get, home)
    working.start()
    sent = _line(f"{send} --json", home)

    judged = json.loads(sent)
    assert judged["state"] == "scored", judged
    place = service.boards.board("public").places[0]
    assert (place.entry.team, place.rank, place.entry.submission_id) == ("Vintners", "1", judged["id"])
    token = send.split()[-1]
    monkeypatch.setenv("CUVEE_TOKEN", token)
    status = json.loads(_run("submission", "status", str(judged["id"]), "--server", address, "--json"))
    assert status["score"] == judged["score"]
    log = _run("submission", "logs", str(judged["id"]), "--server", address)
    kept = json.loads(_run("submission", "logs", str(judged["id"]), "--server", address, "--json"))
    assert kept == {"id": judged["id"], "log": log.removesuffix("\n")}
    working.join()
    server.should_exit = True
    service.database.close()


@pytest.mark.slow  # it builds and measures a model
def test_a_participant_comes_to_a_place_on_the_board_by_the_browser_alone(judge: JudgedOnce, tmp_path: Path) -> None:
    """Join, write a recipe with a slip, mend it by its line, send it, and see the place."""
    from playwright.sync_api import expect

    folder = judge.bench.competition.folder
    service = open_service(folder, sqlite_url(tmp_path / "competition.db"), Limits())
    server, address = _serving(service)
    worker = Worker(beside(service), judge, judge.bench.self_test)
    working = threading.Thread(target=_work_on_one, args=(worker, service, "Coopers"), daemon=True)
    recipe = (folder / "baselines" / "average.yaml").read_text(encoding="utf-8")
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page.goto(address)
        page.get_by_role("link", name="Join", exact=True).first.click()
        page.get_by_label("Name of the team").fill("Coopers")
        page.get_by_role("button", name="Join").click()
        expect(page.get_by_label("token", exact=True)).to_contain_text("cuvee-team_")
        page.get_by_role("link", name="To your page").click()
        writing = page.get_by_label("Recipe: write")
        writing.fill(recipe.replace("models/odd", "models/od"))
        problem = page.locator("#check li")
        expect(problem).to_contain_text("did you mean 'models/odd'?")
        line = 1 + recipe[: recipe.index("models/odd")].count("\n")
        expect(problem).to_contain_text(f"line {line}:")
        problem.get_by_role("button").click()
        assert page.evaluate("getSelection().toString()").strip() == "- model: ../models/od"
        writing.fill(recipe)
        expect(page.locator("#check")).to_contain_text("Keeps the rules")
        page.get_by_label("Title").fill("average")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#state")).to_contain_text("waits for a worker")
        working.start()
        expect(page.locator("#state")).to_contain_text("judged, with a score")
        page.get_by_role("link", name="Board", exact=True).first.click()
        expect(page.locator(".board tbody tr").first).to_contain_text("Coopers")
    working.join()
    server.should_exit = True
    service.database.close()


def _serving(service: Service) -> tuple[uvicorn.Server, str]:
    """Serve on a port of this machine; return the server and its address."""
    server = uvicorn.Server(uvicorn.Config(make_app(service), port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return server, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


WITHOUT_EXTRAS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "fastapi", "sqlalchemy", "jinja2", "cryptography"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
"""Where a line of the page is run, what pip does not bring without extras cannot be imported."""


def _line(line: str, home: Path) -> str:
    """Run a line as a shell would in an empty home, and return what it prints.

    pip installs what is here, without an index: its packages are there already.
    """
    site = home / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(WITHOUT_EXTRAS, encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    paths = os.pathsep.join([str(site), *filter(None, sys.path)])
    environment = {"HOME": str(home), "PATH": path, "PYTHONPATH": paths, "PIP_NO_INDEX": "1", "LC_ALL": "C.UTF-8"}
    ran = subprocess.run(shlex.split(line), cwd=home, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, (line, ran.stdout, ran.stderr)
    return ran.stdout


def _run(*arguments: str) -> str:
    return CliRunner().invoke(app, list(arguments)).stdout


def _work_on_one(worker: Worker, service: Service, team: str) -> None:
    """Judge the first submission of a team, which the organiser lets go before his own entries."""
    worker._greet()
    waiting = sa.select(submissions.c.id).join(teams, teams.c.id == submissions.c.team_id).where(teams.c.name == team)
    number = None
    while number is None:
        time.sleep(0.1)
        with service.database.read() as connection:
            number = connection.execute(waiting).scalar()
    with service.database.write() as connection:
        move_up(connection, ORGANISER, number, "public", service.now(connection))
    job = worker.source.claim()
    assert job is not None
    assert job.submission_id == number
    worker._work(job)


SERVE = """
import signal, sys
from pathlib import Path
from cuvee.competition.run import serve
signal.signal(signal.SIGINT, signal.default_int_handler)
serve(Path(sys.argv[1]), database_url=None, host="127.0.0.1", port=0, workers=1)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_takes_its_worker_along(
    judge: JudgedOnce, tmp_path: Path, how: signal.Signals
) -> None:
    folder = shutil.copytree(judge.bench.competition.folder, tmp_path / f"family-{how.name}")
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], stderr=subprocess.DEVNULL)
    worker = _until(lambda: _processes_naming(folder, "work"))
    server.send_signal(how)
    server.wait(timeout=60)
    assert not _processes_naming(folder, "work"), f"{worker} is left"


def _processes_naming(folder: Path, word: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if str(folder) in words and word in words:
            found.append(int(process.name))
    return found


def _until(found: Callable[[], list[int]], seconds: float = 60.0) -> list[int]:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found()
