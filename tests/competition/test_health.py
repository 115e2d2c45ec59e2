"""What the server says of itself: in a sentence to everybody, in numbers to whoever watches it."""

from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from competition.made import ORGANISER, Clock, tiny_competition
from competition.serving import Served, beside, serve
from cuvee.competition.backup import remember_backup
from cuvee.competition.beside import DatabaseSource
from cuvee.competition.database import Database
from cuvee.competition.fitness import Fitness
from cuvee.competition.limits import Limits
from cuvee.competition.local import make_token
from cuvee.competition.states import Role

Metrics = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def metrics_of(served: Served, who: str = "organiser") -> Metrics:
    answer = served.ask(who, "GET", "/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def worker_of(served: Served, name: str = "gpu") -> DatabaseSource:
    return beside(served.service, name)


def test_an_idle_server_is_well_and_shows_visitors_no_details(served: Served) -> None:
    answer = served.ask(None, "GET", "/api/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert answer.json()["details"] is None
    assert served.ask("team", "GET", "/api/health").json()["details"] is None


def test_work_that_waits_while_no_worker_is_seen_is_a_sentence_and_503(served: Served) -> None:
    worker_of(served).enter(Fitness())
    served.send()
    served.clock.advance(minutes=4)
    assert served.ask(None, "GET", "/api/health").status_code == 200, "it was seen a moment ago"
    served.clock.advance(minutes=2)
    answer = served.ask(None, "GET", "/api/health")
    assert answer.status_code == 503
    assert answer.json()["problems"] == ["submissions wait, and no worker was seen for 5 minutes"]
    assert "no worker was seen for 5 minutes" in served.page("organiser", "/organiser").text
    worker_of(served).enter(Fitness())
    assert served.ask(None, "GET", "/api/health").status_code == 200


def test_a_worker_that_judges_for_long_is_alive_and_one_out_of_service_is_not(served: Served) -> None:
    served.send()
    served.send(key="another")
    source = worker_of(served)
    source.enter(Fitness())
    job = source.claim()
    assert job is not None
    for _ in range(60):
        served.clock.advance(seconds=30)
        source.renew(job, "merges")
    details = served.ask("organiser", "GET", "/api/health").json()["details"]
    assert details["workers_alive"] == 1
    assert details["oldest_wait_seconds"] == 1800
    source.leave("the disk is full")
    assert served.ask("organiser", "GET", "/api/health").json()["details"]["workers_alive"] == 0


def test_a_queue_that_is_too_old_is_not_well(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(), Limits(longest_wait=timedelta(hours=2))):
        served.send()
        clock.advance(hours=3)
        worker_of(served).enter(Fitness())
        problems = served.ask(None, "GET", "/api/health").json()["problems"]
        assert problems == ["the oldest submission in the queue has waited for more than 2 hours"]


def test_a_backup_that_is_missing_or_old_is_not_well_where_backups_are_expected(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(), Limits(backup_every=timedelta(hours=24))):
        assert served.ask(None, "GET", "/api/health").json()["problems"] == ["no backup was made yet"]
        remember_backup(sqlite, ORGANISER, clock())
        assert served.ask(None, "GET", "/api/health").status_code == 200
        assert served.ask("organiser", "GET", "/api/health").json()["details"]["last_backup_at"] is not None
        clock.advance(hours=25)
        problems = served.ask(None, "GET", "/api/health").json()["problems"]
        assert problems == ["the last backup was made more than 24 hours ago"]
        remember_backup(sqlite, ORGANISER, clock())
        lines = served.ask("organiser", "GET", "/api/organiser/audit").json()
        assert [line["action"] for line in lines].count("backup made") == 2


def test_a_database_that_is_away_is_a_sentence_and_503(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def away() -> None:
        raise OperationalError("SELECT 1", {}, Exception("no such host"))

    monkeypatch.setattr(served.service.database, "read", away)
    answer = served.ask(None, "GET", "/api/health")
    assert answer.status_code == 503
    assert answer.json()["problems"] == ["the database is busy or away"]


def test_metrics_are_what_prometheus_reads_and_say_what_is(served: Served) -> None:
    served.send()
    served.judge_all(name='the "first"')
    served.send(key="waits")
    served.clock.advance(seconds=90)
    metrics = metrics_of(served)
    assert metrics["cuvee_problems", ()] == 0
    assert metrics["cuvee_runs", (("purpose", "public"), ("state", "scored"))] == 1
    assert metrics["cuvee_runs", (("purpose", "public"), ("state", "queued"))] == 1
    assert metrics["cuvee_runs", (("purpose", "public"), ("state", "errored"))] == 0
    assert metrics["cuvee_oldest_wait_seconds", ()] == 90
    assert metrics["cuvee_workers", (("state", "alive"),)] == 1
    assert metrics["cuvee_workers", (("state", "out"),)] == 0
    assert metrics["cuvee_worker_judged_total", (("worker", 'the "first"'),)] == 1
    seen = metrics["cuvee_worker_seen_timestamp_seconds", (("worker", 'the "first"'),)]
    assert seen == (served.clock() - timedelta(seconds=90)).timestamp()
    assert metrics["cuvee_database_bytes", ()] > 10_000
    assert ("cuvee_last_backup_timestamp_seconds", ()) not in metrics
    remember_backup(served.service.database, ORGANISER, served.clock())
    assert metrics_of(served)["cuvee_last_backup_timestamp_seconds", ()] == served.clock().timestamp()


def test_metrics_on_postgresql(database: Database, clock: Clock) -> None:
    for served in serve(database, clock, tiny_competition()):
        served.send()
        metrics = metrics_of(served)
        assert metrics["cuvee_database_bytes", ()] > 10_000
        assert metrics["cuvee_oldest_wait_seconds", ()] == 0


def test_a_token_of_a_monitor_reads_metrics_and_details_and_nothing_else(served: Served) -> None:
    token = make_token(served.service, Role.MONITOR, "prometheus")
    headers = {"Authorization": f"Bearer {token}"}
    assert token.startswith("cuvee-monitor_")
    assert served.ask(None, "GET", "/metrics", headers=headers).status_code == 200
    assert served.ask(None, "GET", "/api/health", headers=headers).json()["details"] is not None
    for path in ("/api/organiser/queue", "/api/organiser/export", "/api/submissions/1/logs"):
        assert served.ask(None, "GET", path, headers=headers).status_code == 403
    assert served.page(None, "/sign-in").status_code == 200
    assert served.http.post("/sign-in", data={"token": token}).status_code == 403


@pytest.mark.parametrize(("who", "status"), [(None, 401), ("team", 403), ("worker", 403)])
def test_nobody_else_reads_metrics_and_the_refusal_is_for_programs(
    served: Served, who: str | None, status: int
) -> None:
    answer = served.ask(who, "GET", "/metrics")
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
