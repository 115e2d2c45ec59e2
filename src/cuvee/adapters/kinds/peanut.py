"""PEANuT (arXiv:2410.01870): W + s f(Wᵀ), where f is a small network, without further layers: B act(A Wᵀ), transposed.

As in PEFT 0.21.2, tuners/peanut/layer.py, with `depth` 0 and an activation that is a plain function.
"""

from collections.abc import Callable, Mapping

import numpy as np

from cuvee.adapters.kind import Key, Kind, Parts, Settings, number, unused

ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "linear": lambda x: x,
}


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    hidden = ACTIVATIONS[settings["act_fn"]](weight.T @ parts["peanut_A.weight"].T)
    return np.asarray(weight + settings["scaling"] * (hidden @ parts["peanut_B.weight"].T).T)


def refusal(settings: Settings) -> str | None:
    if settings["act_fn"] not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        return f"the activation '{settings['act_fn']}' is none of {known}: merge it with PEFT's merge_and_unload"
    return None


KIND = Kind(
    "PEANUT",
    forms=({"peanut_A.weight": "rank out", "peanut_B.weight": "out rank"},),
    keys={
        "scaling": number(1.0),
        "act_fn": Key("relu", lambda value: isinstance(value, str) and value.isidentifier(), "an activation's name"),
        **unused("r", "depth"),
    },
    change=change,
    refusal=refusal,
)
