"""Samplers: which values to try next, given the values of earlier candidates.

A sampler is a function of its seed and of the questions and answers so far, in that order. So a search that was stopped
goes on as if it had not been: the journal is told to a new sampler.

Optuna's samplers get a seed of their own for each question, for they would otherwise depend on how often they have been
asked in this process. CMA-ES comes from the package that Optuna takes it from: Optuna's wrapper draws at random without
a word where a dimension is a choice, or alone; ours refuses.
"""

import math
import random
import warnings
from collections.abc import Sequence
from itertools import product
from typing import Any, Literal, Protocol

import numpy as np

from cuvee.errors import MissingExtra, RecipeError
from cuvee.search.space import Dimension, Values

Kind = Literal["grid", "tpe", "cma", "gp", "random"]

GRID_POINTS = (0.3, 0.5, 0.8, 1.2, 2.0)
MOST_OF_A_GRID = 400
SIGMA = 0.2


class Sampler(Protocol):
    """Proposes values. `asked` and `tell` repeat the events of a journal."""

    def ask(self, number: int) -> Values | None:
        """Return values for a candidate, or None when everything has been tried."""

    def asked(self, number: int, values: Values) -> None:
        """Note that `values` were the answer to `ask(number)` in an earlier process."""

    def tell(self, number: int, values: Values, worth: Sequence[float]) -> None:
        """Say how good a candidate is, in a number for each objective; more is better."""


def chosen_kind(dimensions: Sequence[Dimension]) -> Kind:
    """Return the sampler that suits some dimensions."""
    return "grid" if len(dimensions) <= 1 else "tpe"


def make_sampler(
    kind: Kind, dimensions: Sequence[Dimension], *, seed: int, start: Sequence[Values] = (), objectives: int = 1
) -> Sampler:
    """Return a sampler that first proposes the values of `start`, in order.

    CMA-ES and the Gaussian process know the first objective only. Raises RecipeError where CMA-ES cannot take the
    dimensions, MissingExtra without the extra `search`.
    """
    if kind == "grid":
        return GridSampler(dimensions, start)
    if kind == "random":
        return RandomSampler(dimensions, seed, start)
    if kind == "cma":
        return CmaSampler(dimensions, seed, start)
    return OptunaSampler(kind, dimensions, seed, start, objectives)


class RandomSampler:
    """Draws every value from its range alike."""

    def __init__(self, dimensions: Sequence[Dimension], seed: int, start: Sequence[Values] = ()) -> None:
        self._dimensions, self._seed, self._start = dimensions, seed, list(start)

    def ask(self, number: int) -> Values:
        if self._start:
            return self._start.pop(0)
        generator = random.Random(f"{self._seed} {number}")
        values = {}
        for dimension in self._dimensions:
            if dimension.choices:
                values[dimension.name] = generator.choice(dimension.choices)
            else:
                values[dimension.name] = _value(dimension, generator.random())
        return values

    def asked(self, number: int, values: Values) -> None:
        if self._start:
            self._start.pop(0)

    def tell(self, number: int, values: Values, worth: Sequence[float]) -> None:
        """Chance learns nothing."""


class GridSampler:
    """Goes through a grid: all choices, five points of a scale or of another range."""

    def __init__(self, dimensions: Sequence[Dimension], start: Sequence[Values] = ()) -> None:
        lines = [_grid_line(dimension) for dimension in dimensions]
        size = math.prod(map(len, lines))
        if size > MOST_OF_A_GRID:
            raise RecipeError(
                f"sampler: a grid over {len(dimensions)} dimensions has {size} points, above {MOST_OF_A_GRID}",
                hint="leave `sampler` out, or vary fewer numbers",
            )
        names = [dimension.name for dimension in dimensions]
        points = [dict(zip(names, point, strict=True)) for point in product(*lines)]
        fresh = [point for point in points if point not in start]
        self._left: list[Values] = [*start, *fresh]

    def ask(self, number: int) -> Values | None:
        return self._left.pop(0) if self._left else None

    def asked(self, number: int, values: Values) -> None:
        self._left.pop(0)

    def tell(self, number: int, values: Values, worth: Sequence[float]) -> None:
        """A grid does not change."""


