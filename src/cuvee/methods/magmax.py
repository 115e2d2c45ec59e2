"""MagMax: for each entry the largest change wins (Marczak et al. 2024)."""

from cuvee.method import element_method
from cuvee.ops.arrays import Array, array_namespace


@element_method("magmax", paper="arXiv:2407.06322", formula="θ₀ + λ τₖ,  k = argmaxᵢ |τᵢ| for each entry")
def magmax(deltas: Array) -> Array:
    """Take each entry from the model that changed it most.

    Of equal magnitudes that of the model named first wins (in FusionBench that of the last). The paper uses λ = 0.5.
    """
    xp = array_namespace(deltas)
    winner = deltas[0, ...]
    for i in range(1, deltas.shape[0]):
        winner = xp.where(xp.abs(deltas[i, ...]) > xp.abs(winner), deltas[i, ...], winner)
    return winner
