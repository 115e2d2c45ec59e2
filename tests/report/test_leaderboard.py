"""Ranks, rows and the verdict."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.report import Difference, rank_ranges, rows, verdict_sentence

from .boards import board, entry


def test_ranks_of_a_hand_worked_example() -> None:
    # a beats c and d, b beats d; a and b, b and c, c and d are not clear.
    lows = [[0, -1, 2, 3], [-2, 0, -1, 1], [-5, -3, 0, -1], [-6, -4, -2, 0]]
    highs = [[0, 2, 5, 6], [1, 0, 3, 4], [-2, 1, 0, 2], [-3, -1, 1, 0]]

    assert rank_ranges(lows, highs) == ((1, 2), (1, 3), (2, 4), (3, 4))


def test_an_interval_that_touches_zero_is_a_tie() -> None:
    assert rank_ranges([[0, 0], [-2, 0]], [[0, 2], [0, 0]]) == ((1, 2), (1, 2))


def test_an_unknown_difference_is_a_tie() -> None:
    unknown = np.full((3, 3), np.nan)

    assert rank_ranges(unknown, unknown) == ((1, 3),) * 3


def test_nobody_and_a_single_entry_can_be_ranked() -> None:
    assert rank_ranges(np.zeros((0, 0)), np.zeros((0, 0))) == ()
    assert rank_ranges([[0]], [[0]]) == ((1, 1),)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1))
def test_best_rank_is_never_below_the_worst(means: list[float], half: float) -> None:
    difference = np.subtract.outer(means, means)
    ranges = rank_ranges(difference - half, difference + half)

    assert all(1 <= best <= worst <= len(means) for best, worst in ranges)
    assert any(best == 1 for best, _ in ranges)


@given(st.integers(1, 12))
def test_equal_entries_may_all_stand_anywhere(n: int) -> None:
    assert rank_ranges(-np.ones((n, n)), np.ones((n, n))) == ((1, n),) * n


@given(st.permutations(range(8)))
def test_a_strict_order_gives_single_ranks(order: list[int]) -> None:
    difference = np.subtract.outer(order, order)

    assert rank_ranges(difference - 0.5, difference + 0.5) == tuple((8 - place, 8 - place) for place in order)


@pytest.mark.parametrize(
    ("lows", "highs"), [([[0, 1]], [[0, 1]]), ([[0]], [[0, 0], [0, 0]]), ([[0, 2], [-1, 0]], [[0, 1], [1, 0]])]
)
def test_matrices_that_are_no_intervals_are_refused(lows: list[list[int]], highs: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"square|bound"):
        rank_ranges(lows, highs)


def test_rows_follow_the_private_average() -> None:
    listed = rows(board())

    assert [row.private.value for row in listed] == sorted((row.private.value for row in listed), reverse=True)
    assert (listed[0].name, listed[0].rank, listed[0].mark) == ("tsv_m, rank 2/3", "1-3", "best blend")
    assert next(row.name for row in listed if row.mark == "best parent") == "reverse"


def test_a_rank_without_ties_is_one_number() -> None:
    assert [row.rank for row in rows(board()) if row.name in ("model stock", "logic")] == ["19", "20"]


def test_the_gap_is_public_minus_private() -> None:
    first = rows(board())[0]

    assert first.gap == first.public.value - first.private.value


def test_rows_do_not_depend_on_the_order_of_entries() -> None:
    forward = board()
    backward = replace(forward, entries=forward.entries[::-1], ranks=forward.ranks[::-1])

    assert rows(backward) == rows(forward)


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            Difference(0.1734, 0.142, 0.201),
            "Best blend tsv_m, rank 2/3 beats the best parent reverse by +17.3 points on the private part "
            "(95 % interval +14.2 to +20.1).",
        ),
        (
            Difference(-0.05, -0.08, -0.02),
            "Best blend tsv_m, rank 2/3 is behind the best parent reverse by 5.0 points on the private part "
            "(95 % interval −8.0 to −2.0).",
        ),
        (
            Difference(0.02, -0.01, 0.05),
            "Best blend tsv_m, rank 2/3 does not clearly beat the best parent reverse: +2.0 points on the "
            "private part (95 % interval −1.0 to +5.0).",
        ),
        (
            Difference(-0.0002, -0.01, 0.0),
            "Best blend tsv_m, rank 2/3 does not clearly beat the best parent reverse: 0.0 points on the "
            "private part (95 % interval −1.0 to 0.0).",
        ),
    ],
)
def test_the_verdict_claims_only_what_the_interval_shows(difference: Difference, words: str) -> None:
    assert verdict_sentence(board(verdict=difference)) == words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": ((1, 1),)}, "as many ranks"),
        ({"best_blend": "base"}, "not the name of a blend"),
        ({"best_parent": "nobody"}, "not the name of a base"),
        ({"entries": (entry("twin", (0.1,) * 5), entry("twin", (0.2,) * 5)), "ranks": ((1, 1), (2, 2))}, "same name"),
    ],
)
def test_a_leaderboard_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(board(), **changes)
