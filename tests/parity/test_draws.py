"""The masks of the random methods cannot be mergekit's; shares, sizes and means are."""

import numpy as np
import pytest

from parity.draws import BASE, DENSITY, DRAWS, EPSILON, EXPERTS, METHODS, TIMES, drawn_here
from parity.run import Answers

SIGMAS = 5


@pytest.mark.parametrize("method", METHODS)
def test_as_many_entries_stay(method: str, answers: Answers) -> None:
    asked = DRAWS[f"{method}-thinned"]
    here, there = drawn_here(asked) != 0, answers.tensor(asked.id) != 0
    error = np.sqrt(DENSITY * (1 - DENSITY) / here.size)
    assert abs(here.mean() - DENSITY) < SIGMAS * error
    assert abs(here.mean() - there.mean()) < SIGMAS * error * np.sqrt(2)


@pytest.mark.parametrize("method", ["della_linear", "della"])
def test_the_smallest_and_the_largest_of_a_row_stay_as_often(method: str, answers: Answers) -> None:
    asked = DRAWS[f"{method}-thinned"]
    magnitude, rows = np.abs(EXPERTS[0]), np.arange(BASE.shape[0])
    low, high = DENSITY - EPSILON, DENSITY + EPSILON
    for place, probability in ((magnitude.argmin(axis=1), low), (magnitude.argmax(axis=1), high)):
        error = np.sqrt(probability * (1 - probability) / (TIMES * rows.size))
        for kept in (drawn_here(asked) != 0, answers.tensor(asked.id) != 0):
            assert abs(kept[:, rows, place].mean() - probability) < SIGMAS * error


@pytest.mark.parametrize("method", METHODS)
def test_rescaling_restores_the_sum_of_magnitudes_each_time(method: str, answers: Answers) -> None:
    asked = DRAWS[f"{method}-rescaled"]
    whole = np.abs(EXPERTS[0]).sum(dtype=np.float64)
    for merged in (drawn_here(asked), answers.tensor(asked.id)):
        np.testing.assert_allclose(np.abs(merged).sum(axis=(1, 2), dtype=np.float64), whole, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_mean_over_many_seeds_is_the_same(method: str, answers: Answers) -> None:
    asked = DRAWS[f"{method}-of-two"]
    here, there = drawn_here(asked).astype(np.float64), answers.tensor(asked.id).astype(np.float64)
    error = np.sqrt((here.var(axis=0, ddof=1) + there.var(axis=0, ddof=1)) / TIMES)
    apart = (here.mean(axis=0) - there.mean(axis=0)) / error
    assert np.abs(apart).max() < SIGMAS
    assert np.square(apart).mean() < 1.25
