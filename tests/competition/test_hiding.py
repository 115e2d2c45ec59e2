"""Whoever is hidden is nowhere, whenever it is done: not on the board, not in the final ranking and its files."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from competition.made import ORGANISER, Clock, tiny_competition, verdict
from competition.serving import FakeJudge, Served, serve
from cuvee.competition.database import Database
from cuvee.competition.dump import dump
from cuvee.competition.hiding import hide_team
from cuvee.competition.site import write_site
from cuvee.competition.tables import private_results, submissions, teams
from cuvee.submission.verdict import Verdict

SKILLS = {"grand-cru": 0.95, "second": 0.6, "theirs": 0.3}


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition())


def skilled(archive: Path, *_: object) -> Verdict:
    """Judge by the title, which is the archive's name."""
    from cuvee.submission.pack import read_archive

    return verdict(SKILLS[read_archive(archive).name], 3)


def ready_to_publish(served: Served) -> None:
    """Vintners chose two submissions, Coopers one; all are judged on the private items."""
    for key in ("grand-cru", "second"):
        served.send("team", title=key, key=key)
    served.send("other", title="theirs")
    served.judge_all(skilled)  # type: ignore[arg-type]  # a judge is a function
    for number in (1, 2):
        served.ask("team", "POST", f"/api/submissions/{number}/select", json={"chosen": True})
    assert served.ask("organiser", "POST", "/api/organiser/freeze").json() == {"count": 3}
    served.judge_all(skilled)  # type: ignore[arg-type]  # a judge is a function


def hide(served: Served, what: str, number: int, hidden: bool = True) -> None:
    answer = served.ask("organiser", "POST", f"/api/organiser/{what}/{number}/hide", json={"hidden": hidden})
    assert answer.status_code == 200, answer.text


def publish(served: Served) -> dict[str, object]:
    answer = served.ask("organiser", "POST", "/api/organiser/publish")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def places(served: Served) -> list[tuple[int, list[int], str, int]]:
    found = served.ask(None, "GET", "/api/final").json()["places"]
    return [(each["place"], each["ranks"], each["team"]["name"], each["submission"]) for each in found]


def everything_public(served: Served, folder: Path) -> str:
    """All that visitors can read of the final ranking, as one text."""
    write_site(served.service, folder)
    answers = [served.ask(None, "GET", f"/api/final{ending}").text for ending in ("", ".csv")]
    files = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.*"))]
    return "\n".join([*answers, served.page(None, "/final").text, *files])


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("what", ["teams", "submissions"])
def test_nobody_who_is_hidden_is_in_the_final_ranking(
    everywhere: Served, tmp_path: Path, what: str, moment: str
) -> None:
    served = everywhere
    ready_to_publish(served)
    if moment == "after":
        publish(served)
        assert places(served) == [(1, [1, 1], "Vintners", 1), (2, [2, 2], "Coopers", 3)]
    hide(served, what, 1)
    if moment == "before":
        publish(served)
    expected = {
        "teams": [(1, [1, 1], "Coopers", 3)],
        "submissions": [(1, [1, 1], "Vintners", 2), (2, [2, 2], "Coopers", 3)],
    }
    assert places(served) == expected[what]
    shown = everything_public(served, tmp_path / "site")
    assert "grand-cru" not in shown
    assert ("Vintners" in shown) is (what == "submissions")
    with served.service.database.read() as connection:
        exported = dump(connection)["final_scores"]
    assert sorted(row["submission_id"] for row in exported) == sorted(number for *_, number in places(served))


def test_a_ranking_that_is_out_is_made_again_and_the_record_says_so(everywhere: Served) -> None:
    served = everywhere
    ready_to_publish(served)
    publish(served)
    before = places(served)
    hide(served, "teams", served.teams["team"])
    hide(served, "teams", served.teams["team"], hidden=False)
    assert places(served) == before, "who is shown again has its place again"
    log = served.ask("organiser", "GET", "/api/organiser/audit").json()
    assert [(line["action"], line["details"]) for line in log][-4:] == [
        ("team hidden", {}),
        ("ranked again", {"places": 1, "why": "team 1 hidden"}),
        ("team shown", {}),
        ("ranked again", {"places": 2, "why": "team 1 shown"}),
    ]


def test_a_mark_that_was_set_past_us_hides_as_well(everywhere: Served) -> None:
    served = everywhere
    ready_to_publish(served)
    publish(served)
    with served.service.database.write() as connection:
        connection.execute(teams.update().where(teams.c.id == 1).values(hidden=True))
    assert [team for _, _, team, _ in places(served)] == ["Coopers"]


