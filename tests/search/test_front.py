"""The front of several objectives: who stays, and what they cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.search.front import Objective, front, hypervolume

WEIGHTS = {"sort": 1.0}


def objective(name: str, **right: int) -> Objective:
    scores = {who: {"sort": [1.0] * count + [0.0] * (200 - count)} for who, count in right.items()}
    return Objective(name, scores, WEIGHTS)


def test_a_candidate_that_is_clearly_behind_in_everything_leaves() -> None:
    made = front([objective("score", a=150, b=60, c=80), objective("short", a=80, b=150, c=20)])
    assert [(point.name, point.outer) for point in made.points] == [("a", True), ("b", True)]
    assert made.objectives == ("score", "short")
    assert [point.values[0].value for point in made.points] == [0.75, 0.3]


def test_a_candidate_that_may_be_as_good_in_one_stays() -> None:
    made = front([objective("score", a=150, b=80), objective("short", a=81, b=80)])
    assert [(point.name, point.outer) for point in made.points] == [("a", True), ("b", False)]


def test_candidates_with_the_same_answers_both_stay() -> None:
    made = front([objective("score", a=150, b=150), objective("short", a=80, b=80)])
    assert [point.outer for point in made.points] == [True, True]


def test_equals_seldom_push_each_other_off() -> None:
    generator = np.random.default_rng(0)
    lost = 0
    for _ in range(50):
        scores = (generator.random((2, 8, 200)) < 0.6).astype(float)
        made = front([
            Objective(name, {str(i): {"sort": own.tolist()} for i, own in enumerate(part)}, WEIGHTS)
            for name, part in zip(("first", "second"), scores, strict=True)
        ])  # fmt: skip
        lost += 8 - len(made.points)
    assert lost / (50 * 8) <= 0.005


def test_the_hypervolume_by_hand() -> None:
    made = front([objective("score", a=150, b=50), objective("short", a=50, b=150)])
    assert made.hypervolume.value == pytest.approx(0.25 * 0.75 + 0.75 * 0.25 - 0.25 * 0.25)
    assert made.hypervolume.low < made.hypervolume.value < made.hypervolume.high
    assert made.hypervolume.high - made.hypervolume.low < 0.2
    above = front([objective("score", a=150, b=50), objective("short", a=50, b=150)], reference=(0.5, 0.2))
    assert above.hypervolume.value == pytest.approx(0.25 * 0.05 / (0.5 * 0.8))


@pytest.mark.slow  # 200 fronts
def test_the_interval_of_the_hypervolume_holds_the_truth() -> None:
    generator = np.random.default_rng(0)
    chance = np.array([[0.8, 0.3], [0.55, 0.6], [0.3, 0.8]])
    truth, covered = hypervolume(chance, (0.0, 0.0)), 0
    for _ in range(200):
        parts = [(generator.random((3, 300)) < chance[:, [i]]).astype(float) for i in (0, 1)]
        objectives = [
            Objective(str(i), {str(j): {"sort": own.tolist()} for j, own in enumerate(part)}, WEIGHTS)
            for i, part in enumerate(parts)
        ]
        made = front(objectives)
        assert len(made.points) == 3
        covered += made.hypervolume.low <= truth <= made.hypervolume.high
    assert 0.9 <= covered / 200 <= 0.99


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=6))
def test_the_hypervolume_is_the_number_of_cells_reached(points: list[tuple[int, ...]]) -> None:
    cells = {(x, y, z) for a, b, c in points for x in range(a) for y in range(b) for z in range(c)}
    assert hypervolume(np.array(points, dtype=float), (0.0, 0.0, 0.0)) == pytest.approx(len(cells))


def test_objectives_may_be_of_different_tasks() -> None:
    first = objective("score", a=150, b=50)
    second = Objective("short", {"a": {"tokens": [0.2] * 90}, "b": {"tokens": [0.9] * 90}}, {"tokens": 1.0})
    assert [point.name for point in front([first, second]).points] == ["a", "b"]


@pytest.mark.parametrize(
    ("second", "reference", "text"),
    [
        (objective("short", a=1), None, "has other candidates than 'score'"),
        (objective("short", a=1, b=2), (0.0,), "a number from 0 to below 1 for each objective"),
        (objective("short", a=1, b=2), (0.0, 1.0), "a number from 0 to below 1 for each objective"),
    ],
)
def test_what_does_not_fit_is_refused(second: Objective, reference: tuple[float, ...] | None, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        front([objective("score", a=1, b=2), second], reference=reference)
    with pytest.raises(ValueError, match="one objective at least"):
        front([])
