"""Methods by their plain definition: whole tensors of any array library, without chunks and kernels."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cuvee.engine.surveys import random_keys
from cuvee.kernels import load
from cuvee.method import Method
from cuvee.ops.arrays import Array, array_namespace, sum_models
from cuvee.ops.gram import spread_over
from cuvee.ops.survey import Situation
from cuvee.ops.task_vectors import Weights, weighted_sum
from cuvee.plan.matrices import fallback_factors
from cuvee.plan.plan import MergeStep
from cuvee.plan.settings import as_arrays


def defined_change(
    method: Method,
    step: MergeStep,
    deltas: Array,
    *,
    semantics: str,
    seed: int,
    numbers: Array | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Array:
    """Return the merged [*shape] of `deltas` [models, *shape], which are models where the method takes no changes.

    `numbers` are the same before they were rounded to 16 bits, if they were. `inputs` are arguments that are statistics
    of the models' inputs, an array for each model.
    """
    given: dict[str, Any] = as_arrays(step.settings) | ({"semantics": semantics} if method.takes_semantics else {})
    numbers = deltas if numbers is None else numbers
    if method.kind == "matrix":
        return _matrices(method, step, deltas, given | dict(inputs or {}))
    arguments: dict[str, Any] = {}
    for name, survey in method.surveys.items():
        here = Situation(
            models=deltas.shape[0], elements=step.elements, settings=as_arrays(step.settings), semantics=semantics,
            kernels=load(), shape=step.shape, keys=random_keys(step, seed), found=arguments,
        )  # fmt: skip
        arguments[name] = survey.whole(deltas, here)
    if method.kind == "element":
        return method.rule(deltas, **given, **arguments, **_entries(deltas, inputs or {}))
    coefficients = method.rule(**given, **arguments)
    if isinstance(coefficients, Weights) and deltas.dtype.itemsize == 2:
        return weighted_sum(deltas, coefficients.numbers, normalize=coefficients.normalize)
    spread = method.spread(semantics, step.settings)
    return _combined(numbers, spread_over(np.asarray(coefficients, np.float64), step.shape, spread, 0, step.elements))


def _entries(deltas: Array, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Return statistics of entries, an array for each model, as arrays [models, *shape] of the deltas' library."""
    xp = array_namespace(deltas)
    there = {"dtype": xp.float64, "device": deltas.device}
    return {name: xp.stack([xp.asarray(array, **there) for array in arrays]) for name, arrays in inputs.items()}


def _matrices(method: Method, step: MergeStep, deltas: Array, settings: Mapping[str, Any]) -> Array:
    """Merge the matrices that a tensor is cut into, or all of it by the fallback, in the deltas' own type."""
    xp = array_namespace(deltas)
    if step.cut is None:
        factors = fallback_factors(settings, deltas.shape[0])
        return _combined(deltas, factors[:, None])
    merged = xp.zeros_like(deltas[0, ...])
    for place in step.cut.places():
        found = method.rule(step.cut.taken(deltas, place), **settings)
        step.cut.put(merged, place, xp.astype(found, merged.dtype))
    return merged


def _combined(stack: Array, factors: np.ndarray) -> Array:
    """Return Σ of the models times `factors`, [models, 1] or one for each element."""
    xp = array_namespace(stack)
    there = xp.asarray(factors, dtype=stack.dtype, device=stack.device)
    shape = (stack.shape[0],) + (1,) * (stack.ndim - 1) if factors.shape[1] == 1 else stack.shape
    return sum_models(stack * xp.reshape(there, shape))
