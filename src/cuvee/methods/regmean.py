"""RegMean (Jin et al. 2023): the matrix that acts on each model's own inputs as the model does, as nearly as can be.

It is the mean where inputs leave directions open. Statistics count per position, so that a longer text weighs no more.
"""

from typing import Annotated

from cuvee.method import UNIT, InputGram, PerModel, matrix_method
from cuvee.ops.arrays import Array
from cuvee.ops.least_squares import fit_to_inputs, fit_to_inputs_work
from cuvee.ops.matrices import numbers
from cuvee.recipe.setting import Range


@matrix_method(
    "regmean",
    paper="arXiv:2212.09849",
    formula="(Σ wᵢWᵢG̃ᵢ)(Σ wᵢG̃ᵢ)⁻¹,  G̃ᵢ = a·Gᵢ + (1 − a)·diag(Gᵢ),  Gᵢ = XᵢᵀXᵢ/nᵢ",
    work=fit_to_inputs_work,
    base="optional",
    equivariant=False,
)
def regmean(
    models: Array,
    *,
    weight: Annotated[PerModel, Range(0)] = 1.0,
    off_diagonal: Annotated[float, UNIT] = 0.9,
    grams: InputGram,
) -> Array:
    """Average matrices so that each counts where its own inputs are: by least squares, in closed form.

    Needs `statistics` of each model on a text of its own skill. `off_diagonal` shrinks the entries for pairs of
    channels: 1 trusts the text, 0 weighs each column by itself. A base model only serves to have a change from it.
    """
    return fit_to_inputs(models, grams, numbers(weight, models.shape[0]), off_diagonal)
