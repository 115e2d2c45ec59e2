"""Statistics: examples worked by hand, and intervals that hold the truth as often as they say."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from cuvee.errors import EvaluationError
from cuvee.evaluation.ranking import rank
from cuvee.evaluation.report import Item, Report, TaskReport
from cuvee.evaluation.resample import Matrix, _with_unseen, macro_draws
from cuvee.evaluation.statistics import (
    Estimate,
    Gap,
    as_score,
    average,
    average_difference,
    difference,
    macro_score,
    mean,
    paired_difference,
)

RUNS, FEWER_RUNS = 600, 300

Pair = tuple[Matrix, Matrix]


def report(**tasks: list[float]) -> Report:
    results = tuple(
        TaskReport(
            task=name,
            digest=name,
            weight=1.0,
            scores=(as_score(name, "accuracy", mean(scores)),),
            items=tuple(Item(str(place), 0, score) for place, score in enumerate(scores)),
            truncated=0,
            tokens=0,
        )
        for name, scores in tasks.items()
    )
    return Report("m", "d", results, macro_score(results), {}, 0.0, 0)


def test_eight_of_ten_right() -> None:
    found = mean([1.0] * 8 + [0.0] * 2)
    assert (found.n, found.value) == (10, 0.8)
    assert found.standard_error == pytest.approx((1.6 / 9 / 10) ** 0.5)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_scores_between_zero_and_one_get_a_resampled_interval() -> None:
    found = mean([0.2, 0.4, 0.6])
    assert found.standard_error == pytest.approx(0.2 / 3**0.5)
    assert (found.low, found.high) == pytest.approx((0.19, 0.71), abs=0.03)


def test_one_item_says_next_to_nothing() -> None:
    assert mean([0.3]).standard_error == 0.5
    assert mean([0.3]).low < 0.1
    assert mean([0.3]).high > 0.8
    assert difference([1.0], [0.0]).standard_error == 1.0


def test_the_macro_average_of_two_tasks() -> None:
    """Draws of 8/10 are those of Beta(8.5, 2.5), of 5/5 of Beta(5.5, 0.5); quantiles of their mean, integrated."""
    found = average([[1.0] * 8 + [0.0] * 2, [1.0] * 5], [1.0, 1.0])
    assert (found.n, found.value) == (15, pytest.approx(0.9))
    assert found.standard_error == pytest.approx(0.5 * (1.6 / 90) ** 0.5)
    assert (found.low, found.high) == pytest.approx((0.658, 0.964), abs=0.01)


def test_weights_are_shares() -> None:
    found = average([[1.0, 0.0], [1.0, 1.0]], [3.0, 1.0])
    assert found.value == pytest.approx(0.625)


def test_one_task_is_its_own_average() -> None:
    assert average([[1.0, 0.0, 0.5]], [7.0]) == mean([1.0, 0.0, 0.5])
    assert average_difference([([1.0, 0.0], [0.0, 0.0])], [7.0]) == difference([1.0, 0.0], [0.0, 0.0])


def test_perfect_scores_are_not_certain() -> None:
    found = average([[1.0] * 20, [1.0] * 20], [1.0, 1.0])
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.9 < found.low < 0.97


def test_draws_weigh_the_items_of_each_task_by_itself() -> None:
    """A task of ten items says less than one of a thousand, however the weights share the average."""
    small, large = [1.0, 0.0] * 5, [1.0, 0.0] * 500
    wide, narrow = average([small, large], [9.0, 1.0]), average([small, large], [1.0, 9.0])
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_draws_of_zeros_and_ones_are_a_beta_distribution() -> None:
    scores = np.array([[1.0]] * 6 + [[0.0]] * 3)
    drawn = macro_draws([scores], [1.0], draws=100_000)
    a, b = 6.5, 3.5
    assert drawn.mean() == pytest.approx(a / (a + b), abs=0.002)
    assert drawn.var() == pytest.approx(a * b / ((a + b) ** 2 * (a + b + 1)), rel=0.02)


def test_the_order_of_models_changes_no_draw() -> None:
    scores = np.random.default_rng(5).integers(0, 3, (40, 5)) / 2
    turned = [3, 0, 4, 2, 1]
    assert (macro_draws([scores[:, turned]], [1.0]) == macro_draws([scores], [1.0])[:, turned]).all()


def test_unseen_pairs_of_answers_count_alike_for_any_two_of_many_models() -> None:
    rows, counts = _with_unseen(np.full((1, 6), 0.5))
    unseen = rows[counts != 1]
    for i, j in combinations(range(6), 2):
        pairs = Counter((row[i], row[j]) for row in unseen.tolist())
        assert len(set(pairs.values())) == 1
        assert len(pairs) == 4
    assert counts.sum() == pytest.approx(1 + 4 * 0.5)


def test_four_wins_and_one_loss_of_ten() -> None:
    """Gaps: four 1, one -1, five 0. Interval: 3/12 -+ 1.96 sqrt((6/12 - (3/12)^2) / 12)."""
    first = [1.0] * 4 + [0.0] * 1 + [1.0] * 3 + [0.0] * 2
    second = [0.0] * 4 + [1.0] * 1 + [1.0] * 3 + [0.0] * 2
    found = difference(first, second)
    assert found.value == pytest.approx(0.3)
    assert found.standard_error == pytest.approx((4.1 / 9 / 10) ** 0.5)
    assert (found.low, found.high) == pytest.approx((-0.12424, 0.62424), abs=1e-5)


def test_agreement_everywhere_is_not_certainty() -> None:
    found = difference([1.0] * 20, [1.0] * 20)
    assert (found.value, found.low) == (0.0, -found.high)
    assert found.high > 0.05


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [([1.0] * 9, [0.0] * 9, "better"), ([0.0] * 9, [1.0] * 9, "worse"), ([1.0, 0.0], [0.0, 1.0], "tie")],
)
def test_an_interval_that_holds_zero_is_a_tie(first: list[float], second: list[float], verdict: str) -> None:
    assert difference(first, second).verdict == verdict


def test_won_and_lost_items_are_counted_and_the_probability_follows() -> None:
    found = difference([1.0] * 30 + [0.0] * 10 + [1.0] * 60, [0.0] * 30 + [1.0] * 10 + [1.0] * 60)
    assert (found.won, found.lost, found.n) == (30, 10, 100)
    # A share of Beta(30.5, 10.5) of the items that differ is above one half with 99.96 %.
    assert found.better == pytest.approx(0.9996, abs=0.001)
    assert difference([1.0, 0.0] * 20, [1.0, 0.0] * 20).better == pytest.approx(0.5, abs=0.03)


def test_reports_are_compared_task_by_task() -> None:
    first = report(one=[1.0, 1.0, 0.0, 1.0], two=[0.0, 1.0])
    second = report(two=[0.0, 0.0], one=[1.0, 0.0, 0.0, 1.0])
    found = paired_difference(first, second)
    assert {name: task.value for name, task in found.tasks.items()} == {"one": 0.25, "two": 0.5}
    assert (found.macro.value, found.macro.n) == (0.375, 6)
    assert found.macro.low < 0.375 < found.macro.high


def test_a_comparison_the_other_way_round_is_the_mirror_image() -> None:
    one, other = report(one=[1.0, 1.0, 0.0], two=[0.3, 0.9]), report(one=[0.0, 1.0, 0.0], two=[0.2, 0.1])
    there, back = paired_difference(one, other).macro, paired_difference(other, one).macro
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


@pytest.mark.parametrize("other", [report(one=[1.0]), report(two=[1.0, 0.0]), report(one=[1.0, 0.0], two=[1.0])])
def test_reports_on_other_items_are_not_compared(other: Report) -> None:
    with pytest.raises(EvaluationError):
        paired_difference(report(one=[1.0, 0.0]), other)


def test_a_ranking_says_who_is_tied_and_who_may_be_best() -> None:
    strong, copy, weak = ([1.0] * 80 + [0.0] * 20, [1.0] * 79 + [0.0] * 21, [1.0] * 30 + [0.0] * 70)
    found = rank([report(one=weak), report(one=strong), report(one=copy)])
    assert [standing.position for standing in found.standings] == [1, 2, 0]
    assert [standing.rank for standing in found.standings] == ["1–2", "1–2", "3"]
    assert [standing.tied for standing in found.standings] == [(2,), (1,), ()]
    assert sum(standing.best for standing in found.standings) == pytest.approx(1.0)
    assert found.standings[0].best > found.standings[1].best > 0.1
    assert found.standings[2].best == 0.0
    assert found.differences[1][0].macro == found.differences[0][1].macro.mirrored()


def test_a_report_without_scores_is_not_ranked() -> None:
    with pytest.raises(EvaluationError, match="without scores"):
        rank([report(one=[1.0]), Report("m", "d", (), None, {}, 0.0, 0)])


# Coverage. Shares are drawn anew for each run: the intervals of one share jump with the number of items, as those of
# counts must, and what is promised is the average.


def covers(truth: float, found: Estimate | Gap) -> bool:
    return found.low <= truth <= found.high


def shares(draws: np.random.Generator) -> float:
    return float(draws.uniform(0.05, 0.98))


@pytest.mark.parametrize("n", [20, 200])
def test_the_interval_of_a_share_holds_it_in_95_of_100_runs(n: int) -> None:
    draws = np.random.default_rng(1)
    truths = [shares(draws) for _ in range(RUNS)]
    hits = [covers(truth, mean((draws.random(n) < truth).astype(float))) for truth in truths]
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize(("n", "zeros", "ones"), [(30, 0.2, 0.5), (60, 0.9, 0.0)])
def test_the_interval_of_partial_scores_holds_their_mean_in_95_of_100_runs(n: int, zeros: float, ones: float) -> None:
    """A share of zeros, a share of ones, and anything between."""
    draws = np.random.default_rng(2)
    kinds, between = draws.random((FEWER_RUNS, n)), draws.random((FEWER_RUNS, n))
    scores = np.where(kinds < zeros, 0.0, np.where(kinds < zeros + ones, 1.0, between))
    truth = ones + (1 - zeros - ones) / 2
    assert 0.93 <= np.mean([covers(truth, mean(row)) for row in scores]) <= 0.97


def test_the_interval_of_a_macro_average_holds_it_in_95_of_100_runs() -> None:
    draws, sizes, weights = np.random.default_rng(3), (30, 60, 40, 150), (1.0, 2.0, 1.0, 1.0)
    hits = []
    for _ in range(RUNS):
        truths = [shares(draws) for _ in sizes]
        tasks = [(draws.random(n) < truth).astype(float) for n, truth in zip(sizes, truths, strict=True)]
        hits.append(covers(float(np.average(truths, weights=weights)), average(tasks, weights)))
    assert 0.93 <= np.mean(hits) <= 0.97


def two_models(draws: np.random.Generator, n: int, right: float, kept: float, luck: float) -> Pair:
    """The second model is right in a share `kept` of the items where the first is, and by luck in some others."""
    first = draws.random(n) < right
    return first.astype(float), (draws.random(n) < np.where(first, kept, luck)).astype(float)


@pytest.mark.parametrize("sizes", [(40,), (30, 60, 40)])
def test_the_interval_of_a_difference_holds_it_in_95_of_100_runs(sizes: tuple[int, ...]) -> None:
    draws = np.random.default_rng(4)
    hits = []
    for _ in range(RUNS):
        settings = [(draws.uniform(0.3, 0.8), draws.uniform(0.5, 0.95), draws.uniform(0.1, 0.5)) for _ in sizes]
        truth = np.mean([right - right * kept - (1 - right) * luck for right, kept, luck in settings])
        pairs = [two_models(draws, n, *setting) for n, setting in zip(sizes, settings, strict=True)]
        hits.append(covers(float(truth), average_difference(pairs, [1.0] * len(sizes))))
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize("sizes", [(200,), (30, 60, 40), (100, 100, 100, 100, 100)])
def test_equal_models_are_told_apart_in_5_of_100_runs(sizes: tuple[int, ...]) -> None:
    draws = np.random.default_rng(6)
    wrong = []
    for _ in range(FEWER_RUNS if len(sizes) > 3 else RUNS):
        settings = [(draws.uniform(0.3, 0.7), draws.uniform(0.6, 0.9)) for _ in sizes]
        pairs = [
            two_models(draws, n, right, kept, right * (1 - kept) / (1 - right))
            for n, (right, kept) in zip(sizes, settings, strict=True)
        ]
        wrong.append(average_difference(pairs, [1.0] * len(sizes)).verdict != "tie")
    assert 0.03 <= np.mean(wrong) <= 0.07