def test_a_team_that_is_shown_again_after_the_freeze_is_judged_or_named(everywhere: Served) -> None:
    served = everywhere
    served.send("team", title="grand-cru", key="a")
    served.send("other", title="theirs")
    served.judge_all(skilled)  # type: ignore[arg-type]  # a judge is a function
    hide(served, "teams", 2)
    assert served.ask("organiser", "POST", "/api/organiser/freeze").json() == {"count": 1}
    served.judge_all(skilled)  # type: ignore[arg-type]  # a judge is a function
    hide(served, "teams", 2, hidden=False)
    refused = served.ask("organiser", "POST", "/api/organiser/publish")
    assert refused.status_code == 409
    assert "not judged for the final ranking: Coopers (submission 2)" in refused.json()["error"]["message"]
    again = served.ask("organiser", "POST", "/api/organiser/submissions/2/rerun?purpose=final")
    assert again.status_code == 200, again.text
    served.judge_all(skilled)  # type: ignore[arg-type]  # a judge is a function
    assert publish(served) == {"count": 2}
    late = served.ask("organiser", "POST", "/api/organiser/submissions/2/rerun?purpose=final")
    assert late.status_code == 409, "what is published stands"


def test_a_publication_beside_an_act_of_hiding_ranks_whoever_is_left(everywhere: Served) -> None:
    served = everywhere
    ready_to_publish(served)
    service = served.service
    thread = threading.Thread(target=publish, args=(served,))
    with service.database.write() as connection:
        hide_team(connection, ORGANISER, 1, True, service.competition, service.now())
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive()
    thread.join(timeout=60)
    assert places(served) == [(1, [1, 1], "Coopers", 3)]


DAMAGE = {
    "has no private scores": None,
    "has private scores of sums; the final ranking is made of capitals, sums": {"sums": [1.0] * 60},
    "has 59 capitals and 60 sums private items; the others have 60 capitals and 60 sums": {
        "capitals": [1.0] * 59,
        "sums": [1.0] * 60,
    },
    "has private scores that are not between 0 and 1": {"capitals": [1.0] * 59 + [1e300], "sums": [1.0] * 60},
    "has a private score that is not the average of its items": {"capitals": [0.0] * 60, "sums": [0.0] * 60},
}


@pytest.mark.parametrize("problem", DAMAGE)
def test_nothing_is_published_unless_all_that_counts_has_whole_private_scores(everywhere: Served, problem: str) -> None:
    served = everywhere
    ready_to_publish(served)
    of_best = private_results.c.submission_id == 1
    with served.service.database.write() as connection:
        if DAMAGE[problem] is None:
            connection.execute(private_results.delete().where(of_best))
        else:
            connection.execute(private_results.update().where(of_best).values(item_scores=DAMAGE[problem]))
    refused = served.ask("organiser", "POST", "/api/organiser/publish")
    assert refused.status_code == 409
    assert f"Vintners (submission 1) {problem}" in refused.json()["error"]["message"]
    assert places(served) == []
    hide(served, "submissions", 1)
    assert publish(served) == {"count": 2}, "the others can be published without it"


def test_who_fails_on_private_items_is_left_out_and_named_in_the_record(everywhere: Served) -> None:
    served = everywhere
    ready_to_publish(served)
    served.ask("organiser", "POST", "/api/organiser/submissions/3/rerun?purpose=final")
    served.judge_all(lambda *_: verdict(outcome="rejected", reason="time"))  # type: ignore[arg-type]  # a judge
    assert publish(served) == {"count": 1}
    assert [team for _, _, team, _ in places(served)] == ["Vintners"], "an earlier private score does not count"
    log = served.ask("organiser", "GET", "/api/organiser/audit").json()
    assert log[-1]["details"] == {"places": 1, "left_out": ["Coopers: failed"]}


def test_a_submission_that_is_rejected_when_it_is_judged_again_leaves_the_board(everywhere: Served) -> None:
    served = everywhere
    served.send()
    served.judge_all(FakeJudge())
    assert len(served.ask(None, "GET", "/api/board").json()["places"]) == 1
    served.ask("organiser", "POST", "/api/organiser/submissions/1/rerun")
    assert len(served.ask(None, "GET", "/api/board").json()["places"]) == 1, "its result stays until there is another"
    served.judge_all(lambda *_: verdict(outcome="rejected", reason="rules"))  # type: ignore[arg-type]  # a judge
    assert served.ask(None, "GET", "/api/board").json()["places"] == []
    assert json.loads(served.ask("team", "GET", "/api/submissions/1").text)["score"] is None


def test_hidden_ones_are_in_no_list_and_have_no_page(everywhere: Served) -> None:
    served = everywhere
    for who in ("team", "other"):
        served.send(who, title=who)
    served.judge_all()
    for table in (submissions, teams):
        with served.service.database.write() as connection:
            connection.execute(table.update().where(table.c.id == 1).values(hidden=True))
        assert [each["id"] for each in served.ask(None, "GET", "/api/submissions").json()] == [2]
        assert served.ask(None, "GET", "/api/submissions/1").status_code == 404
        with served.service.database.write() as connection:
            connection.execute(sa.update(table).values(hidden=False))
