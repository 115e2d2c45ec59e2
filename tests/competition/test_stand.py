"""What a submission's page says of its place, its differences to others, and the public items."""

from collections.abc import Iterator
from html import escape

import pytest

from competition.filled import fill
from competition.made import Clock, tiny_competition
from competition.seasons import season
from competition.serving import Served, serve
from cuvee.competition.database import Database
from cuvee.competition.head_to_head import head_to_head
from cuvee.competition.stand import how_it_stands


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with season(tmp_path_factory.mktemp("stand") / "family", teams=3, items=8) as served:
        yield served


def mine(served: Served) -> list[dict[str, object]]:
    sent = served.ask("team", "GET", "/api/submissions").json()
    return [each for each in sent if each["state"] == "scored"]


def test_differences_are_those_of_a_comparison_of_two_teams(three: Served) -> None:
    board = three.service.boards.board("public")
    place = next(place for place in board.places if place.entry.kind == "participant")
    with three.service.database.read() as connection:
        stand = how_it_stands(connection, board, place.entry.submission_id, place.entry.team_id)
    assert stand is not None
    assert stand.place == place
    assert [each.to for each in stand.differences] == ["the best parent", "the best baseline"]
    for each in stand.differences:
        assert each.apart == head_to_head(board, place.entry.team_id, each.entry.team_id).whole


def test_a_teams_second_best_is_compared_with_its_best_and_the_page_says_so(three: Served) -> None:
    first, second = sorted(mine(three), key=lambda each: -each["score"]["value"])[:2]  # type: ignore[index]  # a number
    text = three.page("team", f"/submissions/{second['id']}").text
    assert "Another entry of its team stands on" in text
    assert "its team&#39;s best" in text
    assert "Rank <strong>" in three.page(None, f"/submissions/{first['id']}").text


def test_public_items_are_shown_to_their_team_with_what_is_right(three: Served) -> None:
    number = mine(three)[0]["id"]
    text = three.page("team", f"/submissions/{number}").text
    board = three.service.boards.board("public")
    question, answer = three.service.questions["sort"][0]
    assert escape(question) in text
    assert escape(answer) in text
    assert text.count("</summary>") >= len(board.weights)
    for who in ("other", None):
        assert "The public items" not in three.page(who, f"/submissions/{number}").text


@pytest.mark.parametrize("feedback", ["ladder", "none"])
def test_where_scores_are_held_back_no_item_is_shown(sqlite: Database, feedback: str) -> None:
    for served in serve(sqlite, Clock(), tiny_competition(feedback=feedback)):
        number = served.send()
        served.judge_all()
        text = served.page("team", f"/submissions/{number}").text
        assert "The public items" not in text
        assert ("Where it stands" in text) == (feedback == "ladder")


def test_what_was_scored_on_other_items_is_not_compared(served: Served) -> None:
    fill(served)
    board = served.service.boards.board("open")
    with served.service.database.write() as connection:
        connection.exec_driver_sql("UPDATE public_results SET item_scores = '{}' WHERE submission_id = 11")
    with served.service.database.read() as connection:
        assert how_it_stands(connection, board, 11, 1) is None
