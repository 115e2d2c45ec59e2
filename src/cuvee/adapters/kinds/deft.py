"""DEFT: W + Q (s R - Pᵀ W), which takes a subspace out and puts another change in; PaRa with R = 0; s = alpha / r or 1.

As in PEFT 0.21.2, tuners/deft/layer.py: Q = P and relu(P), or both the orthonormal basis of P.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, choice, number, switch, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    basis = parts["deft_P"]
    right = np.maximum(basis, 0)
    if settings["decomposition_method"] == "qr":
        basis = right = np.linalg.qr(basis)[0]
    removed = right.T @ weight
    if settings["para"]:
        return np.asarray(weight - basis @ removed)
    scale = settings["alpha"] / basis.shape[1] if settings["alpha"] else 1.0
    return np.asarray(weight + basis @ (scale * parts["deft_R"] - removed))


KIND = Kind(
    "DEFT",
    forms=({"deft_P": "out rank"}, {"deft_P": "out rank", "deft_R": "rank in"}),
    keys={
        "decomposition_method": choice("relu", "qr"),
        "alpha": number(None),
        "para": switch(False),
        **unused("r", "init_scale", "deft_dropout"),
    },
    change=change,
)
