"""RandLoRA (arXiv:2502.00987): W + s Σ Bₙ Λₙ A Γₙ over random bases, s = alpha / r, the bases of the whole adapter.

Λ and Γ act on the smaller of the two sides. As in PEFT 0.21.2, tuners/randlora/layer.py, whose two sides count ranks
and bases in different orders.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, count, number, switch, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    out, into = weight.shape
    low, high = min(out, into), max(out, into)
    scales, gamma = parts["randlora_lambda"], parts["randlora_gamma"]
    rank, bases = scales.shape
    small = scales[:, :, None] * parts["randlora_A"][:, :bases, :low] * gamma[None]
    large = parts["randlora_B"][:high, :bases].reshape(high, -1)
    product = large @ small.reshape(rank * bases, low)
    scale = settings["randlora_alpha"] / settings["r"]
    return np.asarray(weight + scale * (product if low == into else product.T))


def refusal(settings: Settings) -> str | None:
    if settings["save_projection"]:
        return None
    return "its random matrices are not stored: save it with save_projection=True"


KIND = Kind(
    "RANDLORA",
    forms=({"randlora_lambda": "rank bases", "randlora_gamma": "bases low"},),
    keys={
        "r": count(32),
        "randlora_alpha": number(640),
        "save_projection": switch(True),
        **unused("projection_prng_key", "sparse", "very_sparse", "randlora_dropout"),
    },
    change=change,
    shared=("randlora_A", "randlora_B"),
    ignored=("randlora_A", "randlora_B"),
    refusal=refusal,
)
