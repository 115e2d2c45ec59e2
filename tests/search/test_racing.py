"""Dropping by paired differences: examples worked by hand, and how often a good candidate is dropped."""

from collections.abc import Callable

import numpy as np
import pytest

from cuvee.search.racing import decision, paired_differences, relative_radius

from .simulated import Array, at_most

RUNS = 4000

Draw = Callable[[np.random.Generator, tuple[int, int], int], Array]


def discordant(share: float, lead: float = 0.0) -> Draw:
    """Zeros and ones: on `share` of the items one of both is right, and the candidate `lead` more often."""

    def draw(generator: np.random.Generator, shape: tuple[int, int], task: int) -> Array:
        place = generator.random(shape)
        won, lost = place < (share + lead) / 2, place > 1 - (share - lead) / 2
        return won.astype(np.float64) - lost

    return draw


def grades(generator: np.random.Generator, shape: tuple[int, int], task: int) -> Array:
    """Scores between zero and one, mostly near the ends."""
    difference: Array = generator.beta(0.5, 0.5, shape) - generator.beta(0.5, 0.5, shape)
    return difference


def trade(generator: np.random.Generator, shape: tuple[int, int], task: int) -> Array:
    """As good on average, but better on some tasks and worse on others."""
    return discordant(0.4, (0.3, -0.3, 0.1, -0.1, 0.0)[task])(generator, shape, task)


def dropped(draw: Draw, tasks: list[int], weights: list[float]) -> tuple[int, float]:
    """Count the runs that are dropped at any look after every 25 items, and how many items a run took on average."""
    generator = np.random.default_rng(0)
    differences = [draw(generator, (RUNS, items), task) for task, items in enumerate(tasks)]
    out, used, looks = np.zeros(RUNS, bool), np.zeros(RUNS), max(1, sum(tasks) // 25)
    for look in range(2, looks + 1):
        seen = [each[:, : -(-look * each.shape[1] // looks)] for each in differences]
        items = sum(each.shape[1] for each in seen)
        used[~out] = items
        if look == looks:
            break
        paired = paired_differences(seen, weights)
        out |= paired.difference + paired.widened * relative_radius(items) < 0
    return int(out.sum()), float(used.mean())


@pytest.mark.parametrize(
    ("draw", "tasks", "weights"),
    [
        pytest.param(discordant(0.02), [100] * 5, [1] * 5, id="nearly always the same answer"),
        pytest.param(discordant(0.2), [500], [1], id="one task"),
        pytest.param(discordant(0.5), [80] * 5, [1] * 5, id="five tasks"),
        pytest.param(discordant(0.2), [2000], [1], id="many looks"),
        pytest.param(discordant(0.5), [300, 40, 25], [1, 3, 5], id="few items weigh most"),
        pytest.param(discordant(0.2), [300, 40, 25], [1, 1, 1], id="unequal tasks"),
        pytest.param(grades, [100] * 5, [1] * 5, id="grades"),
        pytest.param(grades, [300, 40, 25], [1, 3, 5], id="grades of unequal tasks"),
        pytest.param(trade, [100] * 5, [1] * 5, id="gains here, losses there"),
        pytest.param(discordant(0.2, 0.02), [500], [1], id="better"),
    ],
)
def test_at_most_five_of_a_hundred_as_good_are_dropped_over_all_looks(
    draw: Draw, tasks: list[int], weights: list[float]
) -> None:
    drops, _ = dropped(draw, tasks, weights)
    assert at_most(drops, RUNS) <= 0.05


def test_worse_candidates_are_dropped_early() -> None:
    drops, items = dropped(discordant(0.2, -0.1), [500], [1])
    assert drops > 0.98 * RUNS
    assert items < 200
    drops, items = dropped(discordant(0.4, -0.2), [500], [1])
    assert drops > 0.999 * RUNS
    assert items < 110


def test_a_bound_worked_by_hand() -> None:
    # 60 items of one task: 20 lost, 5 won, 35 alike.
    candidate, incumbent = [0.0] * 20 + [1.0] * 5 + [1.0] * 35, [1.0] * 20 + [0.0] * 5 + [1.0] * 135
    race = decision({"sort": candidate}, {"sort": incumbent}, {"sort": 1.0})
    variance = (25 - 60 * 0.25**2) / 59
    assert race.items == 60
    assert race.difference == pytest.approx(-15 / 60)
    assert race.standard_error == pytest.approx((variance / 60) ** 0.5)
    s = (variance + 0.5 / 60) ** 0.5
    assert race.radius == pytest.approx(s * (110 / 3600 * np.log(110 / (50 * 0.15**2))) ** 0.5)
    assert race.drop == (race.difference + race.radius < 0)
    assert race.drop
    assert race.told == pytest.approx(155 / 160 - 0.25)


def test_what_is_told_is_the_incumbents_score_plus_the_difference() -> None:
    # The first items are easy: the candidate's own mean there says little of the whole.
    easy = [1.0] * 30
    race = decision({"sort": easy}, {"sort": easy + [0.0] * 70}, {"sort": 1.0})
    assert race.told == pytest.approx(0.3)


def test_tasks_count_by_their_weights() -> None:
    candidate = {"sort": [1.0, 1.0], "shift": [0.0, 0.0]}
    incumbent = {"sort": [0.0, 0.0, 1.0], "shift": [1.0, 1.0, 1.0]}
    race = decision(candidate, incumbent, {"sort": 3.0, "shift": 1.0})
    assert race.difference == pytest.approx(0.75 - 0.25)
    assert race.told == pytest.approx(0.75 / 3 + 0.25 + 0.5)


def test_nobody_is_dropped_before_fifty_items_or_after_the_last() -> None:
    incumbent = {"sort": [1.0] * 100}
    weights = {"sort": 1.0}
    assert not decision({"sort": [0.0] * 49}, incumbent, weights).drop
    assert decision({"sort": [0.0] * 50}, incumbent, weights).drop
    assert decision({"sort": [0.0] * 20}, incumbent, weights, least=20).drop
    assert not decision({"sort": [0.0] * 100}, incumbent, weights).drop


def test_a_candidate_with_the_same_answers_stays() -> None:
    race = decision({"sort": [1.0] * 60}, {"sort": [1.0] * 100}, {"sort": 1.0})
    assert (race.drop, race.difference, race.standard_error) == (False, 0.0, 0.0)
    assert race.radius > 0


def test_a_span_suits_scores_on_another_scale() -> None:
    candidate, incumbent = {"text": [-2.02] * 30 + [-2.0] * 30}, {"text": [-2.0] * 100}
    assert not decision(candidate, incumbent, {"text": 1.0}).drop
    assert decision(candidate, incumbent, {"text": 1.0}, span=0.02).drop


@pytest.mark.parametrize(
    ("candidate", "incumbent", "weights", "text"),
    [
        ({"a": [1.0, 1.0]}, {"a": [1.0]}, {"a": 1.0}, "2 scores, the incumbent 1"),
        ({"a": []}, {"a": [1.0]}, {"a": 1.0}, "0 scores"),
        ({"b": [1.0]}, {"a": [1.0]}, {"a": 1.0}, "the candidate has scores of"),
        ({"a": [float("nan")]}, {"a": [1.0]}, {"a": 1.0}, "not a finite number"),
        ({"a": [1.0]}, {"a": [1.0]}, {"a": 0.0}, "a weight for every task"),
    ],
)
def test_what_does_not_fit_is_refused(
    candidate: dict[str, list[float]], incumbent: dict[str, list[float]], weights: dict[str, float], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        decision(candidate, incumbent, weights)
