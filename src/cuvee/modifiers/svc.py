"""svc: singular value calibration of a merged change (arXiv:2602.05536)."""

from typing import Annotated

from cuvee.addition import matrix_modifier
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.matrices import in_double
from cuvee.ops.spectrum import CUT, spectrum
from cuvee.ops.work import Work, spectrum_work
from cuvee.recipe.setting import Range


def _work(models: int, out: int, size: int) -> Work:
    small = min(out, size)
    return spectrum_work(out, size, small) + Work(
        2.0 * (models + 1) * out * size * small, (), 5 * out * size + small * small
    )


@matrix_modifier(
    "svc",
    formula="σᵣ ← σᵣ·N / Σᵢ max(alpha, sᵣᵢ),  sᵣᵢ = ⟨uᵣᵀΔ, uᵣᵀτᵢ⟩/‖uᵣᵀτᵢ‖²",
    paper="arXiv:2602.05536",
    work=_work,
)
def svc(merged: Array, deltas: Array, *, alpha: Annotated[float, Range(0, open_low=True)] = 0.1) -> Array:
    """Shrink directions in which the merged change goes further than the models do, and strengthen the others.

    A direction grows by 1/alpha at the most; with `alpha` 1 it can only shrink. A model that does not change a
    direction counts as agreeing with the merged change. Only matrices of role linear are changed.
    """
    xp = array_namespace(merged)
    found = spectrum(merged)
    rows = found.left.T @ in_double(merged)
    total = xp.zeros_like(found.values)
    for i in range(deltas.shape[0]):
        own = found.left.T @ in_double(deltas[i, ...])
        energy = xp.sum(own * own, axis=1)
        counts = energy > CUT * CUT * xp.sum(energy)
        along = xp.sum(rows * own, axis=1) / xp.where(counts, energy, xp.ones_like(energy))
        along = xp.where(counts, along, xp.ones_like(along))
        total = total + xp.maximum(along, xp.full_like(along, alpha))
    return (found.left * (deltas.shape[0] / total)) @ rows
