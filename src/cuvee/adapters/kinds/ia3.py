"""(IA)³ (arXiv:2205.05638): outputs times l, so that W and the bias have rows times l; of feed-forward modules inputs.

The shape of l says which: [out, 1] or [1, in]. As in PEFT 0.21.2, tuners/ia3/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    return weight * parts["ia3_l"]


def bias(bias: np.ndarray, weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    scale = parts["ia3_l"]
    return bias * scale[:, 0] if scale.shape[1] == 1 else bias


KIND = Kind(
    "IA3",
    forms=({"ia3_l": "out 1"}, {"ia3_l": "1 in"}),
    keys=unused("feedforward_modules", "init_ia3_weights"),
    change=change,
    bias=bias,
)
