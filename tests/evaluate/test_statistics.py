"""Statistics: examples worked by hand, and intervals that hold the truth as often as they say."""

import numpy as np
import pytest

from cuvee.errors import EvaluationError
from cuvee.evaluate.report import Item, Report, TaskReport
from cuvee.evaluate.statistics import as_score, average, difference, macro_score, mean, paired_difference

RUNS = 1000


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


def test_scores_between_zero_and_one_get_the_normal_interval() -> None:
    found = mean([0.2, 0.4, 0.6])
    assert found.standard_error == pytest.approx(0.2 / 3**0.5)
    assert (found.low, found.high) == pytest.approx((0.4 - 1.96 * 0.11547, 0.4 + 1.96 * 0.11547), abs=1e-4)


def test_one_item_says_next_to_nothing() -> None:
    assert (mean([0.3]).standard_error, mean([0.3]).low, mean([0.3]).high) == (0.5, 0.0, 1.0)
    assert difference([1.0], [0.0]).standard_error == 1.0


def test_the_macro_average_combines_the_distances_to_both_ends() -> None:
    """Ends of 8/10 are .4902 and .9433, of 5/5 .5655 and 1: .9 - .5 hypot(.3098, .4345), .9 + .5 * .1433."""
    found = average([mean([1.0] * 8 + [0.0] * 2), mean([1.0] * 5)], [1.0, 1.0])
    assert found.value == pytest.approx(0.9)
    assert found.standard_error == pytest.approx(0.5 * (1.6 / 90) ** 0.5)
    assert (found.low, found.high) == pytest.approx((0.6332, 0.9717), abs=1e-4)


def test_weights_are_shares() -> None:
    found = average([mean([1.0, 0.0]), mean([1.0, 1.0])], [3.0, 1.0])
    assert found.value == pytest.approx(0.625)


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


def covers(truth: float, low: float, high: float) -> bool:
    return low <= truth <= high


@pytest.mark.parametrize(("n", "share"), [(20, 0.5), (50, 0.95), (200, 0.25)])
def test_the_interval_of_a_share_holds_it_in_95_of_100_runs(n: int, share: float) -> None:
    draws = np.random.default_rng(1).random((RUNS, n)) < share
    found = [mean(row.astype(float)) for row in draws]
    assert 0.93 < np.mean([covers(share, each.low, each.high) for each in found]) < 0.985


def test_the_interval_of_a_macro_average_holds_it_in_95_of_100_runs() -> None:
    shares, sizes = (0.3, 0.6, 0.97), (30, 60, 40)
    draws = np.random.default_rng(2)
    runs = [
        average(
            [mean((draws.random(n) < share).astype(float)) for n, share in zip(sizes, shares, strict=True)], [1] * 3
        )
        for _ in range(RUNS)
    ]
    assert 0.93 < np.mean([covers(sum(shares) / 3, each.low, each.high) for each in runs]) < 0.985


@pytest.mark.parametrize("n", [20, 100])
def test_the_interval_of_a_difference_holds_it_in_95_of_100_runs(n: int) -> None:
    """The second model is right where the first is, but for a tenth of the items, and by luck in a fifth."""
    draws = np.random.default_rng(3).random((RUNS, 3, n))
    first = draws[:, 0] < 0.6
    second = np.where(first, draws[:, 1] < 0.9, draws[:, 2] < 0.2)
    truth = 0.6 - (0.6 * 0.9 + 0.4 * 0.2)
    found = [difference(a.astype(float), b.astype(float)) for a, b in zip(first, second, strict=True)]
    assert 0.93 < np.mean([covers(truth, each.low, each.high) for each in found]) < 0.99
