"""The notebook that the site hands out: every cell is run, from an empty home, against a server on this machine."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from competition.seasons import Simulated, on_loopback, season
from competition.serving import Served, beside
from cuvee.competition.fitness import Fitness
from cuvee.competition.worker import Worker


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with season(tmp_path_factory.mktemp("notebook") / "family", teams=0, items=8) as served:
        yield served


def test_every_cell_of_the_notebook_runs_and_leads_to_a_place_on_the_board(opened: Served, tmp_path: Path) -> None:
    with on_loopback(opened) as address, working(opened):
        notebook = opened.http.get("/start.ipynb", headers={"host": address.removeprefix("http://")}).json()
        script = tmp_path / "cells.py"
        script.write_text("".join(as_python(cell) for cell in code_cells(notebook)), encoding="utf-8")
        (tmp_path / "home").mkdir()
        environment = surroundings(tmp_path / "home", opened.tokens["team"])
        command = [sys.executable, str(script)]
        ran = subprocess.run(
            command, cwd=tmp_path / "home", env=environment, capture_output=True, text=True, timeout=300
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Vintners" in ran.stdout, "the last cell prints the board"
    teams = [place["team"]["name"] for place in opened.ask(None, "GET", "/api/board").json()["places"]]
    assert "Vintners" in teams


def test_the_notebook_is_of_the_format_and_holds_no_token(opened: Served) -> None:
    answer = opened.page("team", "/start.ipynb")
    assert "attachment" in answer.headers["content-disposition"]
    assert "cuvee-team_" not in answer.text
    notebook = answer.json()
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    for cell in notebook["cells"]:
        assert {"cell_type", "id", "metadata", "source"} <= cell.keys()
        assert cell["cell_type"] == "markdown" or cell.keys() >= {"execution_count", "outputs"}
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


def code_cells(notebook: dict[str, object]) -> Iterator[str]:
    for cell in notebook["cells"]:  # type: ignore[attr-defined]  # a list
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


def as_python(cell: str) -> str:
    """Return what IPython makes of a cell: lines after `!` are commands, `%%writefile` writes the rest to a file.

    What `%pip` brings is here already.
    """
    first, _, rest = cell.partition("\n")
    if first.startswith("%%writefile "):
        return f"open({first.split()[1]!r}, 'w').write({rest!r})\n"
    lines = []
    for line in cell.split("\n"):
        if line.startswith("!"):
            line = f"import subprocess; subprocess.run({line[1:]!r}, shell=True, check=True)"
        lines.append("" if line.startswith("%pip install") else line)
    return "\n".join(lines) + "\n"


def surroundings(home: Path, token: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    paths = ":".join(filter(None, sys.path))
    return {"HOME": str(home), "PATH": path, "PYTHONPATH": paths, "LC_ALL": "C.UTF-8", "CUVEE_TOKEN": token}


@contextmanager
def working(served: Served) -> Iterator[None]:
    """Judge whatever comes, beside the server."""
    stop = threading.Event()
    worker = Worker(beside(served.service), Simulated(served.service.competition, 8), Fitness)
    thread = threading.Thread(target=worker.run, args=(stop,), daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()
