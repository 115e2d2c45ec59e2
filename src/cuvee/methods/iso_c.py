"""Isotropic merging in the common subspace (Marczak et al. 2025).

Every direction gets the mean singular value, and mean(σ)·UVᵀ needs no more than a polar factor. Where the sum of the
task vectors has a lower rank than its shape allows, the paper's code gives the same strength to directions that no
model has changed, which are rounding errors; here they stay without any, and the mean is over the others.
"""

from cuvee.method import PerModel, matrix_method
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.matrices import weighted_total
from cuvee.ops.spectrum import isotropic
from cuvee.ops.work import Work, spectrum_work


def _work(models: int, out: int, size: int) -> Work:
    small = min(out, size)
    once = spectrum_work(out, size, small)
    return Work(once.operations, once.decompositions, 3 * out * size + 7 * small * small)


@matrix_method("iso_c", paper="arXiv:2502.04959", formula="θ₀ + λ·σ̄·UVᵀ,  UΣVᵀ = Σᵢ wᵢτᵢ,  σ̄ = mean(Σ)", work=_work)
def iso_c(deltas: Array, *, weight: PerModel = 1.0) -> Array:
    """Add up the task vectors and give all directions of the sum the same strength, their mean."""
    xp = array_namespace(deltas)
    total = weighted_total(deltas, weight)
    return isotropic(total if deltas.dtype.itemsize == 2 else xp.astype(total, deltas.dtype))
