"""TinyLoRA (arXiv:2602.04118): W + B R A, R = Σ vᵢ Pᵢ, with B and A the strongest directions of W, and P random.

As in PEFT 0.21.2, tuners/tinylora. Modules share the vectors v by their number, which follows from the order of modules
in code. No file has the number, but P is drawn from a seed plus it, so that the stored P tells it.
"""

from collections.abc import Collection, Mapping

import numpy as np

from cuvee.adapters.kind import MODULES, Key, Kind, Parts, Settings, count, is_number, unused
from cuvee.adapters.random_places import SEED, first_normals

VECTORS = "tinylora_v"
ALIKE = 0.02
"""A stored P may be rounded to bfloat16: drawn numbers may differ by so much of their deviation."""


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    projections = parts["tinylora_P"]
    vector = parts[f"{VECTORS}.{_group(projections, parts, settings)}"]
    if vector.shape != projections.shape[:1]:
        raise ValueError(f"a vector of {vector.size} numbers for {len(projections)} projections")
    mixture = np.tensordot(vector, projections, axes=1)
    return np.asarray(weight + parts["tinylora_B"] @ mixture @ parts["tinylora_A"])


def _group(projections: np.ndarray, parts: Parts, settings: Settings) -> int:
    """Return which vector a module has. Raises ValueError where the projections do not tell."""
    groups = sum(part.startswith(f"{VECTORS}.") for part in parts)
    modules: int = settings[MODULES]
    if groups == 1:
        return 0
    expected = max(1, round(modules * (1.0 - settings["weight_tying"])))
    if groups != expected:
        raise ValueError(f"{groups} vectors for {modules} modules, expected {expected}")
    number = _number(projections, modules, settings["projection_seed"])
    return min(number // max(1, modules // groups), groups - 1)


def _number(projections: np.ndarray, modules: int, seed: int) -> int:
    """Return the module's number: that with which its projections are drawn."""
    spread = 1 / projections.shape[1] ** 0.5
    stored = projections.reshape(-1)
    numbers = []
    for number in range(modules):
        drawn = first_normals(stored.size, seed + number) * spread
        if np.abs(stored[: drawn.size] - drawn).max(initial=0) < ALIKE * spread:
            numbers.append(number)
    if len(numbers) != 1:
        raise ValueError(f"its projections are those of {len(numbers)} modules by its seed of {seed}, expected one")
    return numbers[0]


def _of_module(module: str, names: Collection[str]) -> Mapping[str, str]:
    return {name: name for name in names if name.startswith(f"{VECTORS}.")}


KIND = Kind(
    "TINYLORA",
    forms=({"tinylora_A": "rank in", "tinylora_B": "out rank", "tinylora_P": "vectors rank rank"},),
    keys={
        "projection_seed": Key(42, SEED.fits, SEED.expected),
        "weight_tying": Key(0.0, lambda value: is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
        "u": count(64),
        **unused("r", "save_projection", "tinylora_dropout", "init_v_bound"),
    },
    change=change,
    shared=(VECTORS,),
    of_module=_of_module,
)
