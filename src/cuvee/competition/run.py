"""Runs a competition: the server with its local workers, or a worker alone."""

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path

import uvicorn

from cuvee.competition.actors import Actor
from cuvee.competition.app import make_app
from cuvee.competition.audit import look_at_chain
from cuvee.competition.connections import connection_class
from cuvee.competition.facts import SERVED, change_fact, fact, hold_facts_alone
from cuvee.competition.local import Workers, open_service, prepare
from cuvee.competition.messages import messengers_of
from cuvee.competition.service import Service
from cuvee.competition.states import Role
from cuvee.submission.sandbox.choose import Host

log = logging.getLogger("cuvee.competition")

NOT_STARTED = 3
"""Exit code of a server that could not start: that of uvicorn, whose releases name it in different modules."""


def serve(
    folder: Path, *, database_url: str | None, host: str, port: int, workers: int, log_level: str = "warning"
) -> None:
    """Serve until interrupted or told to end."""
    service = open_service(folder, database_url)
    # uvicorn, once it has closed, raises the signal again: it must end this process by way of the workers
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    server = server_of(service, host=host, port=port, log_level=log_level)
    keep_what_is_loaded()
    with Workers(folder, workers, database_url), contextlib.suppress(KeyboardInterrupt):
        server.run()
    service.database.close()
    if not server.started:
        sys.exit(NOT_STARTED)


def keep_what_is_loaded() -> None:
    """Take modules and the like out of the garbage collector's rounds: they stay, and take 0.1 s of each full one."""
    gc.collect()
    gc.freeze()


def server_of(service: Service, *, host: str, port: int, log_level: str = "warning") -> uvicorn.Server:
    """Return the server of a competition. It believes no header on where a visitor is but those of our proxies."""
    limits = service.limits
    config = uvicorn.Config(
        make_app(service),
        host=host,
        port=port,
        log_level=log_level,
        http=connection_class(limits),
        ws="none",
        proxy_headers=bool(limits.proxies),
        forwarded_allow_ips=list(limits.proxies),
        server_header=False,
    )
    return uvicorn.Server(config)


def ready(folder: Path, database_url: str | None) -> tuple[Service, Path | None]:
    """Open a competition, with its first entries; return it and the file of the organiser's token, if it has one.

    An audit log that was changed keeps nobody from it, but is told. Raises RecipeError where a private file would be
    handed out, and where e-mail is asked for and the environment has no account.
    """
    service = open_service(folder, database_url)
    messengers_of(service.limits, os.environ)
    for name in service.data_room.missing:
        log.warning("participants cannot get '%s': it is not in the competition's folder", name)
    with service.database.read() as connection:
        chain = look_at_chain(connection)
    if chain.broken:
        log.warning("%s", chain)
    if rules_changed_in_silence(service):
        log.warning(
            "competition.yaml is not the one that was served before, and is version %d as that was: teams that have it "
            "do not learn of the change. Raise 'version' and say in 'changelog' what is new",
            service.competition.version,
        )
    return service, prepare(service)


def rules_changed_in_silence(service: Service) -> bool:
    """Tell whether the file is another one than was served last, under the same version; from now on it is the last."""
    present = {"version": service.competition.version, "digest": service.competition.digest}
    with service.database.read() as connection:
        earlier = fact(connection, SERVED)
    if earlier == present:
        return False
    with service.database.write() as connection:
        hold_facts_alone(connection)
        change_fact(connection, SERVED, present)
    return earlier is not None and earlier["version"] == present["version"]


def work_beside(folder: Path, database_url: str | None, name: str, host: Host, *, once: bool) -> int:
    """Work beside the database. Return how many runs were worked on."""
    from cuvee.competition.beside import DatabaseSource
    from cuvee.competition.judging import Bench
    from cuvee.competition.worker import Worker
    from cuvee.competition.worker_keys import own_key

    service = open_service(folder, database_url)
    bench = Bench(service.competition, host)
    key = own_key(f"{folder.resolve()} {name}")
    source = DatabaseSource(service, Actor(Role.WORKER, name), key)
    return Worker(source, bench, bench.self_test, host.scratch).run(stopped_by_signals(), once=once)


def stopped_by_signals() -> threading.Event:
    """Return an event that is set when this process is asked to end: the run under way is finished first."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop
