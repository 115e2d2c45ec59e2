"""WUDI by gradient descent, as its authors run it (Cheng et al. 2025): Adam from the sum of the task vectors.

The learning rate is absolute, so the result depends on the size of the task vectors: large vectors hardly move from
their sum, small vectors arrive at the result of `wudi` at once.
"""

from typing import Annotated

from cuvee.method import matrix_method
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.least_squares import gram_and_goal, own_energy
from cuvee.ops.matrices import weighted_total
from cuvee.ops.work import Work
from cuvee.recipe.setting import Range

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
"""Adam's own defaults."""


def _work(models: int, out: int, size: int) -> Work:
    steps = 300
    return Work(2.0 * steps * out * size * size, (), 3 * size * size + 8 * out * size)


@matrix_method(
    "wudi_gd",
    paper="arXiv:2503.08099",
    formula="θ₀ + λ·Adam(Σᵢ ‖(τ − τᵢ)τᵢᵀ‖²/‖τᵢ‖², from Σ τᵢ)",
    work=_work,
    equivariant=False,
)
def wudi_gd(
    deltas: Array,
    *,
    learning_rate: Annotated[float, Range(0, open_low=True)] = 1e-5,
    steps: Annotated[int, Range(0)] = 300,
) -> Array:
    """Descend from the sum of the task vectors towards the change that suits the inputs of each.

    Kept to repeat the paper's runs; `wudi` gives the solution itself, in less time.
    """
    xp = array_namespace(deltas)
    energies = own_energy(deltas)
    grams, goal = gram_and_goal(deltas, [1 / energy if energy > 0 else 0.0 for energy in energies])
    merged = weighted_total(deltas, 1.0)
    first, second = xp.zeros_like(merged), xp.zeros_like(merged)
    for step in range(1, steps + 1):
        gradient = 2 * (merged @ grams - goal)
        first = _BETA1 * first + (1 - _BETA1) * gradient
        second = _BETA2 * second + (1 - _BETA2) * gradient**2
        size = xp.sqrt(second / (1 - _BETA2**step)) + _EPSILON
        merged = merged - learning_rate * (first / (1 - _BETA1**step)) / size
    return merged
