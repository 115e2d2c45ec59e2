"""The competition in numbers, as Prometheus reads them."""

from collections.abc import Iterable, Mapping
from itertools import product

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from cuvee.competition.access import Asks, Serves
from cuvee.competition.health import Health, count_runs, database_bytes, look
from cuvee.competition.limits import Limits
from cuvee.competition.runs import HIDDEN, PUBLIC
from cuvee.competition.states import State
from cuvee.version import __version__

routes = APIRouter(include_in_schema=False)


@routes.get("/metrics")
def metrics(service: Serves, _actor: Asks) -> Response:
    """Return the numbers of this moment."""
    with service.database.read() as connection:
        health = look(connection, service.now(connection))
        families = [
            InfoMetricFamily("cuvee", "The server.", {"version": __version__}),
            *_of_health(health, service.limits),
            *_of_workers(health, service.limits),
            _of_runs(count_runs(connection)),
            _gauge("cuvee_database_bytes", "Size of the database on its disk.", database_bytes(connection)),
        ]
    return Response(generate_latest(Families(families)), media_type=CONTENT_TYPE_LATEST)


class Families(Collector):
    """Metrics that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_health(health: Health, limits: Limits) -> Iterable[Metric]:
    yield _gauge("cuvee_problems", "How many things are not well, by /api/health.", len(health.problems(limits)))
    wait = health.longest_wait.total_seconds()
    yield _gauge("cuvee_oldest_wait_seconds", "How long the oldest run in the queue has waited.", wait)
    if health.last_backup is not None:
        made_at = health.last_backup.timestamp()
        yield _gauge("cuvee_last_backup_timestamp_seconds", "When `competition backup` was last done.", made_at)


def _of_workers(health: Health, limits: Limits) -> Iterable[Metric]:
    states = [health.state_of(worker, limits) for worker in health.workers]
    by_state = GaugeMetricFamily("cuvee_workers", "Workers by state.", labels=["state"])
    for state in ("alive", "silent", "out"):
        by_state.add_metric([state], states.count(state))
    seen = GaugeMetricFamily("cuvee_worker_seen_timestamp_seconds", "When a worker was last seen.", labels=["worker"])
    judged = CounterMetricFamily("cuvee_worker_judged", "Runs that a worker has judged.", labels=["worker"])
    failures = GaugeMetricFamily("cuvee_worker_failures", "A worker's failures in a row.", labels=["worker"])
    for worker in health.workers:
        seen.add_metric([worker.name], worker.seen_at.timestamp())
        judged.add_metric([worker.name], worker.judged)
        failures.add_metric([worker.name], worker.failures)
    return by_state, seen, judged, failures


def _of_runs(counts: Mapping[tuple[str, str], int]) -> Metric:
    family = GaugeMetricFamily("cuvee_runs", "Runs by purpose and state.", labels=["purpose", "state"])
    for purpose, state in product((PUBLIC, HIDDEN), State):
        family.add_metric([purpose, state.value], counts.get((purpose, state.value), 0))
    return family


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value)
