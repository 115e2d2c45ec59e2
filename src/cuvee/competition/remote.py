"""A worker on another machine: needs the competition's folder and a token, no database."""

from pathlib import Path

from cuvee.competition.client import Client, ServerSource
from cuvee.competition.judging import Bench
from cuvee.competition.worker import Worker
from cuvee.submission.competition import load_competition


def work_for(folder: Path, server: str, token: str, *, once: bool, scratch: Path | None = None) -> int:
    """Work for a server until interrupted, with jobs in the `scratch` folder. Return how many runs were worked on."""
    import threading

    competition = load_competition(folder)
    bench = Bench(competition, scratch)
    source = ServerSource(Client(server, token), competition.digest)
    return Worker(source, bench, bench.self_test, scratch).run(threading.Event(), once=once)
