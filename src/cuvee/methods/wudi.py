"""WUDI (Cheng et al. 2025) in closed form.

The loss Σᵢ ‖(τ − τᵢ)τᵢᵀ‖²/‖τᵢ‖² is a least-squares problem, of which the paper's gradient descent finds part of the
solution, how much depends on the size of the task vectors (`wudi_gd` is that descent).
"""

from typing import Annotated

from cuvee.method import PerModel, matrix_method
from cuvee.ops.arrays import Array
from cuvee.ops.least_squares import fit_to_own_inputs, fit_work, own_energy
from cuvee.ops.matrices import numbers
from cuvee.recipe.setting import Range


@matrix_method(
    "wudi",
    paper="arXiv:2503.08099",
    formula="θ₀ + λ·(Σ τᵢGᵢ)(Σ Gᵢ)⁺,  Gᵢ = wᵢ·τᵢᵀτᵢ/‖τᵢ‖²",
    work=fit_work,
)
def wudi(deltas: Array, *, weight: Annotated[PerModel, Range(0)] = 1.0) -> Array:
    """Find the change that acts on each task vector's own inputs as the task vector does, as nearly as can be.

    Task vectors with inputs of their own add up, similar ones are averaged. `weight` says whose inputs count more;
    doubling all weights changes nothing.
    """
    energies = own_energy(deltas)
    factors = [w / e if e > 0 else 0.0 for w, e in zip(numbers(weight, len(energies)), energies, strict=True)]
    return fit_to_own_inputs(deltas, factors)
