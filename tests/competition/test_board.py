"""What the board says: order, ties, ranges, the Ladder, and that its statistics are the house's."""

import gc
import itertools
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from competition.filled import fill
from competition.made import NOON, TASKS, Clock, items_of, tiny_competition, verdict
from competition.serving import Served, serve
from cuvee.competition.board import (
    MOST_WHAT_IFS,
    Boards,
    Entry,
    arrange,
    find_ranks,
    make_board,
    pareto_front,
    with_weights,
)
from cuvee.competition.comparisons import Indexes, Items, Scores, all_differences, ranks, weighted_score
from cuvee.competition.database import Database
from cuvee.competition.ladder import better_than_noise
from cuvee.competition.pages.board_page import Choice, arranged, plot, read_choice
from cuvee.competition.pages.paging import ROWS_PER_PAGE, pages_near
from cuvee.competition.views import board_json, board_view
from cuvee.evaluation.ranking import rank_ranges
from cuvee.evaluation.statistics import average, average_difference

WEIGHTS = {"capitals": 1.0, "sums": 2.0}


def entry(number: int, items: Items, *, seconds: float = 1.0, kind: str = "participant") -> Entry:
    score = weighted_score(items, WEIGHTS)
    tasks = {task: weighted_score({task: items[task]}, {task: 1.0}) for task in TASKS}
    return Entry(
        submission_id=number,
        team_id=number,
        team=f"team {number}",
        kind=kind,
        title="",
        note="",
        score=score,
        tasks=tasks,
        items=items,
        seconds=seconds,
        cpu_seconds=None,
        memory_bytes=1,
        tokens=1,
        parameters=1,
        submitted_at=NOON,
        entries=1,
    )


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_intervals_of_differences_are_those_of_the_house(seed: int, first: float, second: float) -> None:
    a, b = items_of(first, seed), items_of(second, seed + 1)
    house = average_difference([(a[task], b[task]) for task in TASKS], [WEIGHTS[task] for task in TASKS])
    ours = all_differences([a, b], WEIGHTS)
    assert ours.value[0, 1] == pytest.approx(house.value)
    assert ours.low[0, 1] == pytest.approx(house.low, abs=0.02)
    assert ours.high[0, 1] == pytest.approx(house.high, abs=0.02)


def test_intervals_of_scores_are_those_of_the_house() -> None:
    items = items_of(0.7, 3)
    house, ours = average([items[task] for task in TASKS], [1.0, 2.0]), weighted_score(items, WEIGHTS)
    assert (ours.value, ours.low, ours.high) == pytest.approx((house.value, house.low, house.high), abs=0.02)


def test_how_two_entries_compare_does_not_depend_on_a_third() -> None:
    a, b, c = (items_of(skill, seed) for seed, skill in enumerate((0.5, 0.6, 0.9)))
    two, three = all_differences([a, b], WEIGHTS), all_differences([c, b, a], WEIGHTS)
    assert two.low[0, 1] == pytest.approx(three.low[2, 1])
    assert three.low[1, 2] == pytest.approx(-three.high[2, 1])


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        first = {task: generator.random(80) < 0.6 for task in TASKS}
        second = {task: generator.random(80) < 0.5 for task in TASKS}
        bounds = all_differences([first, second], WEIGHTS)  # type: ignore[list-item]  # booleans count as numbers
        held += bool(bounds.low[0, 1] <= 0.1 <= bounds.high[0, 1])
    assert 0.92 <= held / 400 <= 0.98


def test_equal_entries_share_a_range_of_ranks_and_a_clear_winner_has_the_first() -> None:
    same, best = items_of(0.4, 1), dict.fromkeys(TASKS, (1.0,) * 60)
    assert ranks([same, best, same], WEIGHTS) == ((2, 3), (1, 1), (2, 3))


