"""Model Stock: how far the average can be trusted follows from the angle between task vectors (Jang et al. 2024).

For models trained from one base on the same data. Task vectors of unrelated tasks are nearly at right angles, for
which the method gives the base model back.

mergekit differs in two places: it lets t leave [0, 1], so that a negative cosine moves the model away from all of its
inputs (`clamp: false` does so here), and it takes two task vectors with a product of lengths under 1e-6 for less alike
than they are.
"""

from itertools import combinations
from typing import Annotated, Any

import numpy as np

from cuvee.method import coefficient_method
from cuvee.ops.arrays import Array
from cuvee.ops.gram import gram_of
from cuvee.ops.stepwise import Run, Steps, Stepwise, together
from cuvee.ops.survey import Scope


def _scope(semantics: str, settings: Any) -> Scope:
    return "row" if settings["filter_wise"] else "tensor"


filter_gram = gram_of(_scope, reads=("filter_wise",))


def _in_steps(s: Steps, *, filter_wise: bool, clamp: bool) -> Run:
    assert s.base is not None
    count, over = len(s.models), _scope("", {"filter_wise": filter_wise})
    vectors = s.rounded(s.models - s.base)
    firsts, seconds = (list(chosen) for chosen in zip(*combinations(range(count), 2), strict=True))
    products = s.dot(vectors[firsts], vectors[seconds], over)
    lengths, products = yield from together(s.length(vectors, over), products)
    lengths = s.rounded(lengths)
    cosines = s.rounded(_cosine(products, s.rounded(lengths[firsts] * lengths[seconds])))
    cosine = s.rounded(cosines.mean(axis=0, dtype=np.float64))
    divisor = s.rounded(1 + s.rounded((count - 1) * cosine))
    singular = np.abs(divisor) < 1e-6
    t = np.where(singular, 0, s.rounded(s.rounded(count * cosine) / np.where(singular, 1, divisor)))
    t = np.clip(t, 0, 1) if clamp else t
    total = s.models[0]
    for model in s.models[1:]:
        total = s.rounded(total + model)
    average = s.rounded(total / count)
    return s.rounded(s.rounded(t * average) + s.rounded(s.rounded(1 - t) * s.base))


@coefficient_method(
    "model_stock",
    paper="arXiv:2403.19522",
    formula="θ₀ + λ t Σ τᵢ / N,  t = N c / (1 + (N−1) c),  c = mean of cos(τᵢ, τⱼ)",
    base="delta",
    models=(2, None),
    stepwise=Stepwise(_in_steps, lambda settings: 1),
)
def model_stock(*, filter_wise: bool = False, clamp: bool = True, gram: Annotated[Array, filter_gram]) -> Array:
    """Average the models and go back towards the base model, the more the less their changes agree.

    With `filter_wise` each row (along the last axis) has an angle of its own. `clamp` keeps t in [0, 1].
    """
    count = gram.shape[-1]
    lengths = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    cosines = [_cosine(gram[..., i, j], lengths[..., i] * lengths[..., j]) for i, j in combinations(range(count), 2)]
    cosine = np.mean(np.stack(cosines), axis=0)
    divisor = 1 + (count - 1) * cosine
    singular = np.abs(divisor) < 1e-6
    t = np.where(singular, 0, count * cosine / np.where(singular, 1, divisor))
    t = np.clip(t, 0, 1) if clamp else t
    return np.repeat(t[..., None] / count, count, axis=-1)


def _cosine(product: Array, lengths: Array) -> Array:
    """Return the cosine, or 0 where a length is zero."""
    return np.clip(np.where(lengths > 0, product / np.where(lengths > 0, lengths, 1), 0), -1, 1)
