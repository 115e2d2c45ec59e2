"""OFT (arXiv:2306.07280, 2506.19847): W Rᵀ, where R is block-diagonal and each block the Cayley map of a skew matrix.

By default the map is cut to a sum of powers (Cayley-Neumann). As in PEFT 0.21.2, tuners/oft/layer.py.
"""

import math

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, count, number, switch, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    vectors = parts["oft_R.weight"]
    size = _block_size(vectors.shape[1])
    skew = _skew(vectors, size)
    if settings["coft"]:
        skew = _projected(skew, settings["eps"])
    rotations = _cayley(skew, settings)
    blocks = weight.shape[1] // size
    expected = 1 if settings["block_share"] else blocks
    if blocks * size != weight.shape[1] or len(rotations) != expected:
        raise ValueError(f"{len(rotations)} blocks of {size} for {weight.shape[1]} inputs")
    split = weight.reshape(len(weight), blocks, size)
    return np.asarray(
        np.einsum("obc,brc->obr", split, np.broadcast_to(rotations, (blocks, size, size))).reshape(weight.shape)
    )


def _block_size(elements: int) -> int:
    size = (1 + math.isqrt(1 + 8 * elements)) // 2
    if size * (size - 1) // 2 != elements:
        raise ValueError(f"{elements} numbers are no triangle of a square block")
    return size


def _skew(vectors: np.ndarray, size: int) -> np.ndarray:
    skew = np.zeros((len(vectors), size, size))
    rows, columns = np.triu_indices(size, 1)
    skew[:, rows, columns] = vectors
    return skew - skew.transpose(0, 2, 1)


def _projected(skew: np.ndarray, radius: float) -> np.ndarray:
    """Bring each block within a distance of zero, as the constrained variant does at each step."""
    most = radius / math.sqrt(len(skew))
    norms = np.sqrt(np.square(skew).sum(axis=(1, 2), keepdims=True))
    return np.where(norms <= most, skew, most * skew / np.maximum(norms, np.finfo(float).tiny))


def _cayley(skew: np.ndarray, settings: Settings) -> np.ndarray:
    identity = np.eye(skew.shape[-1])
    if not settings["use_cayley_neumann"]:
        # Q (I + S) = I - S, solved for Q.
        return np.linalg.solve((identity + skew).transpose(0, 2, 1), (identity - skew).transpose(0, 2, 1)).transpose(
            0, 2, 1
        )
    return _neumann(skew, settings["num_cayley_neumann_terms"])


def _neumann(skew: np.ndarray, terms: int) -> np.ndarray:
    """Return I + 2 S + 2 S² + ... + Sⁿ. The last power counts once, and from four terms on there is one more."""
    total = np.broadcast_to(np.eye(skew.shape[-1]), skew.shape).copy()
    if terms > 1:
        total += 2 * skew
    if terms > 2:
        power = skew @ skew
        total += 2 * power
        for _ in range(3, terms - 1):
            power = power @ skew
            total += 2 * power
        total += power @ skew
    return total


KIND = Kind(
    "OFT",
    forms=({"oft_R.weight": "blocks elements"},),
    keys={
        "coft": switch(False),
        "eps": number(6e-5),
        "block_share": switch(False),
        "use_cayley_neumann": switch(True),
        "num_cayley_neumann_terms": count(5),
        **unused("r", "oft_block_size", "module_dropout"),
    },
    change=change,
)