def test_equal_scores_are_ordered_by_the_tie_breaks() -> None:
    items = items_of(0.4, 1)
    entries = [entry(1, items, seconds=9), entry(2, items, seconds=3)]
    by_cost = arrange(entries, WEIGHTS, ["cost", "earlier"], phase="open", revision=0)
    assert [place.entry.submission_id for place in by_cost.places] == [2, 1]
    assert [place.rank for place in by_cost.places] == ["1–2", "1–2"]
    by_time = arrange(entries, WEIGHTS, ["earlier"], phase="open", revision=0)
    assert [place.entry.submission_id for place in by_time.places] == [1, 2]


def test_parents_take_no_rank_and_are_compared_with() -> None:
    parent = entry(1, items_of(0.5, 1), kind="parent")
    good = entry(2, dict.fromkeys(TASKS, (1.0,) * 60))
    bad = entry(3, dict.fromkeys(TASKS, (0.0,) * 60))
    board = arrange([parent, good, bad], WEIGHTS, ["earlier"], phase="open", revision=0)
    assert [(place.entry.submission_id, place.rank, place.against_parent) for place in board.places] == [
        (2, "1", "better"),
        (1, "–", ""),
        (3, "2", "worse"),
    ]


def test_other_weights_give_another_order() -> None:
    first = entry(1, {"capitals": (1.0,) * 60, "sums": (0.0,) * 60})
    second = entry(2, {"capitals": (0.0,) * 60, "sums": (1.0,) * 60})
    board = arrange([first, second], WEIGHTS, ["earlier"], phase="open", revision=0)
    assert [place.entry.submission_id for place in board.places] == [2, 1]
    other = with_weights(board, {"capitals": 3.0, "sums": 1.0}, ["earlier"])
    assert [(place.entry.submission_id, place.score.value) for place in other.places] == [(1, 0.75), (2, 0.25)]
    assert with_weights(board, {"capitals": 0.0, "sums": 0.0}, ["earlier"]) is board


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_ranks_of_some_rows_are_those_of_all_pairs(seed: int, count: int) -> None:
    entries = [entry(n, items_of(0.3 + 0.05 * (n % 9), seed + n)) for n in range(1, count + 1)]
    board = arrange(entries, WEIGHTS, ["earlier"], phase="open", revision=0)
    bounds = all_differences([place.entry.items for place in board.places], WEIGHTS)
    expected = rank_ranges(bounds.low, bounds.high)
    assert board.places[-1].ranks == expected[-1], "one row alone"
    find_ranks(board.places)
    assert tuple(place.ranks for place in board.places) == expected


def test_other_weights_score_as_each_entry_alone() -> None:
    entries = [entry(n, items_of(0.5, n)) for n in range(1, 6)]
    board = arrange(entries, WEIGHTS, ["earlier"], phase="open", revision=0)
    weights = {"capitals": 0.3, "sums": 0.7}
    for place in with_weights(board, weights, ["earlier"]).places:
        alone, shown = weighted_score(place.entry.items, weights), place.score
        assert (shown.value, shown.low, shown.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_a_page_compares_no_more_rows_than_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry(n, items_of(0.5, n % 50)) for n in range(1, 301)]
    board = arrange(entries, WEIGHTS, ["earlier"], phase="open", revision=0)
    compared: list[int] = []
    ranks = Scores.ranks

    def counted(self: Scores, rows: Indexes, rivals: Indexes, weights: dict[str, float]) -> list[tuple[int, int]]:
        compared.append(len(rows))
        return ranks(self, rows, rivals, weights)

    monkeypatch.setattr(Scores, "ranks", counted)
    shown = arranged(board, Choice("open", sort="team"))
    assert [place.rank for place in shown.rows]
    assert compared == [ROWS_PER_PAGE]


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(1, 8)), st.sampled_from(["score", "team", "seconds"]), st.booleans(), st.integers(1, 9))
def test_pages_cut_the_whole_order_and_each_row_is_as_on_the_whole_board(
    skills: list[int], sort: str, reverse: bool, rows_per_page: int
) -> None:
    entries = [entry(n, items_of(skill / 8, n), seconds=-skill) for n, skill in enumerate(skills, start=1)]
    board = arrange(entries, WEIGHTS, ["earlier"], phase="open", revision=0)
    choice = Choice("open", sort=sort, reverse=reverse)
    whole = arranged(board, choice, rows_per_page=len(entries))
    first = arranged(board, choice, rows_per_page=rows_per_page)
    paged = [
        arranged(board, replace(choice, page=number), rows_per_page=rows_per_page)
        for number in range(1, first.pages + 1)
    ]
    assert [place for shown in paged for place in shown.rows] == list(whole.rows)
    beyond = arranged(board, replace(choice, page=first.pages + 1), rows_per_page=rows_per_page)
    assert beyond == paged[-1]


