"""VeRA (arXiv:2310.11454): W + (b ∘ B) (d ∘ A), with A and B of the whole adapter cut to the module's size.

They are read from the adapter, which stores them by default. As in PEFT 0.21.2, tuners/vera/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, switch, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    out, into = weight.shape
    inner = parts["vera_lambda_d"][:, None] * parts["vera_A"][:, :into]
    outer = parts["vera_lambda_b"][:, None] * parts["vera_B"][:out]
    return np.asarray(weight + outer @ inner)


def refusal(settings: Settings) -> str | None:
    if settings["save_projection"]:
        return None
    return "its random matrices are not stored: save it with save_projection=True"


KIND = Kind(
    "VERA",
    forms=({"vera_lambda_b": "out", "vera_lambda_d": "rank"},),
    keys={"save_projection": switch(True), **unused("r", "projection_prng_key", "vera_dropout", "d_initial")},
    change=change,
    shared=("vera_A", "vera_B"),
    refusal=refusal,
)
