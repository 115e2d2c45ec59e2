"""Time the board of a competition with thousands of teams, and compare it with that of another checkout, side by side.

    python benchmarks/board.py --teams 3000 --submissions 10000 [--other CHECKOUT] [--rounds 15]
    python benchmarks/board.py --teams 400 --submissions 1200 --paint [--other CHECKOUT]

Each side is a process of its own with a database of its own, filled with the same rows. They answer the same requests
in turn, one at a time, so that whatever else the machine does falls on both. Processor's seconds are those of the whole
process; a request goes through the whole application but for the socket. Prints a table in Markdown, and JSON with
`--json`. With `--paint` a browser opens the board over loopback, each time with an empty cache, and says when it first
painted something.
"""

import argparse
import gc
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
PHASE = "open"
TASKS, ITEMS = ("capitals", "sums", "verbs"), 100
TEXT = """
name: large
title: A large competition
description: Merge small models.
version: 1
changelog:
  - {version: 1, date: 2026-06-01, what: the first version}
budget: {seconds: 60, memory: 2GB, disk: 1GB}
phases:
  - {name: open, opens: 2026-06-01, closes: 2100-01-01T00:00Z, feedback: scores, logs: none,
     quota: {per_day: 20, total: 100, at_once: 50}}
tasks:
  - {name: capitals, public: a.csv, weight: 1.0}
  - {name: sums, public: b.csv, weight: 2.0}
  - {name: verbs, public: c.csv, weight: 1.0}
teams: {max_members: 3, registration: open}
"""
NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)
CHANGE = "change"

REQUESTS = {
    "first view after a change": (CHANGE, "/board"),
    "view again": ("/board",),
    "sorted by team, after a change": (CHANGE, "/board?sort=team"),
    "sorted by team again": ("/board?sort=team",),
    "what-if, weights never seen": ("/board?w.capitals={number}&w.sums=1&w.verbs=1",),
    "the same what-if again": ("/board?w.capitals={number}&w.sums=1&w.verbs=1",),
    "page far down": ("/board?page={far}",),
    "JSON after a change": (CHANGE, "/api/board"),
    "JSON again": ("/api/board",),
}
"""What is timed: the last of each row's requests; those before it make it ready."""


@dataclass(frozen=True)
class Timing:
    """One request: wall seconds, the process's seconds of a processor, and the memory that it then held."""

    wall: float
    cpu: float
    resident_bytes: int


