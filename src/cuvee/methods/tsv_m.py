"""Task singular vectors, merged (Gargiulo et al. 2024): the strongest directions of all models, made orthogonal."""

from cuvee.method import PerModel, matrix_method
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.matrices import each_weighted, smaller_side
from cuvee.ops.spectrum import polar, spectrum
from cuvee.ops.work import Work, spectrum_work


def _work(models: int, out: int, size: int) -> Work:
    kept = max(1, min(out, size) // models)
    each = spectrum_work(out, size, kept)
    turned = spectrum_work(out, kept * models, out) + spectrum_work(size, kept * models, min(size, kept * models))
    end = Work(2.0 * out * size * kept * models, (), 4 * out * size + 9 * min(out, size) ** 2)
    return Work(each.operations * models, each.decompositions * models, each.held) + turned + end


@matrix_method(
    "tsv_m", paper="arXiv:2412.00081", formula="θ₀ + λ·polar([U₁ … U_N])·diag(Σ₁ … Σ_N)·polar([V₁ … V_N])ᵀ", work=_work
)
def tsv_m(deltas: Array, *, weight: PerModel = 1.0, full_rank: int | None = None) -> Array:
    """Keep each task vector's strongest singular vectors, 1/N of them, and turn them so that they do not overlap.

    Directions that a model has not changed (of a task vector of low rank) take part in nothing.
    """
    xp = array_namespace(deltas)
    kept = max(1, smaller_side(deltas, full_rank) // deltas.shape[0])
    parts = [spectrum(delta, kept) for delta in each_weighted(deltas, weight)]
    left = polar(xp.concat([part.left for part in parts], axis=1))
    right = polar(xp.concat([part.right for part in parts], axis=1))
    return (left * xp.concat([part.values for part in parts])) @ right.T
