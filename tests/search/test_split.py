"""The three parts of the items, and the blocks of the first."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.errors import RecipeError
from cuvee.search.split import Shares, blocks, split


def ids(task: str, count: int) -> list[str]:
    return [f"{task}-{number}" for number in range(count)]


sizes = st.dictionaries(st.sampled_from("abcde"), st.integers(40, 300), min_size=1)


@given(sizes)
def test_every_item_is_in_one_part(counts: dict[str, int]) -> None:
    items = {task: ids(task, count) for task, count in counts.items()}
    parts = split(items)
    for task, own in items.items():
        assert sorted([*parts.search[task], *parts.select[task], *parts.report[task]]) == sorted(own)
        assert abs(len(parts.search[task]) - len(own) / 2) <= 0.5


def test_the_order_of_a_file_moves_no_item() -> None:
    items = ids("sort", 200)
    shuffled = random.Random(0).sample(items, len(items))
    assert split({"sort": items}) == split({"sort": shuffled})


def test_another_task_moves_no_item() -> None:
    alone = split({"sort": ids("sort", 200)})
    beside = split({"sort": ids("sort", 200), "shift": ids("shift", 90)})
    assert (alone.search["sort"], alone.report["sort"]) == (beside.search["sort"], beside.report["sort"])


def test_private_tasks_leave_all_public_items_to_search_and_select() -> None:
    parts = split({"sort": ids("sort", 200)}, private={"sort-private": ids("private", 70)})
    assert (len(parts.search["sort"]), len(parts.select["sort"])) == (100, 100)
    assert sorted(parts.report["sort-private"]) == sorted(ids("private", 70))


def test_few_items_warn() -> None:
    parts = split({"sort": ids("sort", 200), "shift": ids("shift", 98)})
    assert parts.warnings == ("fewer than 50 items to search on in shift (49): expect the winner to be lucky",)
    assert split({"sort": ids("sort", 200)}).warnings == ()


def test_too_few_items_are_refused_task_by_task() -> None:
    with pytest.raises(RecipeError) as refused:
        split({"sort": ids("sort", 38), "shift": ids("shift", 30), "arith": ids("arith", 40)})
    text = str(refused.value)
    assert "task 'sort' has 19 items to search on, of 38" in text
    assert "task 'shift' has 15 items to search on, of 30" in text
    assert "arith" not in text


@pytest.mark.parametrize(
    ("shares", "text"),
    [((0.9, 0.2, 0.2), "add up to 1.3"), ((0.0, 0.5, 0.5), "got the shares 0, 0.5, 0.5"), ((0.7, 0.4, -0.1), "-0.1")],
)
def test_wrong_shares_are_refused(shares: tuple[float, float, float], text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        Shares(*shares)


def test_the_report_needs_items_from_one_place() -> None:
    with pytest.raises(RecipeError, match="share 0 and no private task"):
        split({"sort": ids("sort", 200)}, Shares(0.5, 0.5, 0.0))
    with pytest.raises(RecipeError, match="also a private task"):
        split({"sort": ids("sort", 200)}, Shares(), private={"sort-private": ids("private", 50)})
    with pytest.raises(RecipeError, match="no item in the report part"):
        split({"sort": ids("sort", 200)}, private={"sort-private": []})
    with pytest.raises(RecipeError, match="item 'sort-0' of task 'sort' is searched on and reported on"):
        split({"sort": ids("sort", 200)}, private={"sort": ids("sort", 50)})


def test_an_id_that_comes_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="two items with the id 'sort-0'"):
        split({"sort": [*ids("sort", 200), "sort-0"]})


@given(sizes, st.integers(1, 60), st.integers(0, 3))
def test_blocks_hold_every_item_once_and_mirror_the_whole(counts: dict[str, int], block: int, seed: int) -> None:
    search = {task: ids(task, count) for task, count in counts.items()}
    made = blocks(search, block=block, seed=seed)
    for task, own in search.items():
        numbers = [len(each[task]) for each in made]
        assert sorted(item for each in made for item in each[task]) == sorted(own)
        assert max(numbers) - min(numbers) <= 1
        assert numbers[0] >= 1
    total = 0
    for number, each in enumerate(made, start=1):
        total += sum(map(len, each.values()))
        assert total >= min(number * block, sum(counts.values()))


def test_five_tasks_of_eighty_make_sixteen_blocks_of_five_each() -> None:
    made = blocks({task: ids(task, 80) for task in "abcde"})
    assert [[len(own) for own in each.values()] for each in made] == [[5] * 5] * 16


def test_the_seed_decides_the_order() -> None:
    search = {"sort": ids("sort", 100)}
    assert blocks(search) == blocks({"sort": list(reversed(search["sort"]))})
    assert blocks(search) != blocks(search, seed=1)