class CmaSampler:
    """CMA-ES over numbers, each of its range from 0 to 1; it starts at the first of `start`, or in the middle.

    A generation is full as soon as enough candidates have been told; with several workers some of them were drawn
    before the last update.
    """

    def __init__(self, dimensions: Sequence[Dimension], seed: int, start: Sequence[Values] = ()) -> None:
        try:
            import cmaes
        except ImportError as error:
            raise MissingExtra("search", missing="cmaes") from error
        are_numbers = not any(dimension.choices for dimension in dimensions)
        if len(dimensions) < 2 or not are_numbers:
            raise RecipeError(
                "sampler: CMA-ES takes at least two dimensions, all of them numbers",
                hint="leave `sampler` out, and one that fits is taken",
            )
        self._dimensions, self._start = dimensions, list(start)
        middle = np.full(len(dimensions), 0.5)
        if start:
            middle = np.array([_share(dimension, float(start[0][dimension.name])) for dimension in dimensions])
        bounds = np.array([[0.0, 1.0]] * len(dimensions))
        self._optimizer = cmaes.CMA(mean=middle, sigma=SIGMA, bounds=bounds, seed=seed + 1, lr_adapt=True)
        self._points: dict[int, Any] = {}
        self._generation: list[tuple[Any, float]] = []

    def ask(self, number: int) -> Values:
        if self._start:
            return self._start.pop(0)
        self._points[number] = self._optimizer.ask()
        shares = self._points[number]
        return {
            dimension.name: _value(dimension, float(share))
            for dimension, share in zip(self._dimensions, shares, strict=True)
        }

    def asked(self, number: int, values: Values) -> None:
        self.ask(number)

    def tell(self, number: int, values: Values, worth: Sequence[float]) -> None:
        point = self._points.pop(number, None)
        if point is None:
            return  # a point of `start`: the distribution starts there already
        self._generation.append((point, -worth[0]))
        if len(self._generation) == self._optimizer.population_size:
            self._optimizer.tell(self._generation)
            self._generation = []


class OptunaSampler:
    """Optuna's TPE or Gaussian process. Candidates under way count as told the worst (TPE's constant liar)."""

    def __init__(
        self,
        kind: Literal["tpe", "gp"],
        dimensions: Sequence[Dimension],
        seed: int,
        start: Sequence[Values] = (),
        objectives: int = 1,
    ) -> None:
        try:
            import optuna
        except ImportError as error:
            raise MissingExtra("search", missing="optuna") from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._kind, self._seed = optuna, kind, seed
        self._dimensions = dimensions
        self._distributions = distributions_of(dimensions)
        self._start = list(start)
        self._study = optuna.create_study(directions=["maximize"] * objectives)
        self._trials: dict[int, Any] = {}

    def ask(self, number: int) -> Values:
        if self._start:
            return self._start.pop(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls what it is asked for here experimental
            self._study.sampler = self._sampler(number)
            trial = self._study.ask(self._distributions)
        self._trials[number] = trial
        return dict(trial.params)

    def asked(self, number: int, values: Values) -> None:
        if self._start:
            self._start.pop(0)

    def tell(self, number: int, values: Values, worth: Sequence[float]) -> None:
        trial = self._trials.pop(number, None)
        if trial is not None:
            self._study.tell(trial, list(worth))
            return
        told = self._optuna.trial.create_trial(
            params=dict(values), distributions=self._distributions, values=list(worth)
        )
        self._study.add_trial(told)

    def _sampler(self, number: int) -> Any:
        seed = random.Random(f"{self._seed} {number}").randrange(2**31)
        samplers = self._optuna.samplers
        first = max(5, len(self._dimensions))
        if self._kind == "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=first)
        return samplers.TPESampler(multivariate=True, constant_liar=True, n_startup_trials=first, seed=seed)


def distributions_of(dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """Return Optuna's distributions of some dimensions by name."""
    return {dimension.name: _distribution(dimension) for dimension in dimensions}


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _grid_line(dimension: Dimension) -> Sequence[float | str | bool]:
    if dimension.choices:
        return dimension.choices
    inside = [point for point in GRID_POINTS if dimension.low <= point <= dimension.high]
    return inside if len(inside) >= 3 else dimension.line(5)


def _value(dimension: Dimension, share: float) -> float | str | bool:
    """Return the number at a share, from 0 to 1, of a range."""
    if dimension.log:
        return float(dimension.low * (dimension.high / dimension.low) ** share)
    return dimension.low + (dimension.high - dimension.low) * share


def _share(dimension: Dimension, value: float) -> float:
    """Return where a number lies in a range, from 0 to 1."""
    if dimension.log:
        return float(np.log(value / dimension.low) / np.log(dimension.high / dimension.low))
    return (value - dimension.low) / (dimension.high - dimension.low)
