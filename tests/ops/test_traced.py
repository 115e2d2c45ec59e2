"""A stepwise rule in compiled passes gives the bits of the same rule on arrays."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cuvee.catalogue import registry
from cuvee.kernels import LANES, Block, Kernels, fused, plain
from cuvee.ops.stepwise import Sums, steps_of
from cuvee.ops.traced import Numbers, Passes, Untraceable

BRAIN, HALF = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
CASES: list[tuple[str, dict[str, Any]]] = [
    ("karcher", {"weight": [1.0, 2.0, 0.5], "max_iter": 4, "tol": 1e-5}),
    ("model_stock", {"filter_wise": False, "clamp": True}),
    ("model_stock", {"filter_wise": True, "clamp": False}),
    ("multislerp", {"weight": [0.3, 0.9, 0.1], "normalize_weights": True, "eps": 1e-8}),
    ("multislerp", {"weight": [0.5, -0.5, 0.0], "normalize_weights": False, "eps": 0.9}),
    ("nearswap", {"t": 0.03}),
    ("nuslerp", {"weight": [1, 2], "nuslerp_flatten": True, "nuslerp_row_wise": False}),
    ("nuslerp", {"weight": [1, 2], "nuslerp_flatten": False, "nuslerp_row_wise": False}),
    ("nuslerp", {"weight": [1, 2], "nuslerp_flatten": False, "nuslerp_row_wise": True}),
]
SHAPE = (3, 20, 130)
"""Rows of more than two times LANES numbers, and matrices that begin within a block."""


def _blocks(rows: np.ndarray, subtracts: bool, kernels: Kernels) -> Iterator[Block]:
    width = 7 * SHAPE[-1]
    for start in range(0, rows.shape[1], width):
        part = np.ascontiguousarray(rows[:, start : start + width])
        yield Block(part, start, rows.dtype, subtracts, kernels)


def _rows(key: str, dtype: np.dtype, *, apart: float = 0.3) -> tuple[np.ndarray, bool]:
    method = registry()[key]
    subtracts = method.base in ("delta", "optional")
    random = np.random.default_rng(3)
    shared = random.normal(0, 0.1, np.prod(SHAPE))
    rows = shared + random.normal(0, apart, (min(method.models[1] or 3, 3) + subtracts, shared.size))
    rows[0, : 2 * SHAPE[-1]] = rows[-1, : 2 * SHAPE[-1]]  # rows that did not change, and equal entries
    return rows.astype(dtype), subtracts


def _by_definition(key: str, settings: Mapping[str, Any], rows: np.ndarray, subtracts: bool) -> np.ndarray:
    sums = Sums(partial(registry()[key].stepwise.rule, **settings))  # type: ignore[union-attr]
    sums.find(lambda: (steps_of(block, SHAPE) for block in _blocks(rows, subtracts, plain)))
    merged = [sums.merged(steps_of(block, SHAPE)) for block in _blocks(rows, subtracts, plain)]
    return np.concatenate(merged).astype(rows.dtype)


def _in_passes(
    key: str, settings: Mapping[str, Any], rows: np.ndarray, subtracts: bool, kernels: Kernels, room: int
) -> np.ndarray:
    passes = Passes(partial(registry()[key].stepwise.rule, **settings), SHAPE, rows.shape[1], room)  # type: ignore[union-attr]
    passes.find(_Again(rows, subtracts, kernels))
    merged = np.zeros(rows.shape[1], rows.dtype)
    for block in _blocks(rows, subtracts, kernels):
        passes.write(block, merged[block.start : block.start + block.size])
    return merged


class _Again:
    """Blocks to go over as often as one likes."""

    def __init__(self, *of: Any) -> None:
        self.of = of

    def __iter__(self) -> Iterator[Block]:
        return _blocks(*self.of)


@pytest.mark.parametrize("dtype", [BRAIN, HALF], ids=str)
@pytest.mark.parametrize(("key", "settings"), CASES)
def test_passes_give_the_bits_of_the_definition(key: str, settings: dict[str, Any], dtype: np.dtype) -> None:
    rows, subtracts = _rows(key, dtype)
    expected = _by_definition(key, settings, rows, subtracts)
    assert len(np.unique(expected.astype(np.float32))) > 100
    kernels = fused if dtype == BRAIN else plain  # compiled for each type, which takes seconds
    for room in (0, 1 << 30):
        merged = _in_passes(key, settings, rows, subtracts, kernels, room)
        np.testing.assert_array_equal(merged.view(np.uint16), expected.view(np.uint16))


def test_models_close_to_each_other_give_the_bits_of_the_definition() -> None:
    rows, subtracts = _rows("karcher", BRAIN, apart=0.01)
    settings = {"weight": [1.0, 1.0, 1.0], "max_iter": 10, "tol": 1e-5}
    expected = _by_definition("karcher", settings, rows, subtracts)
    merged = _in_passes("karcher", settings, rows, subtracts, fused, 1 << 30)
    np.testing.assert_array_equal(merged.view(np.uint16), expected.view(np.uint16))


def test_sums_are_added_up_in_lanes() -> None:
    terms = np.random.default_rng(0).normal(0, 1, (2, 3 * LANES + 5))
    by_hand = []
    for row in terms:
        lanes = [0.0] * LANES
        for place, term in enumerate(row):
            lanes[place % LANES] += term
        total = 0.0
        for lane in lanes:
            total += lane
        by_hand.append(total)
    np.testing.assert_array_equal(plain.lane_sums(terms), by_hand)


def test_what_no_program_can_do_is_refused() -> None:
    rows, subtracts = _rows("multislerp", BRAIN)

    def sorts(steps: Any) -> Any:
        return np.sort(steps.models)
        yield

    def computes_in_double(steps: Any) -> Any:
        return steps.models[0] * np.array([1.5])
        yield

    for rule in (sorts, computes_in_double):
        with pytest.raises(Untraceable):
            Passes(rule, SHAPE, rows.shape[1], 0).find(_Again(rows, subtracts, plain))


def test_a_condition_that_holds_everywhere_is_decided_once() -> None:
    def rule(steps: Any) -> Any:
        chosen = np.where(np.array([True]), steps.models[0], steps.models[1])
        assert isinstance(chosen, Numbers)
        return chosen
        yield

    rows, _ = _rows("karcher", BRAIN)
    passes = Passes(rule, SHAPE, rows.shape[1], 0)
    passes.find(_Again(rows, False, plain))
    merged = np.empty(7 * SHAPE[-1], BRAIN)
    passes.write(next(_blocks(rows, False, plain)), merged)
    np.testing.assert_array_equal(merged, rows[0, : merged.size])
