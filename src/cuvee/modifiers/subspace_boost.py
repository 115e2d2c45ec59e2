"""subspace_boost: raise the weak directions of a merged change (Skorobogat et al. 2025)."""

from typing import Annotated

from cuvee.addition import matrix_modifier
from cuvee.method import UNIT
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.spectrum import spectrum
from cuvee.ops.work import Work, spectrum_work


def _work(models: int, out: int, size: int) -> Work:
    return spectrum_work(out, size, min(out, size)) + Work(2.0 * out * size * min(out, size), (), 4 * out * size)


@matrix_modifier(
    "subspace_boost",
    formula="σᵣ ← max(σᵣ, σⱼ),  j the first with Σᵣ≤ⱼ σᵣ ≥ beta·Σ σᵣ",
    paper="arXiv:2506.16506",
    work=_work,
)
def subspace_boost(merged: Array, deltas: Array, *, beta: Annotated[float, UNIT] = 0.1) -> Array:
    """Raise the singular values of each merged matrix to that of the direction where `beta` of their sum is reached.

    0 makes all directions as strong as the strongest, 1 changes nothing. Only matrices of role linear are changed.
    """
    xp = array_namespace(merged)
    found = spectrum(merged)
    if found.rank == 0:
        return merged
    reached = xp.cumulative_sum(found.values) >= beta * xp.sum(found.values) * (1 - 1e-12)
    first = found.rank - int(xp.count_nonzero(reached))
    level = found.values[min(first, found.rank - 1)]
    return (found.left * xp.maximum(found.values, level)) @ found.right.T
