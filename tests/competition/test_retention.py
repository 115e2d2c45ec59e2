"""What the server does not keep for ever: logs, sessions, ended tokens, workers that are gone. Verdicts it keeps."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from competition.made import Clock, tiny_competition, verdict
from competition.serving import Served, beside, serve
from cuvee.competition import audit, retention
from cuvee.competition.database import Database
from cuvee.competition.fitness import Fitness
from cuvee.competition.limits import Limits
from cuvee.competition.local import make_token
from cuvee.competition.retention import LOG_IS_GONE, remove_old
from cuvee.competition.states import Role
from cuvee.competition.tables import metadata

KEEP = timedelta(days=30)


def clean(served: Served) -> Mapping[str, int]:
    with served.service.database.write() as connection:
        return remove_old(connection, served.service.competition, KEEP, served.clock())


def rows(served: Served, table: str) -> list[tuple[Any, ...]]:
    with served.service.database.read() as connection:
        return [tuple(row) for row in connection.execute(sa.select(metadata.tables[table]))]


def test_logs_are_removed_after_their_time_and_everything_else_stays(database: Database, clock: Clock) -> None:
    for served in serve(database, clock, tiny_competition(logs="all")):
        served.send()
        served.judge_all(lambda *_: verdict(log="the answers of the first\n"))  # type: ignore[arg-type]  # a judge
        clock.advance(days=20)
        served.send(key="later")
        served.judge_all(lambda *_: verdict(log="the answers of the second\n"))  # type: ignore[arg-type]  # a judge
        clock.advance(days=11)
        before = {name: rows(served, name) for name in metadata.tables}
        assert clean(served) == {"logs": 1}
        assert LOG_IS_GONE in served.ask("organiser", "GET", "/api/submissions/1/logs").text
        assert "first" not in served.ask("organiser", "GET", "/api/submissions/1/logs").text
        assert "the second" in served.ask("organiser", "GET", "/api/submissions/2/logs").text
        after = {name: rows(served, name) for name in metadata.tables}
        assert {name for name in after if after[name] != before[name]} == {"logs", "audit"}
        line = served.ask("organiser", "GET", "/api/organiser/audit").json()[-1]
        assert (line["role"], line["action"], line["details"]) == ("queue", "old rows removed", {"logs": 1})
        assert clean(served) == {}, "there is nothing left to remove, and no line more"
        assert len(rows(served, "audit")) == len(after["audit"])
        with database.read() as connection:
            assert audit.look_at_chain(connection).is_whole


def test_a_log_of_a_run_that_is_not_over_stays(served: Served) -> None:
    served.send()
    served.judge_all()
    served.ask("organiser", "POST", "/api/organiser/submissions/1/rerun")
    served.clock.advance(days=100)
    assert "logs" not in clean(served)
    assert "all went well" in served.ask("organiser", "GET", "/api/submissions/1/logs").text


def test_sessions_that_are_over_go_without_a_line(served: Served) -> None:
    served.http.post("/sign-in", data={"token": served.tokens["team"]})
    there = len(rows(served, "tokens"))
    lines = len(rows(served, "audit"))
    served.clock.advance(hours=13)
    assert clean(served) == {}
    assert len(rows(served, "tokens")) == there - 1
    assert len(rows(served, "audit")) == lines


def test_tokens_that_ended_long_ago_go_and_valid_ones_stay(served: Served) -> None:
    for _ in range(3):
        make_token(served.service, Role.MONITOR, "prometheus")
    with served.service.database.write() as connection:
        revoked = metadata.tables["tokens"].update().where(metadata.tables["tokens"].c.revoked_at.is_not(None))
        connection.execute(revoked.values(revoked_at=served.clock()))
    served.clock.advance(days=29)
    assert clean(served) == {}
    served.clock.advance(days=2)
    assert clean(served) == {"tokens": 2}
    for who in ("team", "worker", "organiser"):
        assert served.ask(who, "GET", "/api/me").status_code == 200


def test_workers_that_are_gone_for_long_are_forgotten_unless_they_hold_a_run(served: Served) -> None:
    served.send()
    for name in ("gone", "judging"):
        beside(served.service, name).enter(Fitness())
    assert beside(served.service, "judging").claim() is not None
    served.clock.advance(days=31)
    assert clean(served) == {"workers": 1}
    assert [row[0] for row in rows(served, "workers")] == ["judging"]


def test_an_archive_that_a_cancelled_submission_still_has_is_dropped(database: Database, clock: Clock) -> None:
    """As earlier versions left them: today a submission that is cancelled drops its archive at once."""
    for served in serve(database, clock, tiny_competition()):
        served.send(title="shared", weight=1)
        served.send("other", title="shared", weight=1)
        served.send(title="alone", key="b", weight=2)
        for number in (1, 3):
            assert served.ask("team", "POST", f"/api/submissions/{number}/cancel").status_code == 200
        with database.write() as connection:
            table = metadata.tables["archives"]
            connection.execute(table.update().where(table.c.content == b"").values(content=b"left behind"))
            recipes = metadata.tables["submissions"].update().values(recipe="left behind")
            connection.execute(recipes)
        clock.advance(days=31)
        assert clean(served) == {"archives": 1}
        contents = [bytes(row[1]) for row in rows(served, "archives")]
        assert sorted(len(content) > 0 for content in contents) == [False, True]
        assert served.judge_all() == 1


def test_a_running_server_removes_what_is_old(sqlite: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from cuvee.competition import app

    monkeypatch.setattr(app, "SECONDS_BETWEEN_LOOKS", 0.01)
    for served in serve(sqlite, clock, tiny_competition(logs="all"), Limits(keep=KEEP)):
        served.send()
        served.judge_all()
        clock.advance(days=31)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if LOG_IS_GONE in served.ask("organiser", "GET", "/api/submissions/1/logs").text:
                return
            time.sleep(0.02)
        raise AssertionError("the log is still there")


def test_it_is_looked_for_once_an_hour(clock: Clock) -> None:
    duty = retention.Duty()
    assert duty.is_due(clock())
    assert not duty.is_due(clock())
    clock.advance(minutes=61)
    assert duty.is_due(clock())
