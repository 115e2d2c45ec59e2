"""Isotropic merging in common and task-specific subspaces (Marczak et al. 2025).

Where the directions that are not common cannot be shared out evenly, the common get the rest; the paper's code
rounds to the nearest, which may leave no common direction at all. Differs by fewer directions than there are models.
"""

from typing import Annotated

from cuvee.method import UNIT, PerModel, matrix_method
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.matrices import each_weighted, smaller_side, weighted_total
from cuvee.ops.spectrum import CUT, polar, spectrum
from cuvee.ops.work import Work, spectrum_work


def _work(models: int, out: int, size: int) -> Work:
    small, part = min(out, size), spectrum_work(out, size, min(out, size) // 5)
    turned = spectrum_work(out, small, small) + spectrum_work(size, small, small)
    end = Work(2.0 * out * size * small, (), 5 * out * size + 9 * small * small)
    each = Work(part.operations * (models + 1), part.decompositions * (models + 1), 4 * out * size + 7 * small * small)
    return each + turned + end


@matrix_method(
    "iso_cts",
    paper="arXiv:2502.04959",
    formula="θ₀ + λ·σ̄·polar([U₁ … U_N, U_c])·polar([V₁ … V_N, V_c])ᵀ",
    work=_work,
)
def iso_cts(
    deltas: Array,
    *,
    weight: PerModel = 1.0,
    common_fraction: Annotated[float, UNIT] = 0.8,
    full_rank: int | None = None,
) -> Array:
    """Reserve some directions for each model's own changes, and make all directions equally strong.

    `common_fraction` of the directions are the strongest of the sum of the task vectors; the others are shared out
    evenly between the models. With too few to share it is `iso_c`.
    """
    xp = array_namespace(deltas)
    models, rank = deltas.shape[0], smaller_side(deltas, full_rank)
    own = (rank - int(common_fraction * rank)) // models
    common = spectrum(weighted_total(deltas, weight), rank - own * models)
    parts = [common]
    for delta in each_weighted(deltas, weight) if own else ():
        beside = delta - common.left @ (common.left.T @ delta)
        strongest = spectrum(delta, 1).values
        # what is left of a model without anything of its own is rounding errors
        floor = CUT * float(strongest[0]) if strongest.shape[0] else 0.0
        parts.insert(-1, spectrum(beside, own, floor=floor))
    values = xp.concat([part.values for part in parts])
    if values.shape[0] == 0:
        return xp.zeros_like(common.left @ common.right.T)
    left = polar(xp.concat([part.left for part in parts], axis=1))
    right = polar(xp.concat([part.right for part in parts], axis=1))
    return xp.mean(values) * (left @ right.T)
