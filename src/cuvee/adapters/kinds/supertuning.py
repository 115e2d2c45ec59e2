"""Supertuning (arXiv:2607.09287): numbers added to W in some places, which are stored, and LoRA besides; s = alpha / r.

As in PEFT 0.21.2, tuners/supertuning/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, count, number, switch, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    places = parts["supertuning_indices"].astype(np.int64)
    if places.size and (places.min() < 0 or places.max() >= weight.size):
        raise ValueError("places outside of the matrix")
    changed = weight.copy()
    np.add.at(changed.reshape(-1), places, parts["supertuning_values"])
    if "supertuning_lora_A.weight" in parts:
        product = parts["supertuning_lora_B.weight"] @ parts["supertuning_lora_A.weight"]
        changed += settings["lora_alpha"] / settings["r"] * product
    return changed


def refusal(settings: Settings) -> str | None:
    if settings["save_precomputed_indices"]:
        return None
    return "its places are not stored: save it with save_precomputed_indices=True"


_SPARSE = {"supertuning_values": "places", "supertuning_indices": "places"}
_LOW_RANK = {"supertuning_lora_A.weight": "rank in", "supertuning_lora_B.weight": "out rank"}

KIND = Kind(
    "SUPERTUNING",
    forms=(_SPARSE, {**_SPARSE, **_LOW_RANK}),
    keys={
        "r": count(8),
        "lora_alpha": number(8),
        "save_precomputed_indices": switch(True),
        **unused("sparsity", "select_top", "lora_dropout"),
    },
    change=change,
    refusal=refusal,
)
