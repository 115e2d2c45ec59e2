"""Samplers: each is a function of its seed and of what it was asked and told."""

import pytest

from cuvee.errors import RecipeError
from cuvee.search.samplers import Kind, Sampler, chosen_kind, make_sampler
from cuvee.search.space import Dimension, Values

NUMBERS = tuple(Dimension(f"x{place}", 0.0, 1.2) for place in range(9))
MIXED = (Dimension("scale", 0.2, 2.0, log=True), Dimension("density", choices=(0.2, 0.5)))


def worth(values: Values) -> float:
    return -sum((float(value) - 0.7) ** 2 for value in values.values())


def asked(sampler: Sampler, start: int, end: int) -> list[Values]:
    proposals = []
    for number in range(start, end):
        values = sampler.ask(number)
        assert values is not None
        proposals.append(values)
        sampler.tell(number, values, [worth(values)])
    return proposals


@pytest.mark.parametrize("kind", ["random", "tpe", "cma"])
def test_a_sampler_that_is_told_what_another_was_goes_on_as_it_would(kind: Kind) -> None:
    whole = asked(make_sampler(kind, NUMBERS, seed=3), 0, 40)
    other = make_sampler(kind, NUMBERS, seed=3)
    for number, values in enumerate(whole[:25]):
        other.asked(number, values)
        other.tell(number, values, [worth(values)])
    assert asked(other, 25, 40) == whole[25:]


@pytest.mark.parametrize("kind", ["tpe", "cma"])
def test_a_sampler_that_learns_comes_closer_than_chance(kind: Kind) -> None:
    best = max(map(worth, asked(make_sampler(kind, NUMBERS, seed=1), 0, 120)))
    chance = max(map(worth, asked(make_sampler("random", NUMBERS, seed=1), 0, 120)))
    assert best > chance


@pytest.mark.parametrize("kind", ["random", "tpe", "cma", "grid"])
def test_start_values_come_first(kind: Kind) -> None:
    dimensions = NUMBERS[:2]
    start = [{"x0": 0.5, "x1": 0.25}]
    assert make_sampler(kind, dimensions, seed=0, start=start).ask(0) == start[0]


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_values_are_within_their_ranges_and_choices(kind: Kind) -> None:
    for values in asked(make_sampler(kind, MIXED, seed=0), 0, 30):
        assert 0.2 <= float(values["scale"]) <= 2.0
        assert values["density"] in (0.2, 0.5)


def test_a_grid_ends() -> None:
    sampler = make_sampler("grid", MIXED, seed=0)
    assert len(asked(sampler, 0, 10)) == 5 * 2
    assert sampler.ask(10) is None


def test_cma_es_is_never_given_what_it_would_draw_at_random() -> None:
    for dimensions in (MIXED, NUMBERS[:1]):
        with pytest.raises(RecipeError, match="at least two dimensions, all of them numbers"):
            make_sampler("cma", dimensions, seed=0)


def test_a_grid_that_never_ends_is_refused() -> None:
    with pytest.raises(RecipeError, match="a grid over 9 dimensions"):
        make_sampler("grid", NUMBERS, seed=0)


def test_one_dimension_is_tried_on_a_line() -> None:
    assert chosen_kind(NUMBERS[:1]) == "grid"
