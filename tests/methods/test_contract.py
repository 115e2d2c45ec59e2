"""Properties of every method in the registry. Each method says by its kind and settings which ones it must have."""

from collections.abc import Mapping

import array_api_compat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.catalogue import registry
from cuvee.engine.arrays import merge_by_definition
from cuvee.method import Method
from cuvee.testing import MethodContract
from plain_methods import PLAIN

METHODS = list(PLAIN.values())


VARIANTS = {
    "model_stock": [{"filter_wise": True}],
    "pcb": [{"scope": "tensor"}],
    "nuslerp": [{"nuslerp_flatten": False}, {"nuslerp_flatten": False, "nuslerp_row_wise": True}],
}
"""Settings that make a method see other parts of a tensor than it otherwise does."""

CASES = [pytest.param(method, {}, id=method.key) for method in METHODS] + [
    pytest.param(registry()[key], settings, id=f"{key}-{'-'.join(map(str, settings.values()))}")
    for key, variants in VARIANTS.items()
    for settings in variants
]

TYPICAL = {
    "weight": 0.6,
    "gamma": 0.05,
    "select_topk": 0.3,
    "density": 0.4,
    "t": 0.05,
    "epsilon": 0.02,
    "n": 3,
    "m": 10,
    "steps": 5,
}
"""Settings at which methods do what they are for."""

WHOLE = {
    "weight": 1.0,
    "density": 1.0,
    "gamma": 0.0,
    "select_topk": 1.0,
    "n": 10,
    "m": 10,
    "normalize": True,
    "t": 1.0,
    "epsilon": 0.0,
    "alpha": 0.0,
}
"""Settings at which nothing is left out, clipped or added."""

SPREAD = dict.fromkeys(("iso_c", "iso_cts"), "makes all directions equally strong")
SUMS = {
    "consensus": "adds the task vectors up",
    "pcb": "leaves out the smallest scores",
    "tsv_m": "adds up and turns apart",
    "wudi_gd": "goes part of the way from the sum",
    **SPREAD,
}
NO_IDENTITY = {"pcb": "leaves out the smallest scores", **SPREAD}
ABSOLUTE = {
    **dict.fromkeys(("nearswap", "ram", "ramplus_tl"), "has an absolute threshold"),
    "pcb": "compares changes with 1",
    "wudi_gd": "has an absolute learning rate",
}
ORDERED = {"magmax": "of equal magnitudes the first model's wins", "cabs": "each model takes what the last one left"}
"""Methods that lack a property, and why."""


LACKING: Mapping[str, Mapping[str, str]] = {
    "test_equal_models_give_that_model": SUMS,
    "test_one_expert_at_full_weight_is_that_expert": NO_IDENTITY,
    "test_the_order_of_models_changes_no_draw_and_no_tie": ORDERED,
    "test_larger_task_vectors_give_a_larger_change": ABSOLUTE,
}
"""Tests that do not hold for some methods."""


def typical(method: Method, density: float = 0.4) -> dict[str, object]:
    return chosen(method, {**TYPICAL, "density": density})


def chosen(method: Method, values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if name in method.settings}


def contract(method: Method, variant: Mapping[str, object]) -> type[MethodContract]:
    """Return the tests of a method with some settings; those that it lacks are no tests."""
    lacking = {name: None for name, reasons in LACKING.items() if method.key in reasons}
    own = {"settings": {**typical(method), **variant}, "whole": chosen(method, WHOLE)}
    return type(f"Test_{method.key}", (MethodContract,), {"method": method, **own, **lacking})


for case in CASES:
    method, variant = case.values
    globals()[f"Test_{case.id}".replace("-", "_")] = contract(method, variant)


@settings(max_examples=25)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@pytest.mark.parametrize("method", [m for m in METHODS if "density" in m.settings], ids=lambda method: method.key)
def test_any_density_equals_the_definition(method: Method, shape: tuple[int, ...], density: float, seed: int) -> None:
    tests = contract(method, {})()
    tensors, base = tests.example(shape, seed)
    options = typical(method, density)
    streamed = tests.merge(tensors, base, **options)
    assert np.isfinite(streamed).all()
    np.testing.assert_allclose(streamed, tests.define(tensors, base, **options), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("semantics", ["mergekit", "paper"])
@pytest.mark.parametrize(("method", "variant"), CASES)
def test_definitions_give_the_same_on_torch(method: Method, variant: dict[str, object], semantics: str) -> None:
    torch = pytest.importorskip("torch")
    tests = contract(method, variant)()
    tensors, base = tests.example((3, 4))
    ends = method.base == "endpoint" and base is not None
    stack = torch.tensor(np.stack([base, *tensors] if ends else tensors))
    options = {**typical(method), **variant, "semantics": semantics}
    merged = merge_by_definition(
        method.key, stack, base=None if ends or base is None else torch.tensor(base), **options
    )
    assert array_api_compat.is_torch_array(merged)
    np.testing.assert_allclose(merged.numpy(), tests.define(tensors, base, **options), rtol=1e-6, atol=1e-6)
