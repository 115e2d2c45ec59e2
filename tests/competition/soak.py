"""Many teams, several workers, and things that die: `PYTHONPATH=src:tests python -m competition.soak`.

The server and the workers are processes of their own, killed at random with SIGKILL and started again; teams send over
HTTP and try again when it fails. At the end every submission must be over, none twice on the board, no quota lost, and
the audit log must tell every move. With `--tiers recipe plugin program` each submission is built by a real job in the
sandbox; then no process of a killed worker's job may be left after two seconds, and no mount or folder at the end.
`--board N` measures the board's page with N submissions and `--requests` instead. Only 127.0.0.1 is ever asked, and a
run ends after `--minutes` at most.
"""

import argparse
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from competition.made import ORGANISER, key_of, tiny_competition
from competition.serving import FakeJudge, archive
from competition.soak_jobs import named_archive, real_judge, traces_of, write_archives
from cuvee.competition.client import Client, ServerSource
from cuvee.competition.database import Database, open_database, sqlite_url
from cuvee.competition.fitness import Fitness
from cuvee.competition.limits import Limits
from cuvee.competition.service import Service
from cuvee.competition.states import FINAL, Role, State, uses_quota
from cuvee.competition.tables import audit, moves, public_results, runs, submissions
from cuvee.competition.teams import new_team
from cuvee.competition.tokens import new_token
from cuvee.errors import CuveeError
from cuvee.submission.competition import TIERS, Tier
from cuvee.submission.template import new_competition

LONGEST_AFTERLIFE = 2.0
"""Seconds that a job may outlive its worker."""

LIMITS = Limits(
    lease=timedelta(seconds=2),
    attempts_at_most=20,
    teams_per_hour=10**6,
    sends_per_hour=10**6,
    what_ifs_per_minute=10**6,
)


def utc_now() -> datetime:
    return datetime.now(UTC)


def always_open() -> Any:
    """Return the competition, open at any time."""
    from competition import made

    text = made.TEXT.replace("opens: 2026-06-01\n", "opens: 2000-01-01\n", 1)
    text = (
        text.replace("closes: 2026-07-01T00:00Z", "closes: 2100-01-01T00:00Z")
        .replace("opens: 2026-07-01T00:00Z", "opens: 2100-01-01T00:00Z")
        .replace("closes: 2026-08-01T00:00Z", "closes: 2101-01-01T00:00Z")
    )
    return tiny_competition(per_day=100, text=text)


