"""What a worker has judged since its last passed test, when the next one fails: taken back, on both databases."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from competition.made import Clock, tiny_competition, verdict
from competition.serving import FakeJudge, Served, beside, serve
from cuvee.competition import audit
from cuvee.competition.beside import DatabaseSource
from cuvee.competition.database import Database
from cuvee.competition.fitness import Fitness
from cuvee.competition.tables import moves, private_results, public_results, verdicts


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition())


def worker(served: Served, name: str = "beside") -> DatabaseSource:
    return beside(served.service, name)


def state(served: Served, number: int) -> str:
    return str(served.ask("organiser", "GET", f"/api/submissions/{number}").json()["state"])


def used(served: Served) -> int:
    return int(served.ask("team", "GET", "/api/quota").json()["used_total"])


def alarms(served: Served) -> list[dict[str, object]]:
    return list(served.ask("organiser", "GET", "/api/organiser/alarms").json())


def rejected(*_: object) -> object:
    return verdict(outcome="rejected", reason="rules", message="too large")


def test_every_end_since_the_last_passed_test_is_taken_back(everywhere: Served) -> None:
    scored = everywhere.send(key="a")
    everywhere.judge_all()
    refused = everywhere.send(key="b")
    everywhere.judge_all(rejected)  # type: ignore[arg-type]  # a judge is a function
    assert used(everywhere) == 2
    assert [state(everywhere, number) for number in (scored, refused)] == ["scored", "rejected"]
    worker(everywhere).failed("a disk is full")
    assert state(everywhere, scored) == "scored", "a passed test has come after it"
    assert state(everywhere, refused) == "suspect"
    assert used(everywhere) == 1


def test_what_was_found_is_forgotten_and_the_log_says_all(everywhere: Served) -> None:
    number = everywhere.send()
    everywhere.judge_all()
    worker(everywhere).failed("a disk is full")
    with everywhere.service.database.read() as connection:
        for table in (verdicts, public_results, private_results):
            assert connection.execute(sa.select(table)).all() == []
        (line,) = [line for line in audit.lines(connection) if line.action == "alarm"]
        last = connection.execute(sa.select(moves).order_by(moves.c.id.desc()).limit(1)).one()
        assert audit.look_at_chain(connection).is_whole
    assert line.details == {
        "reason": "a disk is full",
        "queued": 0,
        "suspect": 1,
        "standing": 0,
        "submissions": [number],
        "quota_given_back": [number],
    }
    assert (last.start, last.end, last.by) == ("scored", "suspect", "queue")
    shown = everywhere.ask("team", "GET", f"/api/submissions/{number}").json()
    assert "failed its own test" in shown["reason"]


def test_with_another_worker_in_service_it_goes_back_to_the_queue(everywhere: Served) -> None:
    number = everywhere.send()
    everywhere.judge_all()
    worker(everywhere, "other").enter(Fitness())
    worker(everywhere).failed("a disk is full")
    assert state(everywhere, number) == "queued"
    assert everywhere.judge_all(FakeJudge(), "other") == 1
    assert state(everywhere, number) == "scored"
    assert alarms(everywhere)[0]["queued"] == 1


def test_a_worker_that_nobody_has_seen_for_long_is_no_other(everywhere: Served) -> None:
    number = everywhere.send()
    worker(everywhere, "other").enter(Fitness())
    everywhere.judge_all()
    everywhere.clock.advance(hours=1)
    worker(everywhere).failed("a disk is full")
    assert state(everywhere, number) == "suspect"


def test_an_alarm_stays_until_the_organiser_closes_it(everywhere: Served) -> None:
    numbers = [everywhere.send(key=key) for key in "ab"]
    everywhere.judge_all()
    worker(everywhere).failed("a disk is full")
    worker(everywhere).failed("the sandbox is gone")
    (alarm,) = alarms(everywhere)
    assert (alarm["reason"], alarm["suspect"], alarm["waiting"]) == ("the sandbox is gone", 2, 2)
    path = f"/api/organiser/alarms/{alarm['id']}"
    assert everywhere.ask("organiser", "POST", f"{path}/rerun").json() == {"count": 2}
    assert everywhere.judge_all(name="mended") == 2
    assert {state(everywhere, number) for number in numbers} == {"scored"}
    assert alarms(everywhere)[0]["waiting"] == 0
    assert everywhere.ask("organiser", "POST", f"{path}/close").json() == []
    worker(everywhere).failed("again")
    assert [each["suspect"] for each in alarms(everywhere)] == [0]


def test_the_page_has_the_same_buttons(everywhere: Served) -> None:
    number = everywhere.send()
    everywhere.judge_all()
    worker(everywhere).failed("a disk is full")
    assert "Judge 1 again" in everywhere.page("organiser", "/organiser/alarms").text
    form = everywhere.http.post
    everywhere.http.cookies.set("cuvee", everywhere.tokens["organiser"])
    assert form("/organiser/alarms/1", data={"verb": "rerun"}).status_code == 303
    assert form("/organiser/alarms/1", data={"verb": "close"}).status_code == 303
    assert form("/organiser/alarms/1", data={"verb": "burn"}).status_code == 422
    assert state(everywhere, number) == "queued"
    assert "Close the alarm" not in everywhere.page("organiser", "/organiser").text


def test_nothing_is_frozen_while_a_run_is_suspect_and_what_is_published_stands(everywhere: Served) -> None:
    number = everywhere.send()
    everywhere.judge_all()
    worker(everywhere).failed("a disk is full")
    refused = everywhere.ask("organiser", "POST", "/api/organiser/freeze")
    assert "1 runs are suspect" in refused.json()["error"]["message"]
    everywhere.ask("organiser", "POST", f"/api/organiser/submissions/{number}/rerun")
    everywhere.judge_all(name="mended")
    everywhere.ask("organiser", "POST", "/api/organiser/freeze")
    everywhere.judge_all(name="mended")
    assert everywhere.ask("organiser", "POST", "/api/organiser/publish").json() == {"count": 1}
    worker(everywhere, "mended").failed("a disk is full")
    assert state(everywhere, number) == "scored"
    assert [each["standing"] for each in alarms(everywhere) if each["worker"] == "mended"] == [1]
    assert len(everywhere.ask(None, "GET", "/api/final").json()["places"]) == 1


def test_a_final_run_is_taken_back_before_it_is_published(everywhere: Served) -> None:
    everywhere.send()
    everywhere.judge_all()
    everywhere.ask("organiser", "POST", "/api/organiser/freeze")
    everywhere.judge_all(name="bad")
    worker(everywhere, "bad").failed("a disk is full")
    finals = everywhere.ask("organiser", "GET", "/api/organiser/finals").json()
    assert (finals["ready"], finals["states"]) == (False, {"queued": 1})
    assert everywhere.ask("organiser", "POST", "/api/organiser/publish").status_code == 409
    everywhere.judge_all()
    assert everywhere.ask("organiser", "POST", "/api/organiser/publish").json() == {"count": 1}
