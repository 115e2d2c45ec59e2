"""LoHa (arXiv:2108.06098): W + s (W1a W1b) ∘ (W2a W2b), s = alpha / r. As in PEFT 0.21.2, tuners/loha/layer.py."""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, count, number, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    first = parts["hada_w1_a"] @ parts["hada_w1_b"]
    second = parts["hada_w2_a"] @ parts["hada_w2_b"]
    return np.asarray(weight + settings["alpha"] / settings["r"] * first * second)


KIND = Kind(
    "LOHA",
    forms=({"hada_w1_a": "out rank", "hada_w1_b": "rank in", "hada_w2_a": "out rank", "hada_w2_b": "rank in"},),
    keys={
        "r": count(8, "rank_pattern"),
        "alpha": number(8, "alpha_pattern"),
        **unused("rank_dropout", "module_dropout", "use_effective_conv2d"),
    },
    change=change,
)
