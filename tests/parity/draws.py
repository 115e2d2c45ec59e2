"""The random methods, of which only the statistics can be those of mergekit."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import cuvee
from parity.run import OneTensor

METHODS = ("dare_linear", "dare_ties", "della_linear", "della")
DENSITY, EPSILON, TIMES = 0.6, 0.2, 200
SHAPE = (24, 32)

_RANDOM = np.random.default_rng(5)
BASE = np.zeros(SHAPE, np.float32)
EXPERTS = [_RANDOM.standard_normal(SHAPE).astype(np.float32) for _ in range(2)]


def parameters(method: str, *, rescale: bool) -> dict[str, Any]:
    window = {"epsilon": EPSILON} if method.startswith("della") else {}
    return {"weight": 1.0, "density": DENSITY, "rescale": rescale, "normalize": False, **window}


DRAWS: Mapping[str, OneTensor] = {
    name: OneTensor(name, method, [BASE, *EXPERTS[:count]], parameters(method, rescale=rescale), draws=TIMES)
    for method in METHODS
    for name, count, rescale in (
        (f"{method}-thinned", 1, False),
        (f"{method}-rescaled", 1, True),
        (f"{method}-of-two", 2, True),
    )
}


def drawn_here(asked: OneTensor) -> np.ndarray:
    """Return Cuvée's results with as many seeds, [draws, *shape]."""
    given = asked.parameters
    return np.stack(
        [cuvee.merge_tensors(asked.method, asked.tensors[1:], base=BASE, seed=seed, **given) for seed in range(TIMES)]
    )
