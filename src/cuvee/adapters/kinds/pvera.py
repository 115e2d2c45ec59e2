"""PVeRA (arXiv:2512.07703): VeRA whose inner vector is drawn in training, and its mean at inference: half of d and A.

As in PEFT 0.21.2, tuners/pvera/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, switch, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    out, into = weight.shape
    rank = len(parts["pvera_lambda_d"]) // 2
    inner = parts["pvera_lambda_d"][:rank, None] * parts["pvera_A"][:rank, :into]
    outer = parts["pvera_lambda_b"][:, None] * parts["pvera_B"][:out]
    return np.asarray(weight + outer @ inner)


def refusal(settings: Settings) -> str | None:
    if settings["sample_at_inference"]:
        return "it draws at random in each run (sample_at_inference): load it with PEFT"
    if not settings["save_projection"]:
        return "its random matrices are not stored: save it with save_projection=True"
    return None


KIND = Kind(
    "PVERA",
    forms=({"pvera_lambda_b": "out", "pvera_lambda_d": "rank2"},),
    keys={
        "save_projection": switch(True),
        "sample_at_inference": switch(False),
        **unused("r", "projection_prng_key", "pvera_dropout", "d_initial", "generator_seed"),
    },
    change=change,
    shared=("pvera_A", "pvera_B"),
    refusal=refusal,
)
