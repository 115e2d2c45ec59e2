"""Batches: longest first, every item once, nothing but the arguments decides."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.errors import RecipeError
from cuvee.evaluation.batches import Unit, Work, check_batch_size, make_batches


def units(sizes: list[int], costs: list[int] | None = None) -> list[Unit]:
    return [Unit((place,), (size,), cost) for place, (size, cost) in enumerate(zip(sizes, costs or sizes, strict=True))]


def test_the_longest_come_first_in_batches_of_a_size() -> None:
    assert make_batches(units([3, 9, 5, 9, 1], [1] * 5), batch_size=2, budget=1) == [[1, 3], [2, 0], [4]]


def test_an_automatic_batch_stays_within_the_budget() -> None:
    batches = make_batches(units([8, 4, 4, 2, 2, 2]), batch_size="auto", budget=8)
    assert batches == [[0], [1, 2], [3, 4, 5]]


def test_the_costliest_batch_comes_first_whatever_its_length() -> None:
    assert make_batches(units([9, 8, 2, 1], [1, 1, 7, 2]), batch_size=2, budget=1) == [[2, 3], [0, 1]]


@given(sizes=st.lists(st.integers(1, 50)), budget=st.integers(1, 200))
def test_every_item_comes_once(sizes: list[int], budget: int) -> None:
    batches = make_batches(units(sizes), batch_size="auto", budget=budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    assert all(len(batch) == 1 or len(batch) * max(sizes[index] for index in batch) <= budget for batch in batches)


@given(counts=st.lists(st.integers(1, 4)), most=st.integers(4, 9))
def test_units_stay_whole_and_their_items_are_counted(counts: list[int], most: int) -> None:
    ends = list(accumulate(counts, initial=0))
    whole = [Unit(tuple(range(*ends_of)), (1,), 1) for ends_of in pairwise(ends)]
    batches = make_batches(whole, batch_size=most, budget=1)
    assert sorted(place for batch in batches for place in batch) == list(range(ends[-1]))
    assert all(len(batch) <= most for batch in batches)
    for unit in whole:
        assert any(set(unit.places) <= set(batch) for batch in batches)


def test_groups_stay_as_they_are_and_the_rest_is_batched() -> None:
    work = Work(((5, 1), (2,)), (0, 3, 4))
    rest = [Unit((place,), (place,), 1) for place in work.rest]
    assert work.batches(rest, batch_size=2, budget=1) == [[5, 1], [2], [4, 3], [0]]
    assert work.places == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [0, -1, "all", 1.5, True])
def test_other_batch_sizes_are_refused(size: object) -> None:
    with pytest.raises(RecipeError):
        check_batch_size(size)
