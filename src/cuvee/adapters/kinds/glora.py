"""GLoRA (arXiv:2306.07967): W + W ∘ A + B, and of the bias b + b ∘ D + E + W C.

Each part is a product, a vector or a number. As in PEFT 0.21.2, tuners/glora/layer.py. Without a bias C, D and E do
nothing.
"""

from itertools import product

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    return np.asarray(weight + weight * _path(parts, "A") + _path(parts, "B"))


def bias(bias: np.ndarray, weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    column = _path(parts, "C")
    return np.asarray(bias + bias * _path(parts, "D") + _path(parts, "E") + (weight @ column)[:, 0])


def _path(parts: Parts, letter: str) -> np.ndarray:
    name = f"glora_{letter}"
    if f"{name}.Xd" in parts:
        return parts[f"{name}.Xd"] @ parts[f"{name}.Xu"]
    return parts[f"{name}.X"] if f"{name}.X" in parts else parts[f"{name}.zeros"]


def _paths(letter: str, *shapes: str) -> list[dict[str, str]]:
    """List the ways to store a part: of given axes or as a single number, and for two axes as a product."""
    name = f"glora_{letter}"
    ways = [{f"{name}.{word}": shape} for word, shape in product(("X", "zeros"), shapes)]
    for shape in shapes:
        axes = shape.split()
        if len(axes) == 2:
            ways.append({f"{name}.Xd": f"{axes[0]} r{letter}", f"{name}.Xu": f"r{letter} {axes[1]}"})
    return ways


_WAYS = (
    *(_paths(letter, "out in", "out 1", "1") for letter in "AB"),
    _paths("C", "in 1"),
    *(_paths(letter, "out", "1") for letter in "DE"),
)

KIND = Kind(
    "GLORA",
    forms=tuple({name: axes for way in ways for name, axes in way.items()} for ways in product(*_WAYS)),
    keys=unused("r", "config_A_B", "config_C", "config_D_E"),
    change=change,
    bias=bias,
)