@dataclass
class Soak:
    """A run under way: the processes by name."""

    url: str
    port: int
    worker_tokens: dict[str, str]
    family: Path | None = None
    scratch: Path | None = None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    kills: int = 0
    killed_at_work: int = 0
    longest_afterlife: float = 0.0

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "competition.soak", "--part", name.partition("-")[0], "--url", self.url]
        command += ["--port", str(self.port), "--token", self.worker_tokens.get(name, "")]
        if self.family is not None:
            command += ["--family", str(self.family), "--scratch", str(self.scratch)]
        self.processes[name] = subprocess.Popen(command)

    def victim(self, generator: random.Random) -> str | None:
        """Choose a process to kill, each as likely as another; of workers with real jobs one whose job is under way.

        Returns None if a worker's turn it is and none has such a job.
        """
        name = generator.choice(list(self.processes))
        if name == "server" or self.family is None:
            return name
        working = [each for each in self.worker_tokens if traces_of(self.processes[each].pid).has_job]
        return generator.choice(working) if working else None

    def kill(self, name: str) -> None:
        """Kill a process, and look how long what it started goes on."""
        process = self.processes[name]
        traces = traces_of(process.pid)
        has_job = traces.has_job
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.kills += 1
        self.killed_at_work += has_job
        afterlife = traces.seconds_until_gone()
        self.longest_afterlife = max(self.longest_afterlife, afterlife)
        print(f"kill {self.kills}: {name}, {afterlife:.2f} s until its jobs were gone", file=sys.stderr, flush=True)

    def stop_workers(self) -> None:
        """Ask the workers to end, as an organiser does."""
        for name in self.worker_tokens:
            self.processes[name].terminate()
            self.processes[name].wait()

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def soak(
    url: str,
    folder: Path,
    *,
    count: int,
    teams: int,
    workers: int,
    kills: int,
    minutes: float,
    tiers: Sequence[Tier] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Run it, and return what was found; raise AssertionError where a promise was broken.

    `folder` takes the models, archives and scratch of real jobs. Without `tiers` nothing is built.
    """
    database, generator = open_database(url), random.Random(seed)
    archives = archives_of(folder, tiers)
    with database.write() as connection:
        people = [new_team(connection, ORGANISER, f"team {n:03}", utc_now()) for n in range(teams)]
        tokens = {
            f"worker-{n}": new_token(connection, ORGANISER, Role.WORKER, f"w{n}", utc_now()) for n in range(workers)
        }
    run = Soak(url, _free_port(), tokens)
    if tiers:
        run.family, run.scratch = folder / "family", folder / "scratch"
        run.scratch.mkdir()
    began, deadline = time.monotonic(), time.monotonic() + 60 * minutes
    try:
        for name in ("server", *tokens):
            run.start(name)
        sending = [
            threading.Thread(
                target=_send,
                args=(run.port, token, [n for n in range(count) if n % teams == nth], archives),
                daemon=True,
            )
            for nth, (_, token) in enumerate(people)
        ]
        for thread in sending:
            thread.start()
        while (over := _count_over(database)) < count:
            assert time.monotonic() < deadline, f"it takes too long: {over} of {count} are over"
            if run.kills < kills and over * kills >= count * run.kills:  # spread over the whole run
                name = run.victim(generator)
                if name is not None:
                    run.kill(name)
                    time.sleep(generator.random() * 0.5)
                    run.start(name)
            time.sleep(0.1 + 0.5 * generator.random())
        for thread in sending:
            thread.join()
        run.stop_workers()
    finally:
        run.end()
    assert run.longest_afterlife <= LONGEST_AFTERLIFE, f"a job outlived its worker by {run.longest_afterlife:.2f} s"
    figures = {"seconds": round(time.monotonic() - began, 1), "kills": run.kills, "tiers": list(tiers)}
    if run.scratch is not None:
        figures["killed_at_work"] = run.killed_at_work
        figures["longest_afterlife_seconds"] = round(run.longest_afterlife, 2)
        _check_nothing_is_left(run.scratch)
    return {**figures, **checked(database, count, teams)}


def archives_of(folder: Path, tiers: Sequence[Tier]) -> Callable[[int], bytes]:
    """Return what makes the archive of each submission by its number: the tiers take turns."""
    if not tiers:
        return lambda number: archive(f"submission-{number}", number + 1)
    write_archives(folder / "archives", new_competition(folder / "family", "a secret of the soak", items=1), tiers)
    name = always_open().name
    return lambda number: named_archive(folder / "archives", tiers[number % len(tiers)], f"submission-{number}", name)


def _check_nothing_is_left(scratch: Path) -> None:
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    assert str(scratch) not in mounts, "a file system of a job is still mounted"
    assert sorted(path.name for path in scratch.iterdir()) == [], "folders of killed workers are left"


def checked(database: Database, count: int, teams: int) -> dict[str, Any]:
    """Look for broken promises."""
    with database.read() as connection:
        rows = connection.execute(
            sa.select(submissions, runs.c.state, runs.c.attempt, runs.c.id.label("run_id")).join(
                runs, runs.c.submission_id == submissions.c.id
            )
        ).all()
        scored = connection.execute(sa.select(public_results.c.submission_id)).scalars().all()
        history = connection.execute(sa.select(moves).order_by(moves.c.id)).all()
        log = connection.execute(sa.select(audit.c.action, audit.c.subject)).all()
    assert len(rows) == count, "each was taken once, however often it was sent"
    assert all(State(row.state) in FINAL for row in rows)
    assert len(set(scored)) == len(scored) == sum(row.state == State.SCORED for row in rows)
    used = [row for row in rows if uses_quota(State(row.state), started=row.attempt > 0, given_back=row.given_back)]
    assert len(used) == sum(row.state != State.ERRORED for row in rows), "our failures cost nothing"
    for row in rows:
        steps = [step for step in history if step.run_id == row.run_id]
        assert [steps[0].start, steps[-1].end] == ["", row.state]
        assert all(one.end == two.start for one, two in itertools.pairwise(steps)), "no move is missing"
        told = [action for action, subject in log if subject == f"submission {row.id}"]
        assert sum(action.startswith("run ") for action in told) == len(steps) - 1
        assert told.count("submitted") == 1
    again = sum(row.attempt > 1 for row in rows)
    states = {state: sum(row.state == state for row in rows) for state in sorted({row.state for row in rows})}
    return {"submissions": count, "teams": teams, "states": states, "tried_again": again, "audit_lines": len(log)}


def board_page(url: str, count: int, requests: int = 200, teams: int = 500) -> dict[str, Any]:
    """Fill a database with `count` scored submissions and measure the board's page over loopback."""
    import httpx2

    from competition.made import verdict
    from cuvee.competition.results import _keep_scores

    database, competition = open_database(url), always_open()
    made_once = [verdict(0.3 + 0.02 * n, n) for n in range(20)]
    with database.write() as connection:
        numbers = [new_team(connection, ORGANISER, f"team {n:03}", utc_now())[0] for n in range(teams)]
        connection.exec_driver_sql("INSERT INTO archives VALUES ('a', 'a', '2026-01-01 00:00:00.000000')")
        for n in range(count):
            values = {
                "team_id": numbers[n % teams],
                "phase": "open",
                "title": "t",
                "archive_digest": "a",
                "recipe": "r",
            }
            number = connection.execute(
                submissions.insert()
                .values(**values, request_key=str(n), lineage=[], submitted_at=utc_now())
                .returning(submissions.c.id)
            ).scalar_one()
            connection.execute(
                runs.insert().values(
                    submission_id=number, purpose="public", state="scored", queued_at=utc_now(), not_before=utc_now()
                )
            )
            _keep_scores(connection, number, "public", made_once[n % len(made_once)], competition, utc_now())
    run = Soak(url, _free_port(), {})
    run.start("server")
    try:
        http = httpx2.Client(base_url=f"http://127.0.0.1:{run.port}", timeout=60)
        _wait_for(run.port)
        first = _timed(http)
        memory, processor = _memory_mb(run), _processor_seconds(run)
        times = sorted(_timed(http) for _ in range(requests))
        more = {"memory_mb": memory, "memory_after_mb": _memory_mb(run)}
        more["cpu_ms"] = round(1000 * (_processor_seconds(run) - processor) / requests, 1)
    finally:
        run.end()
    found = {"p50_ms": times[len(times) // 2], "p95_ms": times[int(0.95 * len(times))], "first_ms": first}
    return {
        "submissions": count,
        "teams": teams,
        "requests": requests,
        **{k: round(1000 * v, 1) for k, v in found.items()},
        **more,
    }


def _memory_mb(run: Soak) -> float:
    """Return what the server holds in memory, resident."""
    pages = int(Path(f"/proc/{run.processes['server'].pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _processor_seconds(run: Soak) -> float:
    """Return what the server has taken of the processors."""
    after_name = Path(f"/proc/{run.processes['server'].pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _timed(http: Any) -> float:
    began = time.perf_counter()
    assert http.get("/board").status_code == 200
    return time.perf_counter() - began


def _send(port: int, token: str, numbers: list[int], archives: Callable[[int], bytes]) -> None:
    client = Client(f"http://127.0.0.1:{port}", token)
    for number in numbers:
        key = f"submission-{number}"
        content = archives(number)
        while True:  # the client gives up after a while; a team would not, and sends the same request again
            try:
                client.send(content, key, key=key)
                break
            except CuveeError:
                time.sleep(0.5)


def _count_over(database: Database) -> int:
    with database.read() as connection:
        over = sa.select(sa.func.count()).where(runs.c.state.in_([state.value for state in FINAL]))
        return int(connection.execute(over).scalar_one())


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server does not start")


def serve_part(url: str, port: int) -> None:
    """Be the server."""
    from cuvee.competition.run import server_of

    service = Service(open_database(url), always_open(), LIMITS)
    server_of(service, host="127.0.0.1", port=port, log_level="error").run()


def work_part(port: int, token: str, family: Path | None, scratch: Path | None) -> None:
    """Be a worker on another machine; one whose server is away waits for it."""
    from cuvee.competition.run import stopped_by_signals
    from cuvee.competition.worker import Worker

    answers, stop = FakeJudge(competition=always_open()), stopped_by_signals()

    def slowly(*arguments: Any) -> Any:
        time.sleep(random.random() * 0.1)
        return answers(*arguments)

    judge = slowly if family is None else real_judge(family, answers)
    while not stop.is_set():
        try:
            source = ServerSource(Client(f"http://127.0.0.1:{port}", token), always_open().digest, key_of(token))
            Worker(source, judge, Fitness, scratch).run(stop)
        except CuveeError:
            time.sleep(0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["server", "worker"])
    parser.add_argument("--url", default="")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="")
    parser.add_argument("--submissions", type=int, default=500)
    parser.add_argument("--teams", type=int, default=50)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--tiers", nargs="*", choices=TIERS, default=[])
    parser.add_argument("--family", type=Path)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--board", type=int, default=0)
    parser.add_argument("--requests", type=int, default=200)
    given = parser.parse_args()
    if given.part == "server":
        serve_part(given.url, given.port)
        return
    if given.part == "worker":
        work_part(given.port, given.token, given.family, given.scratch)
        return
    with tempfile.TemporaryDirectory() as folder:
        url = given.url or sqlite_url(Path(folder) / "soak.db")
        if given.board:
            print(json.dumps(board_page(url, given.board, given.requests, given.teams)))
            return
        amounts = {"count": given.submissions, "teams": given.teams, "workers": given.workers, "kills": given.kills}
        print(json.dumps(soak(url, Path(folder), **amounts, minutes=given.minutes, tiers=given.tiers)))


if __name__ == "__main__":
    main()