def test_the_readers_row_is_on_every_page_and_a_link_finds_a_teams_page() -> None:
    entries = [entry(n, items_of(1 - n / 8, n)) for n in range(1, 8)]
    board = arrange(entries, WEIGHTS, ["earlier"], phase="open", revision=0)
    reader = board.places[5].entry.team_id
    first = arranged(board, Choice("open"), reader=reader, rows_per_page=2)
    assert (first.own, first.own_page) == (board.places[5], 3)
    there = arranged(board, Choice("open", at=reader), reader=reader, rows_per_page=2)
    assert (there.page, there.rows, there.own) == (3, board.places[4:6], None)
    assert arranged(board, Choice("open", find="nobody"), reader=reader, rows_per_page=2).own is None
    assert arranged(board, Choice("open", at=99), rows_per_page=2).page == 1


@pytest.mark.parametrize(
    ("page", "pages", "offered"),
    [(1, 1, [1]), (1, 3, [1, 2, 3]), (5, 9, [1, 4, 5, 6, 9]), (9, 9, [1, 8, 9])],
)
def test_the_first_the_last_and_the_pages_beside_are_offered(page: int, pages: int, offered: list[int]) -> None:
    assert pages_near(page, pages) == offered


@pytest.mark.parametrize(
    ("written", "page"),
    [("3", 3), ("007", 7), ("0", 1), ("", 1), ("-2", 1), ("²", 1), ("99999999", 10_000), ("9" * 5000, 10_000)],
)
def test_any_text_is_some_page(written: str, page: int) -> None:
    assert read_choice({"page": written}, ["open"], TASKS).page == page


@pytest.mark.parametrize(("written", "team"), [("17", 17), ("", None), ("²", None), ("-2", None), ("9" * 5000, None)])
def test_a_teams_page_is_asked_for_by_its_number(written: str, team: int | None) -> None:
    assert read_choice({"at": written}, ["open"], TASKS).at == team


def test_many_readers_at_once_compute_a_board_once(sqlite: Database, clock: Clock) -> None:
    import threading

    for served in serve(sqlite, clock, tiny_competition()):
        for who in ("team", "other"):
            served.send(who, who)
        served.judge_all()
        boards = served.service.boards
        seen: dict[str, set[int]] = {"board": set(), "what if": set()}

        def look(boards: Boards = boards, seen: dict[str, set[int]] = seen) -> None:
            seen["board"].add(id(boards.board("open")))
            seen["what if"].add(id(boards.what_if("open", {"capitals": 5.0, "sums": 1.0})))

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [len(each) for each in seen.values()] == [1, 1]
        first = boards.what_if("open", {"capitals": 5.0, "sums": 1.0})
        served.send("team", "another", key="c")
        served.judge_all()
        later = boards.what_if("open", {"capitals": 5.0, "sums": 1.0})
        assert later.revision > first.revision