class Side:
    """A process with an application of one checkout."""

    def __init__(self, checkout: Path, folder: Path, teams: int, submissions: int, port: int | None = None) -> None:
        command = [sys.executable, __file__, "--serve", str(folder), "--teams", str(teams)]
        if port is not None:
            command += ["--port", str(port)]
        self.port = port
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
        self._process = subprocess.Popen(
            [*command, "--submissions", str(submissions)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.begins_with = self._heard()["resident_bytes"]

    def ask(self, path: str) -> Timing:
        """Let it answer a request."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(path + "\n")
        self._process.stdin.flush()
        return Timing(**self._heard())

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None, "it is a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the process of one side has ended; see above")
        heard: dict[str, Any] = json.loads(line)
        return heard


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teams", type=int, default=3000)
    parser.add_argument("--submissions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--other", type=Path, help="checkout to compare with")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--paint", action="store_true", help="time a browser's first paint instead")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve is not None:
        serve(chosen.serve, chosen.teams, chosen.submissions, chosen.port)
        return
    with sides_of(chosen.other, chosen.teams, chosen.submissions, listening=chosen.paint) as sides:
        if chosen.paint:
            print(json.dumps(painted(sides, chosen.rounds), indent=1))
            return
        report = measured(sides, chosen.rounds, far_page=-(-chosen.teams // 100))
    print(json.dumps(report, indent=1) if chosen.json else table(report))


@contextmanager
def sides_of(other: Path | None, teams: int, submissions: int, *, listening: bool = False) -> Iterator[dict[str, Side]]:
    """Start a process for this checkout and, if there is one, for the other."""
    checkouts = {"this": HERE} if other is None else {"this": HERE, "other": other.absolute()}
    with tempfile.TemporaryDirectory() as folder:
        sides = {}
        try:
            for name, checkout in checkouts.items():
                port = free_port() if listening else None
                sides[name] = Side(checkout, Path(folder) / name, teams, submissions, port)
            yield sides
        finally:
            for side in sides.values():
                side.end()


def measured(sides: Mapping[str, Side], rounds: int, far_page: int) -> dict[str, dict[str, dict[str, float]]]:
    """Ask each side in turn, in another order each round; return figures by request and side."""
    timings: dict[str, dict[str, list[Timing]]] = {name: {side: [] for side in sides} for name in REQUESTS}
    for number in range(rounds):
        order = list(sides) if number % 2 else list(sides)[::-1]
        for name, paths in REQUESTS.items():
            for side in order:
                for path in paths:
                    timing = sides[side].ask(path.format(number=2 + number, far=far_page))
                timings[name][side].append(timing)
    return {
        name: {side: _figures(some, sides[side].begins_with) for side, some in by_side.items()}
        for name, by_side in timings.items()
    }


def painted(sides: Mapping[str, Side], rounds: int) -> dict[str, dict[str, float]]:
    """Let a browser open the board of each side in turn; return the milliseconds to the first paint, by side.

    The least and the median over the rounds. A round before them warms the servers up.
    """
    from playwright.sync_api import sync_playwright

    times: dict[str, list[float]] = {name: [] for name in sides}
    with sync_playwright() as playwright:
        place = os.environ.get("CUVEE_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=place, args=["--no-sandbox"])
        for _ in range(1 + rounds):
            for name, side in sides.items():
                page = browser.new_context(bypass_csp=True).new_page()
                page.goto(f"http://127.0.0.1:{side.port}/board")
                page.wait_for_function(f"{FIRST_PAINT} !== undefined")
                times[name].append(page.evaluate(f"{FIRST_PAINT}.startTime"))
                page.context.close()
        browser.close()
    warm = {name: some[1:] for name, some in times.items()}
    return {name: {"least_ms": min(some), "median_ms": statistics.median(some)} for name, some in warm.items()}


FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


def _figures(timings: list[Timing], begins_with: int) -> dict[str, float]:
    wall = sorted(1000 * timing.wall for timing in timings)
    cpu = [1000 * timing.cpu for timing in timings]
    return {
        "cpu_ms": statistics.median(cpu),
        "cpu_ms_least": min(cpu),
        "wall_ms": statistics.median(wall),
        "wall_ms_p95": wall[min(len(wall) - 1, int(0.95 * len(wall)))],
        "more_memory_mb": max(timing.resident_bytes - begins_with for timing in timings) / 1e6,
    }


def table(report: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Write the figures as a table, with how many times as much the other side takes."""
    lines = [
        "| request | CPU ms | wall ms | wall ms, p95 | more memory | CPU ms, other | other / this |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, sides in report.items():
        this, other = sides["this"], sides.get("other")
        last = "| – | – |"
        if other is not None:
            last = f"| {other['cpu_ms']:.0f} | {other['cpu_ms'] / this['cpu_ms']:.2f} |"
        figures = f"| {this['cpu_ms']:.0f} | {this['wall_ms']:.0f} | {this['wall_ms_p95']:.0f} "
        lines.append(f"| {name} {figures}| {this['more_memory_mb']:.0f} MB {last}")
    return "\n".join(lines)


def serve(folder: Path, teams: int, submissions: int, port: int | None) -> None:
    """Be a side: fill a database, then answer requests that come line by line, or those of a browser at a port."""
    import logging

    from fastapi.testclient import TestClient

    from cuvee.competition.access import ACCESS
    from cuvee.competition.app import make_app
    from cuvee.competition.database import open_database, sqlite_url
    from cuvee.competition.limits import Limits
    from cuvee.competition.revision import changed
    from cuvee.competition.service import Service
    from cuvee.submission.competition_yaml import parse_competition

    logging.disable(logging.WARNING)
    folder.mkdir()
    database = open_database(sqlite_url(folder / "board.db"))
    fill(database, teams, submissions)
    much = {name: 10**6 for name in ("what_ifs_per_minute",) if name in {field.name for field in fields(Limits)}}
    service = Service(database, parse_competition(TEXT, folder=Path("/nowhere")), Limits(**much))
    app = make_app(service)
    http = TestClient(app)
    assert http.get("/guide").status_code == 200
    gc.collect()
    gc.freeze()  # as `cuvee competition serve` does
    has_overview = ("GET", "/board") in ACCESS
    _say({"resident_bytes": _resident_bytes()})
    if port is not None:
        listen(app, port)
        return
    for line in sys.stdin:
        began, began_cpu = time.perf_counter(), time.process_time()
        if line.strip() == CHANGE:
            with database.write() as connection:
                changed(connection)
        else:
            path = line.strip()
            if not has_overview and path.startswith("/board"):
                path = "/" + path.removeprefix("/board")
            assert http.get(path).status_code == 200
        wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        _say({"wall": wall, "cpu": cpu, "resident_bytes": _resident_bytes()})


def listen(app: Any, port: int) -> None:
    """Serve an application at a port of 127.0.0.1 until standard input ends."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    sys.stdin.read()


def fill(database: Any, teams: int, submissions: int) -> None:
    """Write teams, two parents among them, and scored submissions: the same ones for each checkout."""
    import numpy as np

    from cuvee.competition import tables

    generator = np.random.default_rng(0)
    easiness = {task: generator.random(ITEMS) for task in TASKS}
    with database.write() as connection:
        archive = {"digest": "a", "content": b"a", "received_at": NOW}
        connection.execute(tables.archives.insert(), [archive])
        connection.execute(tables.teams.insert(), [_team(number) for number in range(1, teams + 1)])
        results = []
        for number in range(1, submissions + 1):
            skill = 0.3 + 0.4 * generator.random()
            items = {task: (easiness[task] + generator.normal(0, 0.2, ITEMS) < skill) for task in TASKS}
            results.append(_result(number, items, generator.random()))
        numbers = range(1, submissions + 1)
        sent = [_submission(number, 1 + (number - 1) % teams) for number in numbers]
        connection.execute(tables.submissions.insert(), sent)
        connection.execute(tables.runs.insert(), [_run(number) for number in numbers])
        connection.execute(tables.public_results.insert(), results)


def _team(number: int) -> dict[str, Any]:
    kind = "parent" if number <= 2 else "participant"
    name = f"team {number:05}"
    return {"id": number, "name": name, "key": name, "kind": kind, "members": [], "created_at": NOW}


def _submission(number: int, team: int) -> dict[str, Any]:
    return {
        "id": number,
        "team_id": team,
        "phase": PHASE,
        "title": f"try {number}",
        "archive_digest": "a",
        "request_key": str(number),
        "recipe": "merge_method: linear\n" * 20,
        "lineage": [],
        "submitted_at": NOW,
    }


def _run(number: int) -> dict[str, Any]:
    times = dict.fromkeys(("queued_at", "not_before", "finished_at"), NOW)
    named = {"submission_id": number, "purpose": "public", "state": "scored", "result_key": f"{number:064}"}
    return named | times


def _result(number: int, items: Mapping[str, Any], luck: float) -> dict[str, Any]:
    scores = {task: float(values.mean()) for task, values in items.items()}
    value = sum(weight * scores[task] for task, weight in zip(TASKS, (0.25, 0.5, 0.25), strict=True))
    tasks = {task: {"value": score, "low": score - 0.05, "high": score + 0.05} for task, score in scores.items()}
    return {
        "submission_id": number,
        "value": value,
        "low": value - 0.04,
        "high": value + 0.04,
        "released": True,
        "tasks": tasks,
        "item_scores": {task: [float(item) for item in values] for task, values in items.items()},
        "seconds": 5 + 30 * luck,
        "memory_bytes": 200 << 20,
        "tokens": 5000,
        "parameters": 12_000_000,
        "weights_digest": str(number),
        "predictions_digest": str(number),
    }


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _say(words: Mapping[str, Any]) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
