"""A stepwise rule gives the same however a tensor is cut, and goes where the method's definition goes."""

from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cuvee.catalogue import registry
from cuvee.engine.arrays import merge_by_definition
from cuvee.kernels import load
from cuvee.ops.stepwise import Steps, Sums

BRAIN = np.dtype(ml_dtypes.bfloat16)
STEPWISE = [key for key, method in registry().items() if method.stepwise is not None]
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "karcher": [{"max_iter": 2}],
    "model_stock": [{"filter_wise": True}, {"clamp": False}],
    "multislerp": [{"weight": [0.3, 0.9]}, {"weight": 0.5, "normalize_weights": False}],
    "nearswap": [{"t": 0.03}],
    "nuslerp": [{"weight": [1, 2], "nuslerp_flatten": False, "nuslerp_row_wise": rows} for rows in (False, True)]
    + [{"weight": [1, 2]}],
}
CASES = [(key, settings) for key in STEPWISE for settings in SETTINGS[key]]
SHAPE = (2, 3, 4)


def _with_base(key: str) -> bool:
    return registry()[key].base in ("delta", "optional")


@pytest.mark.parametrize(("key", "settings"), CASES)
@given(data=st.data())
def test_it_gives_the_same_however_a_tensor_is_cut(key: str, settings: dict[str, Any], data: st.DataObject) -> None:
    # sums of few numbers of few bits are exact in any order
    numbers = data.draw(arrays(np.int8, (3, 24), elements=st.integers(-9, 9))).astype(np.float32) / 8
    models = numbers[: registry()[key].models[1] or 2]
    base = numbers[-1] if _with_base(key) else None
    cuts = sorted({0, 24, *(4 * row for row in data.draw(st.sets(st.integers(1, 5))))})
    whole = [Steps(models, base, BRAIN, load(), SHAPE)]
    parts = [
        Steps(models[:, a:b], base[a:b] if base is not None else None, BRAIN, load(), SHAPE, a)
        for a, b in pairwise(cuts)
    ]
    merged = [_merged(key, settings, pieces) for pieces in (whole, parts)]
    np.testing.assert_array_equal(merged[0], merged[1])
    np.testing.assert_array_equal(merged[0], merged[0].astype(BRAIN).astype(np.float32))


def _merged(key: str, settings: dict[str, Any], pieces: list[Steps]) -> np.ndarray:
    method = registry()[key]
    assert method.stepwise is not None
    given = {name: setting.default for name, setting in method.settings.items() if name in method.own_settings}
    given |= settings
    if "weight" in given:
        given["weight"] = np.broadcast_to(np.asarray(given["weight"], np.float64), len(pieces[0].models))
    rule = method.stepwise.rule
    sums = Sums(lambda steps: rule(steps, **given))
    sums.find(lambda: pieces)
    assert len(sums.known) <= method.stepwise.sums(given)
    return np.concatenate([sums.merged(piece) for piece in pieces])


def test_numbers_are_rounded_however_they_lie_in_memory() -> None:
    numbers = np.float32([[1, 2], [3, 4]]).T / 3
    steps = Steps(numbers, None, BRAIN, load(), numbers.shape)
    np.testing.assert_array_equal(steps.rounded(numbers), numbers.astype(BRAIN).astype(np.float32))


@pytest.mark.parametrize(("key", "settings"), CASES)
def test_it_goes_where_the_definition_goes(key: str, settings: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    base = random.normal(0, 0.1, (16, 24))
    count = registry()[key].models[1] or 2
    models = base + random.normal(0, 0.03, (count, 16, 24)) + random.normal(0, 0.03, (16, 24))
    stack, origin = models.astype(BRAIN), base.astype(BRAIN) if _with_base(key) else None
    exact = merge_by_definition(
        key, stack.astype(np.float64), base=None if origin is None else origin.astype(np.float64), **settings
    )
    merged = merge_by_definition(key, stack, base=origin, **settings)
    assert merged.dtype == BRAIN
    error = np.abs(merged.astype(np.float64) - exact)
    assert error.max() < 0.02 * np.abs(exact).max()
    assert (error > 0).any()