def test_a_changed_board_reads_only_the_results_that_it_has_not_read(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cuvee.competition import board as module

    read: list[list[int]] = []
    read_details = module.read_details

    def counted(connection, numbers, weights):  # type: ignore[no-untyped-def]  # as it is
        read.append(list(numbers))
        return read_details(connection, numbers, weights)

    monkeypatch.setattr(module, "read_details", counted)
    for nth, who in enumerate(("team", "other")):
        served.send(who, key=str(nth), weight=nth + 1)
        served.judge_all()
        served.service.boards.board("open")
    served.ask("organiser", "POST", "/api/organiser/submissions/1/annotate", json={"note": "a fine one"})
    assert {place.entry.note for place in served.service.boards.board("open").places} == {"", "a fine one"}
    assert read == [[1], [2], []]


def test_a_board_that_reuses_results_is_as_one_that_is_read_anew(served: Served) -> None:
    def judged(seed: int) -> None:
        served.judge_all(lambda *_: verdict(0.6, seed))  # type: ignore[arg-type]  # a judge is a function
        _check_board(served)

    def organise(verb: str, **body: object) -> None:
        answer = served.ask("organiser", "POST", f"/api/organiser/{verb}", json=body or None)
        assert answer.status_code == 200
        _check_board(served)

    for nth, who in enumerate(("team", "other", "team")):
        served.send(who, key=str(nth))
        judged(nth)
    organise("submissions/1/rerun")
    judged(7)
    organise("submissions/2/rerun")
    judged(8)
    organise("submissions/2/hide", hidden=True)
    organise("submissions/2/hide", hidden=False)
    organise(f"teams/{served.teams['team']}/hide", hidden=True)


def _check_board(served: Served) -> None:
    with served.service.database.read() as connection:
        fresh = make_board(connection, served.service.competition, "open")
    kept = served.service.boards.board("open")
    assert [_plain(entry) for entry in kept.entries] == [_plain(entry) for entry in fresh.entries]
    assert [place.ranks for place in kept.places] == [place.ranks for place in fresh.places]


def _plain(entry: Entry) -> dict[str, object]:

    items = {task: [float(score) for score in scores] for task, scores in entry.items.items()}
    return {**entry._asdict(), "items": items}


def test_boards_by_other_weights_are_kept_by_hundredths_and_not_for_ever(served: Served) -> None:
    served.send()
    served.judge_all()
    tasks = ["capitals", "sums"]
    choices = [read_choice({"w.sums": text}, ["open"], tasks).weights for text in ("1.001", "1.0", "1.004")]
    assert choices == [{"sums": 1.0}] * 3
    boards = served.service.boards
    for nth in range(MOST_WHAT_IFS + 5):
        boards.what_if("open", {"capitals": 1.0, "sums": 3.0 + nth})
    assert len(boards._what_ifs) == MOST_WHAT_IFS


def test_boards_by_other_weights_of_an_earlier_revision_are_let_go(served: Served) -> None:
    """Each holds the scores of all its entries: megabytes with thousands of teams."""
    served.send()
    served.judge_all()
    earlier = weakref.ref(served.service.boards.what_if("open", {"capitals": 5.0, "sums": 1.0}))
    assert earlier() is not None
    served.send("other", key="later")
    served.judge_all()
    served.service.boards.board("open")
    gc.collect()
    assert earlier() is None


def test_the_rules_may_lose_a_task_that_results_still_have(served: Served) -> None:
    fill(served)
    competition = served.service.competition
    fewer = replace(competition, tasks=competition.tasks[:1])
    with served.service.database.read() as connection:
        first = make_board(connection, fewer, "open")
        again = make_board(connection, fewer, "open", first.entries[:3])
    assert [_plain(entry) for entry in again.entries] == [_plain(entry) for entry in first.entries]
    assert len(again.entries) > 3


def test_the_front_joins_what_no_cheaper_one_beats() -> None:
    entries = [entry(n, items_of(skill, 5), seconds=s) for n, skill, s in ((1, 0.2, 1), (2, 0.1, 2), (3, 0.9, 3))]
    board = arrange(entries, WEIGHTS, ["earlier"], phase="open", revision=0)
    assert [p.entry.submission_id for p in pareto_front(board.places, lambda each: each.seconds)] == [1, 3]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9000), st.integers(0, 60)), min_size=2, max_size=12, unique=True))
