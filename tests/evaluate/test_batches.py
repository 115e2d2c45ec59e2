"""Batches: longest first, every item once, nothing but the arguments decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.errors import RecipeError
from cuvee.evaluate.batches import Work, check_batch_size, make_batches


def test_the_longest_come_first_in_batches_of_a_size() -> None:
    lengths = [(3,), (9,), (5,), (9,), (1,)]
    assert make_batches(lengths, [1] * 5, batch_size=2, budget=1) == [[1, 3], [2, 0], [4]]


def test_an_automatic_batch_stays_within_the_budget() -> None:
    lengths = [(8,), (4,), (4,), (2,), (2,), (2,)]
    batches = make_batches(lengths, [8, 4, 4, 2, 2, 2], batch_size="auto", budget=8)
    assert batches == [[0], [1, 2], [3, 4, 5]]


@given(sizes=st.lists(st.integers(1, 50)), budget=st.integers(1, 200))
def test_every_item_comes_once(sizes: list[int], budget: int) -> None:
    batches = make_batches([(size,) for size in sizes], sizes, batch_size="auto", budget=budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    assert all(len(batch) == 1 or len(batch) * max(sizes[index] for index in batch) <= budget for batch in batches)


def test_groups_stay_as_they_are_and_the_rest_is_batched() -> None:
    work = Work(((5, 1), (2,)), (0, 3, 4))
    lengths = {place: (place,) for place in range(6)}
    costs = dict.fromkeys(range(6), 1)
    assert work.batches(lengths, costs, batch_size=2, budget=1) == [[5, 1], [2], [4, 3], [0]]
    assert work.places == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [0, -1, "all", 1.5, True])
def test_other_batch_sizes_are_refused(size: object) -> None:
    with pytest.raises(RecipeError):
        check_batch_size(size)
