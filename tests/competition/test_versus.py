"""Two teams on the same items, and the gap between a team's public and private score that its items do not explain."""

import numpy as np
import pytest

from competition.filled import fill
from competition.made import items_of, verdict
from competition.serving import Served
from cuvee.competition.gaps import gap_of, usual_gap, with_alarms
from cuvee.evaluation.statistics import mean
from cuvee.report import Figure


class Skilled:
    """A judge to which the submission's order is its seed."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, *_: object) -> object:
        self.number += 1
        return verdict(0.4 + 0.2 * self.number, seed=self.number)


def two_teams(served: Served) -> tuple[int, int]:
    served.send("team", "mine")
    served.send("other", "theirs")
    served.judge_all(Skilled())  # type: ignore[arg-type]  # says what a judge says
    return served.teams["team"], served.teams["other"]


def test_two_teams_are_compared_item_by_item(served: Served) -> None:
    one, other = two_teams(served)
    found = served.ask(None, "GET", "/api/versus", params={"one": one, "other": other}).json()
    first, second = items_of(0.6, 1), items_of(0.8, 2)
    for task, apart in found["tasks"].items():
        gaps = np.subtract(first[task], second[task])
        assert apart["value"] == pytest.approx(gaps.mean())
        assert (apart["won"], apart["lost"], apart["items"]) == ((gaps > 0).sum(), (gaps < 0).sum(), len(gaps))
        assert apart["low"] <= apart["value"] <= apart["high"]
    assert found["whole"]["items"] == sum(apart["items"] for apart in found["tasks"].values())
    turned = served.ask(None, "GET", "/api/versus", params={"one": other, "other": one}).json()
    assert turned["whole"]["value"] == pytest.approx(-found["whole"]["value"])
    page = served.page(None, f"/versus?one={one}&other={other}")
    assert found["sentence"] in page.text


def test_whoever_is_not_on_the_board_is_not_compared(served: Served) -> None:
    one, other = two_teams(served)
    for pair, status in (((one, 999), 404), ((one, one), 422)):
        answer = served.ask(None, "GET", "/api/versus", params={"one": pair[0], "other": pair[1]})
        assert answer.status_code == status, answer.text
    hidden = served.ask("organiser", "POST", f"/api/organiser/teams/{other}/hide", json={"hidden": True})
    assert hidden.status_code == 200, hidden.text
    assert served.ask(None, "GET", "/api/versus", params={"one": one, "other": other}).status_code == 404
    assert served.page(None, f"/versus?one={one}&other={other}").status_code == 404


def test_the_page_says_when_there_is_nobody_to_compare(served: Served) -> None:
    assert "before they can be compared" in served.page(None, "/versus").text


def figure(right: int, items: int) -> Figure:
    estimate = mean([1.0] * right + [0.0] * (items - right))
    return Figure(estimate.value, estimate.low, estimate.high)


def test_a_gap_beyond_the_interval_of_both_scores_raises_the_alarm() -> None:
    """A team reports 0.83 on the public set and 0.41 in the finals, as one of the original competition's teams did."""
    usual = [gap_of(figure(60 + n, 100), figure(59 + n, 100)) for n in range(6)]
    tuned = gap_of(figure(83, 100), figure(41, 100))
    alarms = with_alarms([*usual, tuned])
    assert [gap.is_alarm for gap in alarms] == [False] * 6 + [True]
    assert alarms[-1].low > 0.2


def test_private_items_that_are_harder_for_all_raise_no_alarm() -> None:
    gaps = [gap_of(figure(700 + n, 1000), figure(500 + n, 1000)) for n in range(8)]
    assert usual_gap(gaps) == pytest.approx(0.2)
    assert not any(gap.is_alarm for gap in with_alarms(gaps))


def test_honest_teams_raise_about_as_few_alarms_as_the_interval_says() -> None:
    generator = np.random.default_rng(7)
    gaps = [gap_of(figure(int(p), 400), figure(int(q), 400)) for p, q in generator.binomial(400, 0.6, (2000, 2))]
    share = np.mean([gap.is_alarm for gap in with_alarms(gaps)])
    assert 0.01 < share < 0.035


def test_a_ranking_shows_the_alarm_and_how_often_a_team_tried(served: Served) -> None:
    for number in range(3):
        served.send("team", f"try {number}", key=str(number), weight=number + 1)
    served.judge_all()
    assert served.ask("organiser", "POST", "/api/organiser/freeze").status_code == 200
    served.judge_all()
    assert served.ask("organiser", "POST", "/api/organiser/publish").status_code == 200
    (place,) = served.ask(None, "GET", "/api/final").json()["places"]
    assert place["entries"] == 3
    assert place["gap_low"] <= place["gap"] <= place["gap_high"]
    assert "3 entries" in served.page(None, "/final").text
    head = served.ask(None, "GET", "/api/final.csv").text.splitlines()[0]
    assert "gap,gap_low,gap_high,is_alarm,entries" in head


def test_the_board_is_told_as_kaggle_tells_it(served: Served) -> None:
    two_teams(served)
    lines = served.ask(None, "GET", "/api/leaderboard.csv").text.splitlines()
    assert lines[0] == "Rank,TeamId,TeamName,LastSubmissionDate,Score,SubmissionCount"
    board = served.ask(None, "GET", "/api/board").json()["places"]
    for line, place in zip(lines[1:], board, strict=True):
        rank, team_id, name, _, score, count = line.split(",")
        assert (int(rank), int(team_id), name) == (place["place"], place["team"]["id"], place["team"]["name"])
        assert float(score) == pytest.approx(place["score"]["value"], abs=1e-5)
        assert int(count) == place["entries"]


def test_a_teams_page_leads_to_its_comparison_with_another(served: Served) -> None:
    fill(served)
    team = served.ask(None, "GET", "/api/board").json()["places"][2]["team"]
    assert f'href="/versus?one={team["id"]}"' in served.page(None, f"/teams/{team['id']}").text
    chosen = served.page(None, f"/versus?one={team['id']}").text
    assert chosen.count(f'<option value="{team["id"]}" selected>') == 1
    assert served.page(None, "/versus?one=99999").status_code == 200
