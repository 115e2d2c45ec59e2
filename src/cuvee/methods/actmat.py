"""ACTMat (2026): as `wudi`, but models with larger changes count more."""

from typing import Annotated

from cuvee.method import PerModel, matrix_method
from cuvee.ops.arrays import Array
from cuvee.ops.least_squares import fit_to_own_inputs, fit_work
from cuvee.ops.matrices import numbers
from cuvee.recipe.setting import Range


@matrix_method("actmat", paper="arXiv:2604.01329", formula="θ₀ + λ·(Σ τᵢGᵢ)(Σ Gᵢ)⁺,  Gᵢ = wᵢ·τᵢᵀτᵢ", work=fit_work)
def actmat(deltas: Array, *, weight: Annotated[PerModel, Range(0)] = 1.0) -> Array:
    """Merge by least squares, as if each task vector's own Gram matrix were that of its layer's inputs.

    `weight` says whose inputs count more; doubling all weights changes nothing.
    """
    return fit_to_own_inputs(deltas, numbers(weight, deltas.shape[0]))
