"""ESM (arXiv:2602.20208): the effect of each model's change on its own inputs decides which outputs it is kept for.

Its essential directions are those of τᵢGᵢτᵢᵀ, the second moments of the change's own outputs. As in TSV-M each model
gets 1/N of them, and all are turned so that they do not overlap.
"""

from cuvee.method import InputGram, PerModel, matrix_method
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.matrices import each_weighted
from cuvee.ops.spectrum import CUT, polar, spectrum
from cuvee.ops.work import Work, spectrum_work

SHARPNESS = 0.15
"""The power of an output direction's energy by which it counts more than the others, as in the authors' code."""


def _work(models: int, out: int, size: int) -> Work:
    kept = max(1, out // models) * models
    own = Work(2.0 * models * out * size * (size + out), (out,) * models, 3 * out * out + out * size)
    return own + spectrum_work(out, kept, out) + spectrum_work(size, kept, min(size, kept))


@matrix_method(
    "esm",
    paper="arXiv:2602.20208",
    formula="θ₀ + λ·orth([P₁D₁ … PₙDₙ])·orth([D₁P₁ᵀτ₁; … ; DₙPₙᵀτₙ]),  Pᵢ of τᵢGᵢτᵢᵀ,  orth(M) = mean(σ)·polar(M)",
    work=_work,
    equivariant=False,
)
def esm(deltas: Array, *, weight: PerModel = 1.0, grams: InputGram) -> Array:
    """Keep the effects of each model's change on the outputs of its own inputs, 1/N of the directions each.

    Needs `statistics` of each model on a text of its own skill.
    """
    xp = array_namespace(deltas)
    kept = max(1, deltas.shape[1] // deltas.shape[0])
    lefts, rights = [], []
    for delta, gram in zip(each_weighted(deltas, weight), grams, strict=True):
        values, vectors = xp.linalg.eigh(delta @ gram @ delta.T)
        values, vectors = values[-kept:], vectors[:, -kept:]
        strong = int(xp.count_nonzero(values > max(float(xp.max(values)), 0.0) * CUT * CUT))
        if strong == 0:
            continue  # a model that changes nothing here takes no part
        directions = vectors[:, -strong:]
        factors = _factors(values[-strong:])
        lefts.append(directions * factors)
        rights.append((directions * factors).T @ delta)
    if not lefts:
        return xp.zeros_like(deltas[0, ...], dtype=xp.float64)
    return _even(xp.concat(lefts, axis=1)) @ _even(xp.concat(rights, axis=0))


def _factors(energies: Array) -> Array:
    xp = array_namespace(energies)
    powers = (energies / xp.mean(energies)) ** SHARPNESS
    return powers / xp.mean(powers)


def _even(matrix: Array) -> Array:
    """Return the matrix with all singular values made their mean; zeros stay out."""
    xp = array_namespace(matrix)
    mean = xp.sum(spectrum(matrix).values) / min(matrix.shape)
    return mean * polar(matrix)
