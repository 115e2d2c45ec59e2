"""LoKr (arXiv:2309.14859): W + s W1 ⊗ W2, s = alpha / r, each side whole or as a product of two.

As in PEFT 0.21.2, tuners/lokr/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, count, number, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    product = np.kron(_side(parts, "lokr_w1"), _side(parts, "lokr_w2"))
    return np.asarray(weight + settings["alpha"] / settings["r"] * product.reshape(weight.shape))


def _side(parts: Parts, name: str) -> np.ndarray:
    if name in parts:
        return parts[name]
    return parts[f"{name}_a"] @ parts[f"{name}_b"]


_FIRST = ({"lokr_w1": "out1 in1"}, {"lokr_w1_a": "out1 rank", "lokr_w1_b": "rank in1"})
_SECOND = ({"lokr_w2": "out2 in2"}, {"lokr_w2_a": "out2 rank", "lokr_w2_b": "rank in2"})

KIND = Kind(
    "LOKR",
    forms=tuple({**first, **second} for first in _FIRST for second in _SECOND),
    keys={
        "r": count(8, "rank_pattern"),
        "alpha": number(8, "alpha_pattern"),
        **unused(
            "rank_dropout", "module_dropout", "use_effective_conv2d", "decompose_both", "decompose_factor",
            "rank_dropout_scale",
        ),
    },
    change=change,
)  # fmt: skip
