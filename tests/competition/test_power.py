"""What gap items tell apart, and how far luck lifts the best of many tries, each against simulations of its own."""

from statistics import NormalDist

import numpy as np
import pytest

from cuvee.competition.comparisons import Scores
from cuvee.competition.luck import luck_of
from cuvee.competition.power import TOLD_APART, power_of

POINTS = 0.01


def answers(truths: list[float], count: int, generator: np.random.Generator, alike: float = 0.5) -> np.ndarray:
    """Draw who is right on which item: a threshold on what an item shares and on luck of one's own."""
    bars = np.array([NormalDist().inv_cdf(truth) for truth in truths])[:, None]
    shared, own = generator.normal(size=count), generator.normal(size=(len(truths), count))
    latent = alike**0.5 * shared + (1 - alike) ** 0.5 * own
    return (latent < bars).astype(float)


def told_apart(gap: float, items: dict[str, int], level: float, seed: int, pairs: int = 2500) -> float:
    """Simulate pair after pair, each on items of its own, and compare it as the board does."""
    generator, found = np.random.default_rng(seed), 0
    for _ in range(pairs):
        drawn = {task: answers([level + gap / 2, level - gap / 2], n, generator) for task, n in items.items()}
        scores = Scores([{task: right[k] for task, right in drawn.items()} for k in (0, 1)], items)
        bounds = scores.differences(np.array([0]), np.array([1]), dict.fromkeys(items, 1.0))
        found += bool(bounds.low[0, 0] > 0)
    return found / pairs


@pytest.mark.parametrize(("items", "level"), [({"a": 130, "b": 130, "c": 130}, 0.6), ({"a": 40, "b": 300}, 0.7)])
def test_simulated_competitions_agree_with_the_gap_within_three_tenths_of_a_point(
    items: dict[str, int], level: float
) -> None:
    gap = power_of(items, dict.fromkeys(items, 1.0), level=level).gap
    assert told_apart(gap - 0.3 * POINTS, items, level, seed=1) < TOLD_APART
    assert told_apart(gap + 0.3 * POINTS, items, level, seed=2) > TOLD_APART


def test_more_items_tell_smaller_gaps_apart_and_the_same_seed_says_the_same() -> None:
    gaps = [power_of({"a": count}, {"a": 1.0}).gap for count in (100, 400, 1600)]
    assert gaps[0] > 1.7 * gaps[1] > 1.7**2 * gaps[2]
    assert power_of({"a": 100}, {"a": 1.0}) == power_of({"a": 100}, {"a": 1.0})
    assert power_of({"a": 100}, {"a": 1.0}, teams=10).share_first > 5


@pytest.mark.parametrize(("tries", "alike"), [(2, 0.5), (12, 0.7)])
def test_the_luck_figure_covers_in_ninety_five_of_a_hundred_simulated_teams(tries: int, alike: float) -> None:
    generator, covered, teams = np.random.default_rng(7), 0, 700
    excess, expected = [], []
    for _ in range(teams):
        items = {task: answers([0.6] * tries, 120, generator, alike) for task in ("a", "b")}
        entries = [{task: right[k] for task, right in items.items()} for k in range(tries)]
        luck = luck_of(entries, {"a": 1.0, "b": 1.0})
        assert luck is not None
        best = max(float(np.mean([entry["a"].mean(), entry["b"].mean()])) for entry in entries) - 0.6
        covered += best <= luck.at_most
        excess.append(best)
        expected.append(luck.expected)
    assert 0.93 <= covered / teams <= 0.97
    assert abs(np.mean(excess) - np.mean(expected)) < 0.2 * POINTS


def test_one_entry_owes_nothing_to_a_choice() -> None:
    assert luck_of([{"a": [1.0, 0.0]}], {"a": 1.0}) is None
