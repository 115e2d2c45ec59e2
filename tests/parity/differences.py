"""Small tensors on which Cuvée differs from mergekit on purpose; mergekit's answers come with the batch."""

from pathlib import Path

import numpy as np

from cuvee.checkpoint.dtypes import NUMPY
from parity.run import OneRecipe, OneTensor

BASE = np.zeros(4, np.float32)


def tensor(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def large() -> list[np.ndarray]:
    """Return a base and a model of more than a million entries, from where on mergekit samples for arcee_fusion."""
    random = np.random.default_rng(0)
    base = random.standard_normal((1100, 1000), np.float32)
    return [base, base + random.standard_normal((1100, 1000), np.float32) * np.float32(0.1)]


def in_bfloat16(tensors: list[np.ndarray]) -> list[np.ndarray]:
    return [array.astype(NUMPY["BF16"]) for array in tensors]


UP, DOWN = tensor(1, 2, 3, 4), tensor(-1, 2, 3, -4)
ALIKE = [BASE, tensor(1e-4, 0, 0, 0), tensor(1e-4, 0, 0, 0)]
OPPOSED = [BASE, tensor(1, 1, 1, 0), tensor(-1, -1, 0, 1)]
STAR = [tensor(1, 0), tensor(-0.5, np.sqrt(0.75)), tensor(-0.5, -np.sqrt(0.75))]
CUBE = np.random.default_rng(1).standard_normal((2, 3, 2, 2)).astype(np.float32)
IN_A_WINDOW = {"weight": 1.0, "density": 0.5, "epsilon": 0.4, "rescale": False}
COLUMNS = {"weight": [0.7, 0.3], "nuslerp_flatten": False, "nuslerp_row_wise": True}
ROWS = np.random.default_rng(2).standard_normal((3, 6, 8)).astype(np.float32)

_ASKED = [
    OneTensor("small_tensor", "breadcrumbs", [BASE, UP], {"weight": 1.0, "density": 0.2, "gamma": 0.0}),
    OneTensor("small_changes", "sce", [BASE, tensor(1e-4, 0, 0, 0), tensor(3e-4, 0, 0, 0)], {}),
    OneTensor("unequal_changes", "sce", [BASE, tensor(1, 0, 0, 0), tensor(0, 1e-4, 0, 0)], {}),
    OneTensor("tiny_changes", "ties", [BASE, np.float32(1e-9) * UP], {"weight": 1.0, "density": 0.5, "rescale": True}),
    OneTensor("negative_cosine", "model_stock", OPPOSED, {}),
    OneTensor("short_task_vectors", "model_stock", ALIKE, {}),
    OneTensor("negative_weight", "ties", [BASE, UP, UP], {"weight": [0.3, -1.0]}),
    OneTensor("many_entries", "arcee_fusion", large(), {}, draws=2),
    OneTensor("wider_output", "arcee_fusion", in_bfloat16([*ROWS[:2]]), {}),
    OneTensor("wider_sum", "ramplus_tl", in_bfloat16([*ROWS]), {}),
    OneTensor("row_of_one", "della_linear", [BASE[:, None], UP[:, None]], {"weight": 1.0, "density": 0.5}),
    OneTensor("wide_window", "della_linear", [BASE, UP], {"weight": 1.0, "density": 0.9}),
    OneTensor("rows_of_a_stack", "della_linear", [0 * CUBE[0], CUBE[0]], IN_A_WINDOW, draws=400),
    OneTensor("directions_that_cancel", "multislerp", STAR, {"weight": 1.0}, base=None),
    OneTensor("one_model", "multislerp", [BASE, UP], {"weight": 1.0}),
    OneTensor("weights_of_zero_sum", "linear", [UP, DOWN], {"weight": [1.0, -1.0]}, base=None),
    OneTensor("directions_of_zero_sum", "multislerp", [UP, DOWN], {"weight": [1.0, -1.0]}, base=None),
    OneTensor("columns_of_a_cube", "nuslerp", [*CUBE], COLUMNS, base=None),
    OneTensor("tiny_step", "nearswap", [BASE, tensor(5e-7, 1e-3, 0, 0)], {"t": 1e-7}),
    OneTensor("density_beyond_one", "ties", [BASE, UP], {"weight": 1.0, "density": 2.0}),
    OneTensor("nothing_but_zeros", "karcher", [BASE, tensor(1e-6, 0, 0, 0)], {}, base=None),
]  # fmt: skip

RANDOM = {"weight": 1.0, "density": 0.5, "rescale": False}
_ASKED += [
    OneTensor("one_order", "dare_linear", [np.zeros_like(ROWS[0]), *ROWS[:2]], RANDOM),
    OneTensor("other_order", "dare_linear", [np.zeros_like(ROWS[0]), *ROWS[1::-1]], RANDOM),
]

DIFFERENCES = {asked.id: asked for asked in _ASKED}


MISSPELT = """
merge_method: linear
models: [{model: E0}, {model: E1}]
parameters: {weight: 1, normalise: false}
"""
"""mergekit spells it `normalize`."""

OWN_LAMBDA = """
merge_method: task_arithmetic
base_model: E0
models: [{model: E1, parameters: {lambda: 0.5}}]
parameters: {weight: 1}
"""

NO_LAYERS = """
merge_method: passthrough
slices:
  - sources: [{model: E0, layer_range: [0, 2]}]
  - sources: [{model: E1, layer_range: [2, 2]}]
"""

BASE_NOT_AMONG_SOURCES = """
merge_method: task_arithmetic
base_model: E0
slices: [{sources: [{model: E1, layer_range: [0, 2]}]}]
parameters: {weight: 1}
"""

MORE_AT_THE_END = """
merge_method: linear
slices:
  - sources: [{model: E0, layer_range: [0, 1]}]
  - sources: [{model: E0, layer_range: [1, 2]}, {model: E1, layer_range: [1, 2]}]
parameters: {weight: 1}
"""
"""The head belongs to the last slice, which has two models."""


def recipes(models: Path) -> dict[str, OneRecipe]:
    """Return recipes that mergekit takes in another way."""
    texts = {
        "misspelt_parameter": MISSPELT,
        "a_models_own_lambda": OWN_LAMBDA,
        "no_layers": NO_LAYERS,
        "base_not_among_sources": BASE_NOT_AMONG_SOURCES,
        "more_models_at_the_end": MORE_AT_THE_END,
    }
    return {name: OneRecipe(name, in_place(text, models)) for name, text in texts.items()}


def in_place(text: str, models: Path) -> str:
    """Name two fine-tunes of float32 in a recipe."""
    return text.replace("E0", str(models / "fp32" / "e0")).replace("E1", str(models / "fp32" / "e1"))
