"""Uni-LoRA (arXiv:2506.00799): W + B A, whose numbers are those of one vector.

Places and scales are stored. As in PEFT 0.21.2, tuners/unilora/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, switch, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    inner, outer = (_factor(parts, side) for side in "AB")
    return np.asarray(weight + outer @ inner)


def _factor(parts: Parts, side: str) -> np.ndarray:
    vector = parts["unilora_theta_d"]
    places = parts[f"unilora_indices_{side}"].astype(np.int64)
    if places.min() < 0 or places.max() >= len(vector):
        raise ValueError("places outside of the vector")
    return np.asarray(vector[places] * parts[f"unilora_scales_{side}"])


def refusal(settings: Settings) -> str | None:
    if settings["save_indices"]:
        return None
    return "which number goes where is not stored, and depends on the order of modules: save it with save_indices=True"


KIND = Kind(
    "UNILORA",
    forms=(
        {
            "unilora_indices_A": "rank in", "unilora_indices_B": "out rank",
            "unilora_scales_A": "rank in", "unilora_scales_B": "out rank",
        },
    ),
    keys={
        "save_indices": switch(False),
        **unused("r", "proj_seed", "theta_d_length", "unilora_dropout", "init_theta_d_bound"),
    },
    change=change,
    shared=("unilora_theta_d",),
    refusal=refusal,
)  # fmt: skip
