"""Boards by items that nobody has, controls and second answers: out with the final ranking, on both databases."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from competition.made import LEAKS, Clock, fitted, tiny_competition, verdict
from competition.serving import Served, serve
from cuvee.competition.database import Database
from cuvee.competition.refusals import Refusal
from cuvee.competition.site import write_site
from cuvee.competition.verdict_checks import check_content
from cuvee.submission.controls import Control
from cuvee.submission.pack import read_archive
from cuvee.submission.verdict import Verdict

FOUND = {
    "honest": (
        Control("capitals", "shuffled", 0.0123, -0.05, 0.07, 60),
        Control("capitals", "canaries", 0.0, -0.1, 0.1, 20),
    ),
    "learned": (
        Control("capitals", "shuffled", 0.3456, 0.2, 0.5, 60),
        Control("capitals", "canaries", 0.6, 0.4, 0.8, 20),
    ),
}


def judge(archive: Path, *_: object) -> Verdict:
    name = read_archive(archive).name
    made = verdict(0.6 if name == "honest" else 0.7, 3)
    assert made.public is not None
    assert made.private is not None
    private = replace(made.private, controls=FOUND[name], agreement={"sums": 0.9375})
    return replace(made, public=replace(made.public, part="leaderboard"), private=private)


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition(text=LEAKS))


def enter(served: Served) -> None:
    served.send("team", title="honest")
    served.send("other", title="learned")
    served.judge_all(judge)  # type: ignore[arg-type]  # a judge is a function


def test_controls_are_out_with_the_final_ranking_and_raise_an_alarm(everywhere: Served, tmp_path: Path) -> None:
    enter(everywhere)
    assert everywhere.ask("organiser", "POST", "/api/organiser/freeze").status_code == 200
    everywhere.judge_all(judge)  # type: ignore[arg-type]  # a judge is a function
    write_site(everywhere.service, tmp_path / "before")
    seen = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "before").rglob("*.*"))
    for path in ("/final", "/submissions/1", "/board"):
        seen += everywhere.page("team", path).text
    assert "9375" not in seen
    assert "34.6" not in seen
    assert everywhere.ask("organiser", "POST", "/api/organiser/publish").status_code == 200
    places = everywhere.ask(None, "GET", "/api/final").json()["places"]
    alarms = {}
    for place in places:
        assert place["agreement"] == {"sums": 0.9375}
        alarms[place["title"]] = [control["is_alarm"] for control in place["controls"]]
    assert alarms == {"learned": [True, True], "honest": [False, False]}
    page = everywhere.page(None, "/final").text
    assert "+34.6" in page
    assert "94 %" in page
    assert "items that nobody has" in everywhere.page(None, "/board").text


def test_who_has_not_answered_the_controls_is_not_taken_for_clean(everywhere: Served) -> None:
    def evaded(archive: Path, *more: object) -> Verdict:
        found = judge(archive, *more)
        if read_archive(archive).name == "honest":
            return found
        assert found.private is not None
        return replace(found, private=replace(found.private, controls=(), agreement={}))

    enter(everywhere)
    assert everywhere.ask("organiser", "POST", "/api/organiser/freeze").status_code == 200
    everywhere.judge_all(evaded)  # type: ignore[arg-type]  # a judge is a function
    assert everywhere.ask("organiser", "POST", "/api/organiser/publish").status_code == 200
    places = everywhere.ask(None, "GET", "/api/final").json()["places"]
    unanswered = {place["title"]: place["unanswered"] for place in places}
    assert unanswered == {"learned": ["capitals canaries", "capitals shuffled", "sums again"], "honest": []}
    assert everywhere.page(None, "/final").text.count("⚠ not answered") == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"controls": (Control("sums", "shuffled", 0, 0, 0, 9),)}, "controls that the competition does not ask"),
        ({"controls": FOUND["honest"][:1] * 2}, "controls that the competition does not ask"),
        ({"controls": (Control("capitals", "shuffled", 0.5, 0.6, 0.7, 9),)}, "whose interval does not hold its value"),
        ({"agreement": {"sums": 1.5}}, "shares of equal answers"),
        ({"agreement": {"other": 0.5}}, "shares of equal answers"),
    ],
)
def test_controls_that_cannot_be_right_are_refused(changed: dict[str, object], said: str) -> None:

    of = tiny_competition(text=LEAKS)
    made = verdict(0.6, 3)
    assert made.public is not None
    assert made.private is not None
    private = replace(made.private, **changed)  # type: ignore[arg-type]  # as the case says
    bad = replace(made, public=replace(made.public, part="leaderboard"), private=private)
    with pytest.raises(Refusal, match=said):
        check_content(fitted(bad, "0" * 64, "final", of), of, "final")


def test_scores_of_the_public_part_are_no_boards() -> None:

    of = tiny_competition(text=LEAKS)
    with pytest.raises(Refusal, match="scores are of the public part, and the board is by the leaderboard part"):
        check_content(fitted(verdict(0.6, 3), "0" * 64, "public", of), of, "public")
