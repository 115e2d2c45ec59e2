"""HiRA (ICLR 2025): W + W ∘ (B A). As in PEFT 0.21.2, tuners/hira/layer.py."""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    return np.asarray(weight + weight * (parts["hira_B"] @ parts["hira_A"]))


KIND = Kind(
    "HIRA",
    forms=({"hira_A": "rank in", "hira_B": "out rank"},),
    keys=unused("r", "hira_dropout", "rank_pattern"),
    change=change,
)
