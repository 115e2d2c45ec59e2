"""Two ways to mix factors that are not the mixture of the changes, to replay what was published with them.

Mixing A and B separately gives (Σ wᵢ Bᵢ)(Σ wⱼ Aⱼ): each change by wᵢ², and cross terms Bᵢ Aⱼ besides.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cuvee.adapters.group import Group
from cuvee.adapters.low_rank import Product
from cuvee.errors import RecipeError

Factors = tuple[np.ndarray, np.ndarray]


def legacy_lora_average(pairs: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """Mix as the starter kit of the 2024 LLM Merging Competition: smaller ranks get zeros in front of their factors.

    The scale is that of the first adapter for all. Raises ValueError for a rank larger than the first.
    """
    rank = pairs[0][1].shape[0]
    largest = max(right.shape[0] for _, right in pairs)
    if largest > rank:
        raise ValueError(f"the first adapter's rank is {rank}, another's {largest}: name the one of largest rank first")
    lefts = [np.pad(left, ((0, 0), (rank - left.shape[1], 0))) for left, _ in pairs]
    rights = [np.pad(right, ((rank - right.shape[0], 0), (0, 0))) for _, right in pairs]
    return _mixed(lefts, weights), _mixed(rights, weights)


def lorahub_product(pairs: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """Mix as LoRAHub (arXiv:2307.13269): equal ranks, the scale of the first adapter. Raises ValueError for others."""
    ranks = sorted({right.shape[0] for _, right in pairs})
    if len(ranks) > 1:
        raise ValueError(f"the ranks differ: {ranks}")
    lefts, rights = zip(*pairs, strict=True)
    return _mixed(lefts, weights), _mixed(rights, weights)


LEGACY: Mapping[str, Callable[[Sequence[Factors], Sequence[float]], Factors]] = {
    "legacy_lora_average": legacy_lora_average,
    "lorahub_product": lorahub_product,
}


def mixed_factors(method: str, group: Group, module: str, weights: Sequence[float]) -> Product:
    """Mix the factors of a module. Raises RecipeError for adapters that the method cannot mix."""
    lacking = next((a.name for a in group.adapters if module not in a.factors), None)
    if lacking is not None:
        raise RecipeError(f"'{method}' needs the same modules in all adapters; {lacking} lacks '{module}'")
    scale = group.adapters[0].factors[module].scale
    stored = [(a.factors[module].scale, *a.pair(a.factors[module])) for a in group.adapters]
    pairs = [(left.astype(np.float64) / (own or 1.0), right.astype(np.float64)) for own, left, right in stored]
    try:
        left, right = LEGACY[method](pairs, weights)
    except ValueError as error:
        raise RecipeError(f"'{method}' of '{module}': {error}") from error
    return Product(left * scale, right)


def _mixed(parts: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    return np.asarray(sum(weight * part for weight, part in zip(weights, parts, strict=True)))
