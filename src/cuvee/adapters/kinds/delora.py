"""DeLoRA (arXiv:2503.18225): W + B D A ∘ w, D = λ / (r |Aᵢ| |Bᵢ|), w the lengths of W's columns, which are stored.

As in PEFT 0.21.2, tuners/delora/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    inner, outer = parts["delora_A"], parts["delora_B"]
    lengths = np.maximum(np.linalg.norm(inner, axis=1), 1e-4) * np.maximum(np.linalg.norm(outer, axis=0), 1e-4)
    scales = parts["delora_lambda"] / len(inner) / lengths
    return np.asarray(weight + (outer * scales) @ inner * parts["delora_w_norm"])


KIND = Kind(
    "DELORA",
    forms=({"delora_A": "rank in", "delora_B": "out rank", "delora_lambda": "1", "delora_w_norm": "in"},),
    keys=unused("r", "delora_lambda", "module_dropout", "rank_pattern", "lambda_pattern"),
    change=change,
)
