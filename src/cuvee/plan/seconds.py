"""How long matrix methods take, from the shapes and a fraction of a second's measurement of this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from cuvee.ops.blas import one_thread_a_matrix
from cuvee.plan.matrices import works_of
from cuvee.plan.plan import Plan

_SIZE = 512
"""Of the matrices that are timed."""

_MARGIN = 1.5
"""Forecasts are budgets: matrices beyond the caches, and memory touched for the first time, take more than counted."""

_BYTES_PER_SECOND = 1e9
"""What reading, converting and writing numbers is counted as."""


@dataclass(frozen=True)
class Rates:
    """What one core does: operations of products a second, and seconds of an eigendecomposition over its size³."""

    operations: float
    decomposition: float


@dataclass(frozen=True)
class Seconds:
    """A forecast: seconds of one core in all, those of the longest step, and how many matrices there are."""

    total: float
    longest: float
    matrices: int

    def on(self, threads: int) -> float:
        """Return the seconds that it takes so many threads, on cores of their own."""
        return max(self.total / threads, self.longest)


def forecast_seconds(plan: Plan, rates: Rates | None = None) -> Seconds | None:
    """Forecast how long a plan takes, None if no step is done on whole matrices: others take as long as their bytes."""
    if not any(step.cut for step in plan.steps):
        return None
    rates = rates or measured_rates()
    works = [works_of(step, plan.method, plan.recipe.post) for step in plan.steps]
    each = [
        _MARGIN * sum(work.operations for work in found) / rates.operations
        + _MARGIN * sum(size**3 for work in found for size in work.decompositions) * rates.decomposition
        for found in works
    ]
    bytes_ = (plan.forecast.bytes_read + plan.forecast.bytes_written) / _BYTES_PER_SECOND
    return Seconds(sum(each) + bytes_, max(each), sum(map(len, works)))


@cache
def measured_rates() -> Rates:
    """Time a product and an eigendecomposition on one core, not counting the time that others take of it."""
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
