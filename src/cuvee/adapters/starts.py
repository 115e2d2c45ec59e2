"""What the start of some variants of LoRA takes out of a base's matrix: the adapter was trained over the rest.

PEFT takes the same out when it loads such an adapter, as in 0.21.2, tuners/lora/layer.py and variants.py. Directions
come from the eigenvectors of WᵀW or WWᵀ in float64: a product over a whole space of directions does not hang on their
signs, nor on how a library decomposes. What PEFT draws at random (PiSSA with iterations) has no place here.
"""

from collections.abc import Callable, Mapping

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


def pissa(weight: np.ndarray, rank: int, scale: float) -> Pair:
    """Return the strongest directions (arXiv:2404.02948, eq. 2-4), whatever the scale."""
    return _along(weight, _directions(weight)[:, -rank:])


def olora(weight: np.ndarray, rank: int, scale: float) -> Pair:
    """Return scale Q R of the first columns (arXiv:2406.01775): the part of W in the space of these."""
    basis, _ = np.linalg.qr(weight[:, :rank])
    return basis * scale, basis.T @ weight


def kasa(weight: np.ndarray, rank: int, scale: float) -> Pair:
    """Return the weakest directions (arXiv:2412.06071, eq. 5), whatever the scale. Raises ValueError if all are."""
    if rank >= min(weight.shape):
        raise ValueError(f"a rank of {rank} leaves nothing of a matrix of shape {list(weight.shape)}")
    return _along(weight, _directions(weight)[:, :rank])


STARTS: Mapping[str, Callable[[np.ndarray, int, float], Pair]] = {"pissa": pissa, "olora": olora, "kasa": kasa}
"""Each takes W [out, in] in float64, rank and scale; gives the left [out, rank] and the right [rank, in] of a part."""


def _directions(weight: np.ndarray) -> np.ndarray:
    """Return the singular vectors of W's shorter side as columns, the weakest first."""
    rows, columns = weight.shape
    gram = weight @ weight.T if rows <= columns else weight.T @ weight
    vectors: np.ndarray = np.linalg.eigh(gram)[1]
    return vectors


def _along(weight: np.ndarray, directions: np.ndarray) -> Pair:
    """Return the part of W along directions of its shorter side."""
    rows, columns = weight.shape
    if rows <= columns:
        return directions, directions.T @ weight
    return weight @ directions, directions.T
