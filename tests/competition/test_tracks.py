"""Tracks: who may stand in one, their boards and finals, raters' scores, on both databases."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from competition.made import TEXT, TRACKS, Clock, tiny_competition, verdict
from competition.serving import Served, serve
from cuvee.competition.database import Database
from cuvee.competition.pages.track_page import tables_of
from cuvee.competition.site import write_site
from cuvee.competition.track_order import Contender, Rating, order, order_reports
from cuvee.competition.track_views import track_view
from cuvee.competition.tracks import TrackBoard
from cuvee.errors import RecipeError
from cuvee.report import Figure
from cuvee.submission.competition import Track
from cuvee.submission.pack import read_archive
from cuvee.submission.verdict import Reproduction, Searched, Tuning, Verdict

JUDGED = {
    "strong": (0.9, 20_000, 9.0, 0.05, 5_000),
    "cheap": (0.6, 4_000, 2.0, None, 1_000),
    "tiny": (0.2, 100, 2.0, 0.0, 0),
    "theirs": (0.7, 5_000, 9.0, 0.01, 1_001),
}
"""Skill, tokens, seconds, the gap of the claim, and the tokens of the search, by title."""


def judge(archive: Path, *_: object) -> Verdict:
    skill, tokens, seconds, gap, searched = JUDGED[read_archive(archive).name]
    made = verdict(skill, 3, seconds=seconds / 1.5)
    assert made.figures is not None
    claim = (
        None if gap is None else Reproduction("not_claimed", "not_claimed", "differs", score_gap=gap, tasks_claimed=2)
    )
    tuning = Tuning(searched, {}, Searched(searched, 10, 5, 1.0)) if searched else None
    return replace(made, figures=replace(made.figures, tokens=tokens, tuning=tuning), reproduction=claim)


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition(text=TEXT + TRACKS))


def enter(served: Served) -> None:
    """Vintners send three, Coopers one; all are judged."""
    for key in ("strong", "cheap", "tiny"):
        served.send("team", title=key, key=key)
    served.send("other", title="theirs")
    served.judge_all(judge)  # type: ignore[arg-type]  # a judge is a function


def publish(served: Served) -> None:
    assert served.ask("organiser", "POST", "/api/organiser/freeze").status_code == 200
    served.judge_all(judge)  # type: ignore[arg-type]  # a judge is a function
    answer = served.ask("organiser", "POST", "/api/organiser/publish")
    assert answer.status_code == 200, answer.text


def rows(served: Served, track: str, part: str = "board") -> list[tuple[str, str]]:
    found = served.ask(None, "GET", f"/api/tracks/{track}").json()[part]
    return [(each["team"]["name"], each["title"]) for each in found]


def rate(served: Served, team: str, rater: str, value: float | None) -> int:
    body = {"track": "report", "team": served.teams[team], "rater": rater, "value": value}
    return served.ask("organiser", "POST", "/api/organiser/ratings", json=body).status_code


def test_each_track_has_a_board_of_each_teams_best_that_may_stand_there(everywhere: Served) -> None:
    enter(everywhere)
    assert rows(everywhere, "frugal") == [("Coopers", "theirs"), ("Vintners", "cheap")]
    assert rows(everywhere, "light") == [("Vintners", "cheap")], "theirs takes 9 seconds of processors"
    assert rows(everywhere, "untuned") == [("Vintners", "cheap")], "the search of theirs took a token too many"
    assert "1,000" in everywhere.page(None, "/tracks/untuned").text
    assert rows(everywhere, "per-token") == [("Vintners", "cheap"), ("Coopers", "theirs")], "tiny scores too little"
    assert rows(everywhere, "honest") == [("Vintners", "tiny"), ("Coopers", "theirs")]
    assert rows(everywhere, "report") == []
    value = everywhere.ask(None, "GET", "/api/tracks/per-token").json()["board"][0]
    assert value["value"] == pytest.approx(1000 * value["score"] / 4000)


def test_each_track_has_a_final_of_its_own_and_gives_no_further_try_at_the_ranking(everywhere: Served) -> None:
    enter(everywhere)
    assert rate(everywhere, "team", "Ada", 4) == 200
    assert all(rows(everywhere, track, "final") == [] for track in ("frugal", "honest", "report"))
    publish(everywhere)
    assert rows(everywhere, "frugal", "final") == [("Coopers", "theirs"), ("Vintners", "cheap")]
    assert rows(everywhere, "light", "final") == [("Vintners", "cheap")]
    assert rows(everywhere, "untuned", "final") == [("Vintners", "cheap")]
    assert rows(everywhere, "honest", "final") == [("Vintners", "tiny"), ("Coopers", "theirs")]
    assert rows(everywhere, "report", "final") == [("Vintners", "")]
    main = everywhere.ask(None, "GET", "/api/final").json()["places"]
    assert [place["title"] for place in main] == ["strong", "theirs"]
    private = everywhere.ask(None, "GET", "/api/tracks/frugal").json()
    assert private["final"][0]["score"] != private["board"][0]["score"], "the final is by private items"


def test_what_was_judged_for_a_track_alone_does_not_count_in_the_ranking(everywhere: Served) -> None:
    """The cheap entry is better on private items, and its team did not choose it."""
    enter(everywhere)
    assert everywhere.ask("organiser", "POST", "/api/organiser/freeze").status_code == 200

    def turned(archive: Path, *rest: object) -> Verdict:
        made = judge(archive, *rest)
        better = read_archive(archive).name == "cheap"
        return replace(made, private=verdict(0.99 if better else 0.5, 3).private)

    everywhere.judge_all(turned)  # type: ignore[arg-type]  # a judge is a function
    assert everywhere.ask("organiser", "POST", "/api/organiser/publish").status_code == 200
    main = everywhere.ask(None, "GET", "/api/final").json()["places"]
    assert {place["title"] for place in main} == {"strong", "theirs"}
    assert rows(everywhere, "frugal", "final")[0] == ("Vintners", "cheap")


def test_a_claim_of_one_task_alone_is_no_claim(everywhere: Served) -> None:
    def of_one(archive: Path, *rest: object) -> Verdict:
        made = judge(archive, *rest)
        return replace(made, reproduction=made.reproduction and replace(made.reproduction, tasks_claimed=1))

    everywhere.send("team", title="tiny")
    everywhere.judge_all(of_one)  # type: ignore[arg-type]  # a judge is a function
    assert rows(everywhere, "honest") == []


def test_the_choice_is_that_of_the_freeze_where_a_public_score_changes_later(everywhere: Served) -> None:
    enter(everywhere)
    assert everywhere.ask("organiser", "POST", "/api/organiser/freeze").status_code == 200
    everywhere.judge_all(judge)  # type: ignore[arg-type]  # a judge is a function
    assert everywhere.ask("organiser", "POST", "/api/organiser/submissions/1/rerun").status_code == 200

    def lower(archive: Path, *rest: object) -> Verdict:
        return replace(judge(archive, *rest), public=verdict(0.3, 3).public)

    everywhere.judge_all(lower)  # type: ignore[arg-type]  # a judge is a function
    assert everywhere.ask("organiser", "POST", "/api/organiser/publish").status_code == 200
    main = everywhere.ask(None, "GET", "/api/final").json()["places"]
    assert {place["title"] for place in main} == {"strong", "theirs"}


def test_who_is_hidden_after_the_reveal_leaves_the_finals_of_tracks(everywhere: Served) -> None:
    enter(everywhere)
    rate(everywhere, "other", "Ada", 3)
    publish(everywhere)
    answer = everywhere.ask(
        "organiser", "POST", f"/api/organiser/teams/{everywhere.teams['other']}/hide", json={"hidden": True}
    )
    assert answer.status_code == 200
    for track in ("frugal", "honest", "report"):
        for part in ("board", "final"):
            assert "Coopers" not in dict(rows(everywhere, track, part))


def test_raters_scores_are_the_organisers_until_the_reveal(everywhere: Served, tmp_path: Path) -> None:
    enter(everywhere)
    for rater, value in (("Ada", 4), ("Grace", 2.75), ("Edsger", 4.5)):
        assert rate(everywhere, "team", rater, value) == 200
    assert rate(everywhere, "team", "Edsger", 3) == 200, "in place of the earlier one"
    assert rate(everywhere, "team", "Ada", 5.5) == 422
    assert rate(everywhere, "team", "Nobody", None) == 404
    page = everywhere.page("organiser", "/organiser").text
    assert "Grace" in page
    write_site(everywhere.service, tmp_path)
    seen = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("track-*"))
    seen += everywhere.page("team", "/tracks/report").text + everywhere.ask("team", "GET", "/api/tracks").text
    assert "2.75" not in seen
    assert everywhere.ask("team", "GET", "/api/organiser/ratings").status_code == 403
    publish(everywhere)
    [place] = everywhere.ask(None, "GET", "/api/tracks/report").json()["final"]
    assert (place["value"], place["low"], place["high"], place["raters"]) == (3.25, 2.75, 4.0, 3)
    assert "Grace" not in everywhere.page("team", "/tracks/report").text
    assert rate(everywhere, "other", "Ada", 5) == 200
    assert rows(everywhere, "report", "final") == [("Coopers", ""), ("Vintners", "")], "made again"


def test_the_organisers_form_takes_scores_as_people_write_them(everywhere: Served) -> None:
    form = {"track": "report", "team": str(everywhere.teams["team"]), "rater": "Ada"}
    everywhere.http.cookies.set("cuvee", everywhere.tokens["organiser"])
    answers = [everywhere.http.post("/organiser/ratings", data={**form, "value": text}) for text in ("3,5", "much")]
    assert [answer.status_code for answer in answers] == [303, 422]
    [rating] = everywhere.ask("organiser", "GET", "/api/organiser/ratings").json()
    assert (rating["rater"], rating["value"]) == ("Ada", 3.5)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{name: a, by: score}", "needs one limit, and has 0"),
        ("{name: a, by: score, within: {tokens: 5, cpu_seconds: 3}}", "needs one limit, and has 2"),
        ("{name: a, by: score, within: {tokens: 5, tuning_tokens: 0}}", "needs one limit, and has 2"),
        ("{name: a, by: claim_gap, within: {tokens: 5}}", "by 'claim_gap', which has no limit"),
        ("{name: a, by: report, at_least: 0.5}", "by 'report', which has no score"),
        ("{name: a, by: speed}", "tracks"),
    ],
)
def test_a_track_that_makes_no_sense_is_refused(written: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        tiny_competition(text=f"{TEXT}\ntracks:\n  - {written}\n")


def test_a_long_board_comes_in_pages_with_the_readers_own_row_on_each(
    everywhere: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = everywhere.teams["team"]
    scored = [contender(1000 + number, [1.0 - number / 500] * 5) for number in range(120)]
    scored[3] = replace(scored[3], team_id=own, team="Vintners")
    frugal = everywhere.service.competition.track("frugal")
    assert frugal is not None
    board = TrackBoard(frugal, 1, order(frugal, scored, {"task": 1.0}))
    monkeypatch.setattr(everywhere.service.tracks, "board", lambda name: board)
    pages = [everywhere.page("team", f"/tracks/frugal?board={page}").text for page in ("1", "2", "3", "9", "no")]
    assert [page.count("<tr class=") for page in pages] == [50, 51, 21, 21, 50]
    assert [page.count("your team") for page in pages] == [0, 1, 1, 1, 0]
    assert 'href="/tracks/frugal?board=3#board"' in pages[1]
    assert 'href="/tracks/frugal#board" aria-label="Page 1 of 3"' in pages[1]
    with everywhere.service.database.read() as connection:
        [whole] = tables_of(track_view(connection, board, everywhere.service.competition), "")
    assert (len(whole.rows), whole.page.own) == (120, None), "a file has all rows on one page"


def contender(number: int, scores: list[float], tokens: int = 10, gap: float | None = None) -> Contender:
    score = sum(scores) / len(scores)
    figure = Figure(score, max(0.0, score - 0.1), min(1.0, score + 0.1))
    items = {"task": scores}
    return Contender(number, number, f"team {number}", "participant", "", figure, items, score, tokens, 1.0, 0, gap)


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from([0.0, 1.0]), min_size=20, max_size=20), st.integers(1, 10**6)), min_size=1
    )
)
def test_places_by_token_fall_and_lie_within_their_ranks(entries: list[tuple[list[float], int]]) -> None:
    track = Track("t", "t", "score_per_token")
    placed = order(track, [contender(n, *entry) for n, entry in enumerate(entries, 1)], {"task": 1.0})
    assert sorted(row.value for row in placed)[::-1] == [row.value for row in placed]
    for row in placed:
        assert row.ranks is not None
        assert 1 <= row.ranks[0] <= row.ranks[1] <= len(placed)


def test_equal_gaps_share_their_ranks() -> None:
    track = Track("t", "t", "claim_gap")
    right, wrong = [1.0, 1.0], [1.0, 0.0]
    placed = order(
        track, [contender(1, wrong, gap=0.0), contender(2, right, gap=0.0), contender(3, right, gap=0.2)], {}
    )
    assert [(row.submission_id, row.ranks) for row in placed] == [(2, (1, 2)), (1, (1, 2)), (3, (3, 3))]


def test_a_report_stands_above_another_only_where_all_raters_of_both_say_so() -> None:
    given_scores = {
        "A": {"x": 5, "y": 4, "z": 5},
        "B": {"x": 4, "y": 3, "z": 4},
        "C": {"x": 4, "y": 4.5},
        "D": {"x": 1},
    }
    ratings = [
        Rating(number, team, "participant", rater, value)
        for number, (team, scores) in enumerate(given_scores.items())
        for rater, value in scores.items()
    ]
    placed = order_reports(ratings)
    assert [(row.team, row.ranks) for row in placed] == [("A", (1, 3)), ("C", (1, 4)), ("B", (2, 4)), ("D", (1, 4))]
