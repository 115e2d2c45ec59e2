"""Submissions that our code fails on: the organiser decides, no worker tries again, and the quota counts until then."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from competition.made import Clock, tiny_competition, verdict
from competition.serving import Served, beside, serve
from cuvee.competition.database import Database
from cuvee.competition.states import MEANING, State
from cuvee.submission.verdict import Verdict


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition())


def unclear(*_: object) -> Verdict:
    return replace(verdict(outcome="rejected", reason="crash", message="TypeError"), outcome="quarantined")


def quarantine(served: Served, key: str = "a") -> int:
    """Send a submission that our code fails on."""
    number = served.send(key=key, title=f"try {key}")
    assert served.judge_all(unclear) == 1  # type: ignore[arg-type]  # a judge is a function
    return number


def shown(served: Served, number: int, who: str = "team") -> dict[str, object]:
    return dict(served.ask(who, "GET", f"/api/submissions/{number}").json())


def used(served: Served) -> int:
    return int(served.ask("team", "GET", "/api/quota").json()["used_total"])


def test_it_is_judged_once_and_no_worker_goes_out_for_it(everywhere: Served) -> None:
    numbers = [quarantine(everywhere, key) for key in "abcd"]
    everywhere.clock.advance(hours=1)
    assert everywhere.judge_all() == 0
    assert {shown(everywhere, number)["state"] for number in numbers} == {"quarantined"}
    (worker,) = everywhere.ask("organiser", "GET", "/api/organiser/workers").json()
    assert (worker["ready"], worker["judged"], worker["failures"]) == (True, 4, 0)
    assert used(everywhere) == 4


def test_the_team_reads_that_the_organiser_looks_at_it(everywhere: Served) -> None:
    number = quarantine(everywhere)
    assert shown(everywhere, number)["meaning"] == MEANING[State.QUARANTINED]
    assert "the organiser looks at it" in everywhere.page("team", f"/submissions/{number}").text
    assert shown(everywhere, number)["attempt"] == 1
    assert "Reject as crash" not in everywhere.page("team", f"/submissions/{number}").text


@pytest.mark.parametrize(("verb", "state"), [("rerun", "queued"), ("reject", "failed")])
def test_the_organiser_decides_by_the_api(everywhere: Served, verb: str, state: str) -> None:
    number = quarantine(everywhere)
    assert everywhere.ask("team", "POST", f"/api/organiser/submissions/{number}/{verb}").status_code == 403
    answer = everywhere.ask("organiser", "POST", f"/api/organiser/submissions/{number}/{verb}").json()
    assert answer["state"] == state
    assert used(everywhere) == 1


@pytest.mark.parametrize(("verb", "state"), [("rerun", "queued"), ("reject", "failed")])
def test_the_organiser_decides_by_the_page(everywhere: Served, verb: str, state: str) -> None:
    number = quarantine(everywhere)
    page = everywhere.page("organiser", "/organiser").text
    assert f'<button class="button" name="verb" value="{verb}"' in page
    everywhere.http.cookies.set("cuvee", everywhere.tokens["organiser"])
    everywhere.http.post(f"/organiser/submissions/{number}", data={"verb": verb})
    assert shown(everywhere, number)["state"] == state
    assert "Reject as crash" not in everywhere.page("organiser", "/organiser").text


def test_a_rejected_one_says_so_and_nothing_else_can_be_rejected_by_hand(everywhere: Served) -> None:
    number = quarantine(everywhere)
    path = f"/api/organiser/submissions/{number}/reject"
    everywhere.ask("organiser", "POST", path)
    rejected = shown(everywhere, number)
    assert (rejected["state"], rejected["reason_code"]) == ("failed", "crash")
    assert rejected["reason"] == "TypeError; rejected as a crash by the organiser"
    again = everywhere.ask("organiser", "POST", path)
    assert (again.status_code, "this one is failed" in again.text) == (409, True)


def test_its_quota_comes_back_when_the_organiser_gives_it_back(everywhere: Served) -> None:
    number = quarantine(everywhere)
    everywhere.ask("organiser", "POST", f"/api/organiser/submissions/{number}/give-back")
    assert used(everywhere) == 0


def test_nothing_is_frozen_before_it_is_decided_and_final_runs_are_decided_too(everywhere: Served) -> None:
    first, second = quarantine(everywhere, "a"), quarantine(everywhere, "b")
    refused = everywhere.ask("organiser", "POST", "/api/organiser/freeze").json()["error"]["message"]
    assert "2 runs are suspect or quarantined" in refused
    everywhere.ask("organiser", "POST", f"/api/organiser/submissions/{first}/reject")
    everywhere.ask("organiser", "POST", f"/api/organiser/submissions/{second}/rerun")
    everywhere.judge_all()
    assert everywhere.ask("organiser", "POST", "/api/organiser/freeze").json() == {"count": 1}
    everywhere.judge_all(unclear)  # type: ignore[arg-type]  # a judge is a function
    assert everywhere.ask("organiser", "POST", "/api/organiser/publish").status_code == 409
    assert 'value="reject-final"' in everywhere.page("organiser", "/organiser").text
    path = f"/api/organiser/submissions/{second}/reject?purpose=final"
    assert everywhere.ask("organiser", "POST", path).status_code == 200
    assert everywhere.ask("organiser", "GET", "/api/organiser/finals").json()["states"] == {"failed": 1}


def test_a_worker_that_fails_its_test_takes_its_quarantine_back(everywhere: Served) -> None:
    number = quarantine(everywhere)
    beside(everywhere.service).failed("a disk is full")
    assert shown(everywhere, number)["state"] == "suspect"
    assert used(everywhere) == 0
