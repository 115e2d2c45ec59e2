"""The organiser's console: the queue at a glance, pause, who goes first, many judged again, news, later deadlines."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from competition.made import Clock, tiny_competition, verdict
from competition.serving import FakeJudge, Served, serve
from cuvee.competition.database import Database
from cuvee.competition.deadlines import with_more_time

CONSOLE = "/api/organiser/console"


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition())


def ask(served: Served, path: str, **body: object) -> dict[str, object]:
    answer = served.ask("organiser", "POST", f"/api/organiser/{path}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


class Order:
    """A judge that notes the titles in the order in which they came, and rejects some."""

    def __init__(self, rejected: str = "none") -> None:
        self.seen: list[str] = []
        self.rejected = rejected
        self.right = FakeJudge()

    def __call__(self, archive, *rest):  # type: ignore[no-untyped-def]  # as the judge is called
        from cuvee.submission.pack import read_archive

        self.seen.append(read_archive(archive).name)
        if self.seen[-1] == self.rejected:
            return verdict(outcome="rejected", reason="memory", message="over the budget's memory")
        return self.right(archive, *rest)


def test_while_judging_is_paused_no_worker_gets_anything(everywhere: Served) -> None:
    served = everywhere
    served.send(title="one")
    assert ask(served, "pause", paused=True)["paused"] is True
    judge = Order()
    served.judge_all(judge)
    assert judge.seen == []
    assert served.ask("organiser", "GET", CONSOLE).json()["waiting"] == 1
    assert served.ask("organiser", "POST", "/api/organiser/pause", json={"paused": True}).status_code == 409
    ask(served, "pause", paused=False)
    served.judge_all(judge)
    assert judge.seen == ["one"]
    actions = [line["action"] for line in served.ask("organiser", "GET", "/api/organiser/audit").json()]
    assert {"paused", "resumed"} <= {*actions}


def test_what_is_moved_up_goes_first_and_only_once(everywhere: Served) -> None:
    served = everywhere
    first, *_, last = [served.send(title=f"try {n}", key=str(n), weight=n + 1) for n in range(4)]
    served.ask("organiser", "POST", f"/api/organiser/submissions/{last}/move-up")
    own = served.ask("team", "GET", f"/api/submissions/{last}").json()
    assert own["queue_position"] == 1
    judge = Order()
    served.judge_all(judge)
    assert judge.seen == ["try 3", "try 0", "try 1", "try 2"]
    refused = served.ask("organiser", "POST", f"/api/organiser/submissions/{last}/move-up")
    assert refused.status_code == 409
    assert "only what waits" in refused.json()["error"]["message"]
    for number in (last, first):
        served.ask("organiser", "POST", f"/api/organiser/submissions/{number}/rerun")
        served.clock.advance(seconds=1)
    served.clock.advance(seconds=-1)
    again = Order()
    served.judge_all(again)
    assert again.seen == ["try 3", "try 0"], "as they came: it is not moved up for ever"


def test_failures_of_the_hour_are_grouped_and_judged_again_together(everywhere: Served) -> None:
    served = everywhere
    for n in range(3):
        served.send(title="large", key=str(n), weight=n + 1)
    served.send("other", title="small")
    served.judge_all(Order(rejected="large"))
    found = served.ask("organiser", "GET", CONSOLE).json()
    assert (found["judged"], found["waiting"]) == (4, 0)
    (failure,) = found["failures"]
    assert (failure["state"], failure["reason_code"], failure["count"]) == ("failed", "memory", 3)
    page = served.page("organiser", "/organiser").text
    assert "Failures of the last hour" in page
    assert 'value="failed:memory"' in page
    assert ask(served, "judge-many", state="failed", reason_code="disk") == {"count": 0}
    assert ask(served, "judge-many", state="failed", reason_code="memory") == {"count": 3}
    served.judge_all()
    assert {each["state"] for each in served.ask("organiser", "GET", "/api/submissions").json()} == {"scored"}
    served.clock.advance(hours=2)
    assert served.ask("organiser", "GET", CONSOLE).json()["failures"] == []
    assert served.ask("organiser", "POST", "/api/organiser/judge-many", json={"state": "queued"}).status_code == 422


def test_an_announcement_stands_on_the_first_page_until_it_is_taken_back(everywhere: Served) -> None:
    served = everywhere
    ask(served, "announcements", text="Workers are <moved> at noon")
    assert "Workers are &lt;moved&gt; at noon" in served.page(None, "/").text
    form = {"verb": "take-back", "number": "0"}
    assert served.page("organiser", "/organiser").status_code == 200
    served.http.cookies.set("cuvee", served.tokens["organiser"])
    assert served.http.post("/organiser/console", data=form, follow_redirects=False).status_code == 303
    served.http.cookies.clear()
    assert "at noon" not in served.page(None, "/").text
    for text in ("", " ", "x" * 501):
        assert served.ask("organiser", "POST", "/api/organiser/announcements", json={"text": text}).status_code == 422


def test_a_later_deadline_holds_for_all_that_asks_for_it(everywhere: Served) -> None:
    served = everywhere
    before = served.ask(None, "GET", "/api/competition").json()
    closes, later = "2026-07-01T00:00:00Z", "2026-07-03T00:00:00Z"
    assert before["phases"][0]["closes"] == closes
    ask(served, "deadline", phase="open", closes=later)
    after = served.ask(None, "GET", "/api/competition").json()
    assert [phase["closes"] for phase in after["phases"]] == [later, "2026-08-03T00:00:00Z"]
    assert after["phases"][1]["opens"] == later
    assert after["digest"] == before["digest"], "the file and the verdicts by it stay as they are"
    served.clock.now = served.clock.now.replace(month=7, day=2)
    served.send(title="late, and in time")
    assert served.ask("team", "GET", "/api/quota").json()["phase"] == "open"
    assert "2026-07-03 00:00 UTC" in served.page(None, "/").text
    served.clock.advance(days=1)
    assert served.ask("team", "POST", "/api/submissions", content=b"too late").status_code in (409, 422)
    for closes in ("2026-07-01T00:00:00Z", later):
        refused = served.ask("organiser", "POST", "/api/organiser/deadline", json={"phase": "open", "closes": closes})
        assert refused.status_code == 422, refused.text


def test_nothing_moves_once_the_ranking_is_frozen(everywhere: Served) -> None:
    served = everywhere
    served.send()
    served.judge_all()
    assert served.ask("organiser", "POST", "/api/organiser/freeze").status_code == 200
    body = {"phase": "open", "closes": "2026-09-01T00:00:00Z"}
    assert served.ask("organiser", "POST", "/api/organiser/deadline", json=body).status_code == 409


def test_phases_after_a_longer_one_begin_later() -> None:
    before = tiny_competition()
    after = with_more_time(before, {"open": 3600.0})
    assert after.phases[0].opens == before.phases[0].opens
    hour = timedelta(hours=1)
    assert after.phases[1].opens == before.phases[1].opens + hour
    assert after.phases[1].closes == before.phases[1].closes + hour
    assert after.digest == before.digest


def test_nobody_but_the_organiser_reaches_the_console(everywhere: Served) -> None:
    for who in ("team", "worker", None):
        assert everywhere.ask(who, "GET", CONSOLE).status_code in (401, 403)
    answer = everywhere.page("team", "/organiser")
    assert answer.status_code == 403
