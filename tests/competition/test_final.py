"""The final ranking, and what nobody may see before it is published."""

from collections.abc import Iterator

import pytest

from competition.made import Clock, tiny_competition
from competition.serving import FakeJudge, Served, serve
from cuvee.competition.database import Database, open_database, sqlite_url
from cuvee.competition.site import write_site
from cuvee.competition.tables import teams

PAGES = (
    "/",
    "/board",
    "/board?sort=team",
    "/data",
    "/start",
    "/final",
    "/guide",
    "/teams/1",
    "/teams/2",
    "/join",
    "/sign-in",
)
ANSWERS = ("board", "board.csv", "final", "final.csv", "submissions", "competition", "teams/1", "openapi.json")


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition(logs="all"))


def freeze_and_judge(served: Served, private_seed: int = 1) -> None:
    assert served.ask("organiser", "POST", "/api/organiser/freeze").status_code == 200
    served.judge_all(FakeJudge(private_seed))


def test_chosen_submissions_are_judged_on_private_items_and_published_with_their_gap(everywhere: Served) -> None:
    served = everywhere
    numbers = [served.send(title=f"try {n}", key=str(n), weight=n + 1) for n in range(3)]
    served.send("other", title="theirs")
    served.judge_all()
    assert served.ask("team", "POST", f"/api/submissions/{numbers[0]}/select", json={"chosen": True}).json()["selected"]
    freeze_and_judge(served)
    assert served.ask("team", "POST", "/api/submissions", content=b"late").status_code in (409, 422)
    assert served.ask(None, "GET", "/api/final").json() == {"published": False, "places": []}
    states = served.ask("organiser", "GET", "/api/organiser/finals").json()
    assert (states["ready"], states["states"]) == (True, {"scored": 2})
    assert served.ask("organiser", "POST", "/api/organiser/publish").json() == {"count": 2}
    places = served.ask(None, "GET", "/api/final").json()["places"]
    assert {place["team"]["name"]: place["submission"] for place in places} == {"Vintners": numbers[0], "Coopers": 4}
    for place in places:
        public = served.ask(None, "GET", f"/api/submissions/{place['submission']}").json()
        assert place["gap"] == pytest.approx(public["score"]["value"] - place["score"]["value"])
        assert public["recipe"] is not None, "recipes are public once it is over"
    assert "Final ranking" in served.page(None, "/final").text


def test_a_ranking_without_participants_has_the_organisers_own_entries(everywhere: Served) -> None:
    number = everywhere.send()
    everywhere.judge_all()
    with everywhere.service.database.write() as connection:
        connection.execute(teams.update().where(teams.c.id == everywhere.teams["team"]).values(kind="baseline"))
    everywhere.ask("organiser", "POST", "/api/organiser/freeze")
    everywhere.judge_all()
    assert everywhere.ask("organiser", "POST", "/api/organiser/publish").json() == {"count": 1}
    [place] = everywhere.ask(None, "GET", "/api/final").json()["places"]
    assert (place["submission"], place["ranks"]) == (number, None)
    assert everywhere.page(None, "/final").status_code == everywhere.page(None, "/").status_code == 200


def test_a_final_ranking_is_not_published_before_all_of_it_is_judged(served: Served) -> None:
    served.send()
    assert served.ask("organiser", "POST", "/api/organiser/freeze").status_code == 409, "a run is under way"
    served.judge_all()
    assert served.ask("organiser", "POST", "/api/organiser/publish").status_code == 409
    served.ask("organiser", "POST", "/api/organiser/freeze")
    assert served.ask("organiser", "POST", "/api/organiser/publish").status_code == 409
    assert served.ask("organiser", "POST", "/api/organiser/unfreeze").json() == {"count": 1}
    assert served.ask("organiser", "POST", "/api/organiser/freeze").json() == {"count": 1}
    served.judge_all()
    assert served.ask("organiser", "POST", "/api/organiser/publish").json() == {"count": 1}
    assert served.ask("organiser", "POST", "/api/organiser/publish").status_code == 409


def test_other_private_labels_change_no_byte_that_a_participant_sees_before_the_reveal(tmp_path) -> None:  # type: ignore[no-untyped-def]  # pytest's
    seen = [everything_seen(tmp_path / str(seed), seed) for seed in (1, 2)]
    assert seen[0].keys() == seen[1].keys()
    assert [name for name in seen[0] if seen[0][name] != seen[1][name]] == []


def test_after_the_reveal_other_private_labels_are_seen(tmp_path) -> None:  # type: ignore[no-untyped-def]  # pytest's
    """The comparison before the reveal would find a difference if there were one."""
    seen = [everything_seen(tmp_path / str(seed), seed, publish=True) for seed in (1, 2)]
    assert seen[0]["api/final None"] != seen[1]["api/final None"]


def everything_seen(folder, private_seed: int, *, publish: bool = False) -> dict[str, bytes]:  # type: ignore[no-untyped-def]  # a path
    """Run a competition with one set of private labels up to the reveal, and collect all that participants can read."""
    folder.mkdir()
    database = open_database(sqlite_url(folder / "competition.db"))
    seen: dict[str, bytes] = {}
    for served in serve(database, Clock(), tiny_competition(logs="all")):
        for nth in range(3):
            served.send("team", title=f"try {nth}", key=str(nth), weight=nth + 1)
        served.send("other", title="theirs", weight=9)
        served.judge_all(FakeJudge(private_seed))
        freeze_and_judge(served, private_seed)
        if publish:
            served.ask("organiser", "POST", "/api/organiser/publish")
        own = [f"submissions/{number}{part}" for number in range(1, 5) for part in ("", "/logs", "/archive")]
        for who in (None, "team", "other"):
            for path in (*ANSWERS, *own, *(("me", "quota") if who else ())):
                answer = served.ask(who, "GET", f"/api/{path}")
                seen[f"api/{path} {who}"] = f"{answer.status_code}".encode() + answer.content
            pages = [f"/submissions/{number}{part}" for number in range(1, 5) for part in ("", "/state")]
            for path in (*PAGES, *pages, "/me"):
                answer = served.page(who, path)
                seen[f"{path} {who}"] = f"{answer.status_code}".encode() + answer.content
        write_site(served.service, folder / "site")
        seen.update({f"site {path.name}": path.read_bytes() for path in sorted((folder / "site").glob("*.*"))})
    database.close()
    return seen
