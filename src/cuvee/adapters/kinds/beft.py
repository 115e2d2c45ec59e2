"""BEFT (arXiv:2509.15974): a vector added to the bias. As in PEFT 0.21.2, tuners/beft/layer.py."""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings


def bias(bias: np.ndarray, weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    return bias + parts["beft_bias"].reshape(bias.shape)


KIND = Kind(
    "BEFT",
    forms=({"beft_bias": "out"}, {"beft_bias": "1 out"}, {"beft_bias": "out 1"}),
    keys={},
    change=None,
    bias=bias,
    only_bias=True,
)
