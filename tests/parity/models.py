"""The models that are merged: a tiny base, its fine-tunes, and one that is no relative; in three sets of types."""

from pathlib import Path

import numpy as np

from cuvee.checkpoint.dtypes import NUMPY
from cuvee.testing import TINY_LLAMA, random_weights, write_model

CONFIG = {
    **TINY_LLAMA,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "vocab_size": 40,
}
LAYERS = 4

CHANGES = {"e0": 0.02, "e1": 0.03, "e2": 0.01, "e3": 0.002}
"""How far the fine-tunes are from the base, whose weights are of size 0.1. `e3` is on slerp's straight branch."""

SETS = {
    "fp32": dict.fromkeys(("base", "other", *CHANGES), "F32"),
    "bf16": dict.fromkeys(("base", "other", *CHANGES), "BF16"),
    "mixed": {"base": "F32", "other": "F32", "e0": "BF16", "e1": "F32", "e2": "BF16", "e3": "F32"},
}
"""Set -> model -> type of its matrices. The vectors of the mixed set are float32 throughout."""


def write_models(root: Path) -> None:
    """Write all sets as folders `root/SET/MODEL`."""
    weights = random_models()
    for name, types in SETS.items():
        for model, dtype in types.items():
            kept = "F32" if name == "mixed" else dtype
            cast = {t: a.astype(NUMPY[dtype if a.ndim > 1 else kept]) for t, a in weights[model].items()}
            write_model(root / name / model, cast, config=CONFIG)


def random_models() -> dict[str, dict[str, np.ndarray]]:
    """Return float32 weights of each model. The fine-tunes share half of what they changed, as real ones do."""
    base = random_weights(0, config=CONFIG)
    shared = random_weights(1, base=base, config=CONFIG, change=1.0)
    models = {"base": base, "other": random_weights(2, config=CONFIG)}
    for seed, (name, change) in enumerate(CHANGES.items(), 3):
        own = random_weights(seed, base=base, config=CONFIG, change=change)
        together = {t: np.float32(change) * (shared[t] - base[t]) for t in base}
        models[name] = {t: own[t] + together[t] for t in base}
    return models
