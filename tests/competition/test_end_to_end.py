"""A recipe file comes to a place on the board of the bundled family: the real judge, command line, server and pages."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from competition.serving import beside
from cuvee.cli.app import app
from cuvee.competition.app import make_app
from cuvee.competition.judging import Bench
from cuvee.competition.limits import Limits
from cuvee.competition.local import ORGANISER, open_service, prepare
from cuvee.competition.teams import new_team
from cuvee.competition.worker import Worker
from cuvee.progress import Progress
from cuvee.submission.competition import load_competition
from cuvee.submission.template import new_competition
from cuvee.submission.verdict import Verdict

RECIPE = """
merge_method: task_arithmetic
base_model: {models}/base
models:
  - model: {models}/sort
  - model: {models}/shift
parameters: {{weight: 0.5}}
dtype: bfloat16
"""


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
def test_a_recipe_comes_to_a_place_on_the_board_without_a_step_by_hand(
    judge: JudgedOnce, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    competition = judge.bench.competition
    service = open_service(competition.folder, url, Limits())
    assert oct(prepare(service).stat().st_mode)[-3:] == "600"
    with service.database.write() as connection:
        _, token = new_team(connection, ORGANISER, "Vintners", service.now())
    monkeypatch.setenv("CUVEE_TOKEN", token)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(RECIPE.format(models=competition.folder / "models"), encoding="utf-8")
    server = uvicorn.Server(uvicorn.Config(make_app(service), port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    source = beside(service)
    worker = threading.Thread(target=_work_on_one, args=(Worker(source, judge, judge.bench.self_test),), daemon=True)
    sent = CliRunner().invoke(app, ["submission", "send", str(recipe), "--server", address, "--json"])
    assert sent.exit_code == 0, sent.output
    worker.start()
    number = json.loads(sent.stdout)["id"]
    while json.loads(_run("submission", "status", str(number), "--server", address, "--json"))["state"] in (
        "queued",
        "running",
    ):
        time.sleep(0.5)
    shown = json.loads(_run("submission", "status", str(number), "--server", address, "--json"))
    assert shown["state"] == "scored", shown
    place = service.boards.board("public").places[0]
    assert (place.entry.team, place.rank, place.entry.submission_id) == ("Vintners", "1", number)
    kept = json.loads(_run("submission", "logs", str(number), "--server", address, "--json"))
    assert kept == {
        "id": number,
        "log": _run("submission", "logs", str(number), "--server", address).removesuffix("\n"),
    }
    worker.join()
    server.should_exit = True
    service.database.close()


def _run(*arguments: str) -> str:
    return CliRunner().invoke(app, list(arguments)).stdout


def _work_on_one(worker: Worker) -> None:
    worker._greet()
    job = worker.source.claim()
    assert job is not None
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
