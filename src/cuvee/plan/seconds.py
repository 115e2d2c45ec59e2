"""How long matrix methods take, from the shapes and a fraction of a second's measurement of this machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np

from cuvee.ops.blas import one_thread_a_matrix
from cuvee.ops.work import Work
from cuvee.plan.matrices import works_of
from cuvee.plan.plan import Plan

_SIZE = 512
"""Of the matrices that are timed."""

_MARGIN = 1.5
"""Forecasts are budgets: matrices beyond the caches, and memory touched for the first time, take more than counted."""

_BYTES_PER_SECOND = 1e9
"""The speed of reading, converting and writing numbers that forecasts assume."""


@dataclass(frozen=True)
class Rates:
    """The speed of a core: operations of products a second, and seconds of an eigendecomposition over its size³."""

    operations: float
    decomposition: float


@dataclass(frozen=True)
class Seconds:
    """A forecast: seconds of a single core in all and for the longest step, and the number of matrices."""

    total: float
    longest: float
    matrices: int

    def on(self, threads: int) -> float:
        """Return the seconds that it takes so many threads, on cores of their own."""
        return max(self.total / threads, self.longest)


def forecast_seconds(plan: Plan, rates: Rates | None = None) -> Seconds | None:
    """Forecast how long a plan takes; None if no step works on whole matrices: others take as long as their bytes."""
    if not any(step.cut for step in plan.steps):
        return None
    rates = rates or measured_rates()
    steps, matrices = [], 0
    for step in plan.steps:
        works = works_of(step, plan.method, plan.recipe.post)
        steps.append(_MARGIN * _seconds_of(works, rates))
        matrices += len(works)
    bytes_moved = plan.forecast.bytes_read + plan.forecast.bytes_written
    return Seconds(sum(steps) + bytes_moved / _BYTES_PER_SECOND, max(steps), matrices)


def _seconds_of(works: Sequence[Work], rates: Rates) -> float:
    """Return the seconds that matrices take on a core; a decomposition takes time by the cube of its size."""
    products = sum(work.operations for work in works) / rates.operations
    sizes = chain.from_iterable(work.decompositions for work in works)
    cubes = sum(size**3 for size in sizes)
    return products + cubes * rates.decomposition


@cache
def measured_rates() -> Rates:
    """Time a product and an eigendecomposition on a single core, without the time that others take of it."""
    values = np.random.default_rng(0).standard_normal((_SIZE, _SIZE))
    symmetric = values @ values.T
    with one_thread_a_matrix():
        product = _least_seconds(lambda: values @ symmetric)
        decomposition = _least_seconds(lambda: np.linalg.eigh(symmetric))
    return Rates(2 * _SIZE**3 / product, decomposition / _SIZE**3)


def _least_seconds(work: Callable[[], object]) -> float:
    def once() -> float:
        started = time.thread_time()
        work()
        return time.thread_time() - started

    return max(min(once() for _ in range(3)), 1e-6)
