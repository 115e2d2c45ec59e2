"""Task singular vectors, merged (Gargiulo et al. 2024): the strongest directions of all models, made orthogonal."""

from collections.abc import Sequence

from cuvee.method import PerModel, matrix_method
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.inverse_root import inverse_root, is_tried
from cuvee.ops.matrices import in_double, numbers, smaller_side
from cuvee.ops.spectrum import left_directions, polar
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
    if deltas.shape[1] > deltas.shape[2]:
        return _merged(xp.matrix_transpose(deltas), weight, kept).T
    return _merged(deltas, weight, kept)


def _merged(deltas: Array, weight: PerModel, kept: int) -> Array:
    """Merge task vectors that are no taller than wide."""
    xp = array_namespace(deltas)
    shares = numbers(weight, deltas.shape[0])
    models = [i for i, share in enumerate(shares) if share != 0]
    if not models:
        return xp.zeros_like(deltas[0, ...])
    values, lefts = zip(*[left_directions(deltas[i, ...], kept) for i in models], strict=True)
    strengths = xp.concat([shares[i] * own for i, own in zip(models, values, strict=True)])
    turned = polar(xp.concat(lefts, axis=1)) * strengths
    changed = [deltas[i, ...] for i in models]
    return _times_right(turned, changed, [left / own for left, own in zip(lefts, values, strict=True)])


def _times_right(turned: Array, deltas: Sequence[Array], lefts: Sequence[Array]) -> Array:
    """Return `turned` · polar([V₁ … V_N])ᵀ, in which Vᵢ = τᵢᵀ·UᵢΣᵢ⁻¹ for UᵢΣᵢ⁻¹ in `lefts`.

    Of float32 task vectors the last product is float32, and all of it where the right directions overlap little.
    """
    xp = array_namespace(turned)
    single = turned.dtype if deltas[0].dtype.itemsize == 2 else deltas[0].dtype
    if is_tried(deltas[0], turned.shape[1], deltas[0].shape[1]):
        rights = xp.concat([xp.astype(left, single).T @ delta for left, delta in zip(lefts, deltas, strict=True)])
        root = inverse_root(rights)
        if root is not None:
            return (xp.astype(turned, single) @ root.matrix) @ rights
    rights = xp.concat([left.T @ in_double(delta) for left, delta in zip(lefts, deltas, strict=True)])
    return xp.astype(turned, single) @ xp.astype(polar(rights), single)
