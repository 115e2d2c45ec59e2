"""A worker on another machine: needs the competition's folder and a token, no database."""

from pathlib import Path

from cuvee.competition.client import Client, ServerSource
from cuvee.competition.judging import Bench
from cuvee.competition.worker import Worker
from cuvee.competition.worker_keys import own_key
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.sandbox.choose import Host


def work_for(folder: Path, server: str, token: str, host: Host, *, once: bool) -> int:
    """Work for a server until interrupted. Return how many runs were worked on."""
    import threading

    competition = load_competition(folder)
    bench = Bench(competition, host)
    source = ServerSource(Client(server, token), competition.digest, own_key(token))
    return Worker(source, bench, bench.self_test, host.scratch).run(threading.Event(), once=once)