def test_names_in_the_plot_do_not_run_into_each_other_and_the_best_has_one(costs: list[tuple[int, int]]) -> None:
    entries = []
    for number, (tokens, right) in enumerate(costs, start=1):
        items = dict.fromkeys(TASKS, (1.0,) * right + (0.0,) * (60 - right))
        entries.append(entry(number, items)._replace(tokens=tokens, team=f"The Society of Mergers {number}"))
    board = arrange(entries, WEIGHTS, ["tokens"], phase="open", revision=0)
    drawn = plot(board.places)
    if drawn is None:
        return
    assert all(dot.on_front for dot in drawn.dots if dot.name)
    assert drawn.dots[0].name, "the best, cheapest first among equals"
    for one, other in itertools.combinations([dot for dot in drawn.dots if dot.name], 2):
        ends = [sorted((dot.x, dot.x + (12 if dot.anchor == "start" else -12) * len(dot.name))) for dot in (one, other)]
        are_beside = ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]
        assert are_beside or abs(one.y - other.y) > 22
    for named, other in itertools.permutations([dot for dot in drawn.dots if dot.on_front], 2):
        left, right = sorted((named.x, named.x + (12 if named.anchor == "start" else -12) * len(named.name)))
        is_covered = left <= other.x <= right and named.y - 27 <= other.y < named.y
        assert not named.name or not is_covered or named.x == other.x


def test_random_answers_gain_less_than_the_noise_by_asking_often() -> None:
    """The attack of Blum and Hardt: many random answers, kept where the shown score is better."""
    generator = np.random.default_rng(11)
    best: Items = {"capitals": tuple(map(float, generator.random(400) < 0.5))}
    weights, shown, free = {"capitals": 1.0}, [np.mean(best["capitals"])], 0.0
    for _ in range(300):
        tried = {"capitals": tuple(map(float, generator.random(400) < 0.5))}
        free = max(free, float(np.mean(tried["capitals"])))
        if better_than_noise(tried, best, weights):
            best = tried
            shown.append(float(np.mean(tried["capitals"])))
    assert len(shown) <= 5, "few scores are shown"
    assert max(shown) <= free
    noise = (0.5 * 0.5 * 2 / 400) ** 0.5
    assert all(later - earlier > 0.9 * noise for earlier, later in itertools.pairwise(shown))


def test_the_ladder_shows_a_score_only_where_it_is_better_by_more_than_the_noise(
    sqlite: Database, clock: Clock
) -> None:
    for served in serve(sqlite, clock, tiny_competition(feedback="ladder")):
        shown = [_score_shown(served, skill, seed) for skill, seed in ((0.5, 1), (0.51, 2), (0.95, 3), (0.2, 4))]
        assert [score is not None for score in shown] == [True, False, True, False]
        place = served.ask(None, "GET", "/api/board").json()["places"][0]
        assert place["score"]["value"] == shown[2]
        own = served.ask("team", "GET", "/api/submissions/2").json()
        assert "not better than your best by more than the noise" in own["feedback"]
        assert own["tasks"] == {}


def test_a_blind_phase_shows_no_score_anywhere(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(feedback="none", logs="all")):
        assert _score_shown(served, 0.7, 1) is None
        assert served.ask(None, "GET", "/api/board").json()["places"] == []
        assert served.ask("team", "GET", "/api/submissions/1/logs").status_code == 403
        page = served.page("team", "/submissions/1").text
        assert "scores are not shown in this phase" in page
        assert served.ask("organiser", "GET", "/api/submissions/1").json()["score"] is not None


def _score_shown(served: Served, skill: float, seed: int) -> float | None:
    number = served.send(title=f"try {seed}", key=str(seed))
    served.judge_all(lambda *_: verdict(skill, seed))  # type: ignore[arg-type]  # a judge is a function
    score = served.ask("team", "GET", f"/api/submissions/{number}").json()["score"]
    return None if score is None else float(score["value"])


def test_a_board_as_json_is_what_its_view_says(served: Served) -> None:
    for places in (False, True):
        if places:
            fill(served)
        board = served.service.boards.board("open")
        assert bool(board.places) == places
        assert board_json(board) == board_view(board).model_dump_json()
