"""Matrix methods: what holds in any bases, and what a direct singular value decomposition in float64 gives."""

import json
from collections.abc import Callable
from math import ceil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import cuvee
from cuvee.catalogue import registry
from cuvee.engine.arrays import merge_by_definition
from cuvee.errors import CuveeError
from cuvee.method import Method
from plain_methods import PLAIN

FOLDER = Path(__file__).parent.parent / "golden"
GOLDEN = json.loads((FOLDER / "mergekit.json").read_text())
DESCENT = json.loads((FOLDER / "wudi_gd.json").read_text())

METHODS = [method for method in PLAIN.values() if method.kind == "matrix"]
EQUIVARIANT = [method for method in METHODS if method.equivariant]


def by_key(method: Method) -> str:
    return method.key


def random(out: int, size: int, rank: int | None = None, models: int = 3, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if rank is None:
        return 0.05 * generator.standard_normal((models, out, size))
    left, right = generator.standard_normal((models, out, rank)), generator.standard_normal((models, rank, size))
    return 0.05 * left @ right / rank**0.5


STACKS = {
    "random": random(24, 24),
    "tall": random(50, 14),
    "wide": random(14, 50),
    "one row": random(1, 20),
    "one column": random(20, 1),
    "one number": random(1, 1),
    "low rank": random(60, 44, rank=3),
    "half rank": random(30, 24, rank=12),
    "zero": np.zeros((3, 8, 6)),
    "one of them zero": random(12, 10) * np.array([1, 0, 1]).reshape(3, 1, 1),
    "two equal ones": random(16, 12, rank=5)[[0, 0, 1]],
}


def svd(matrix: np.ndarray, floor: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The decomposition without the directions that are zero."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    kept = values > max(1e-5 * values[0], floor, 1e-300)
    return left[:, kept], values[kept], right[kept]


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    left, _, right = svd(matrix)
    return left @ right


def direct_iso_c(deltas: np.ndarray) -> np.ndarray:
    left, values, right = svd(deltas.sum(axis=0))
    return values.mean() * (left @ right) if values.size else np.zeros_like(deltas[0])


def direct_tsv_m(deltas: np.ndarray) -> np.ndarray:
    kept = max(1, min(deltas[0].shape) // len(deltas))
    parts = [[factor[:, :kept] for factor in (left, values[None], right.T)] for left, values, right in map(svd, deltas)]
    left, values, right = (np.concatenate(factors, axis=1) for factors in zip(*parts, strict=True))
    if values.size == 0:
        return np.zeros_like(deltas[0])
    return (orthogonal(left) * values) @ orthogonal(right).T


def direct_iso_cts(deltas: np.ndarray) -> np.ndarray:
    rank, models = min(deltas[0].shape), len(deltas)
    own = (rank - int(0.8 * rank)) // models
    left, values, right = (factor[..., : rank - own * models] for factor in svd(deltas.sum(axis=0)))
    right = svd(deltas.sum(axis=0))[2][: rank - own * models]
    lefts, rights, found = [left], [right.T], [values]
    for delta in deltas:
        beside = svd(delta - left @ left.T @ delta, floor=1e-5 * np.linalg.norm(delta, 2))
        lefts.append(beside[0][:, :own])
        found.append(beside[1][:own])
        rights.append(beside[2][:own].T)
    if np.concatenate(found).size == 0:
        return np.zeros_like(deltas[0])
    turned = orthogonal(np.concatenate(lefts, axis=1)) @ orthogonal(np.concatenate(rights, axis=1)).T
    return np.concatenate(found).mean() * turned


def direct_cart(deltas: np.ndarray) -> np.ndarray:
    kept, mean = ceil(0.08 * min(deltas[0].shape)), deltas.mean(axis=0)
    total = mean.copy()
    for delta in deltas:
        left, values, right = svd(delta - mean)
        total += (left[:, :kept] * values[:kept]) @ right[:kept]
    return total


def direct_fit(deltas: np.ndarray, *, normalized: bool) -> np.ndarray:
    energies = (deltas**2).sum(axis=(1, 2))
    factors = [1 / e if e > 0 and normalized else 1.0 for e in energies]
    scaled = [factor**0.5 * delta for factor, delta in zip(factors, deltas, strict=True)]
    # the least-squares problem itself: (τ − τᵢ)·τᵢᵀ for all models side by side
    inputs = np.concatenate([delta.T for delta in scaled], axis=1)
    outputs = np.concatenate([delta @ own.T for delta, own in zip(deltas, scaled, strict=True)], axis=1)
    return outputs @ np.linalg.pinv(inputs, rcond=1e-5)


DIRECT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "iso_c": direct_iso_c,
    "iso_cts": direct_iso_cts,
    "tsv_m": direct_tsv_m,
    "cart": direct_cart,
    "wudi": lambda deltas: direct_fit(deltas, normalized=True),
    "actmat": lambda deltas: direct_fit(deltas, normalized=False),
}


@pytest.mark.parametrize("deltas", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("key", DIRECT)
def test_a_direct_decomposition_in_float64_gives_the_same(key: str, deltas: np.ndarray) -> None:
    wanted = DIRECT[key](deltas)
    scale = 1e-5 * max(np.abs(wanted).max(), 1e-30)
    np.testing.assert_allclose(registry()[key].rule(deltas), wanted, atol=scale)
    merged = cuvee.merge_tensors(key, list(deltas.astype(np.float32)), base=np.zeros(deltas[0].shape, np.float32))
    np.testing.assert_allclose(merged, wanted, atol=scale)


@pytest.mark.parametrize("method", EQUIVARIANT, ids=by_key)
@pytest.mark.parametrize("stack", ["random", "tall", "low rank"])
def test_other_bases_of_inputs_and_outputs_change_nothing(method: Method, stack: str) -> None:
    deltas = STACKS[stack]
    generator = np.random.default_rng(5)
    out, _ = np.linalg.qr(generator.standard_normal((deltas.shape[1],) * 2))
    inp, _ = np.linalg.qr(generator.standard_normal((deltas.shape[2],) * 2))
    turned = method.rule(out @ deltas @ inp)
    np.testing.assert_allclose(turned, out @ method.rule(deltas) @ inp, atol=1e-9)


@pytest.mark.parametrize("method", EQUIVARIANT, ids=by_key)
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_the_engine_works_in_the_small_space_without_a_difference(method: Method, stack: np.ndarray) -> None:
    merged = cuvee.merge_tensors(method.key, list(stack), base=np.zeros_like(stack[0]))
    wanted = merge_by_definition(method.key, stack)
    np.testing.assert_allclose(merged, wanted, atol=1e-6 * max(np.abs(wanted).max(), 1e-30))


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
def test_iso_c_on_baked_adapters_stays_in_their_column_spaces(dtype: type) -> None:
    changes = random(256, 192, rank=8, models=3, seed=1)
    base = np.random.default_rng(2).standard_normal((256, 192)).astype(dtype)
    experts = [(base.astype(np.float64) + change).astype(dtype) for change in changes]
    merged = cuvee.merge_tensors("iso_c", experts, base=base).astype(np.float64) - base.astype(np.float64)
    assert np.linalg.norm(merged) > 0.1 * np.linalg.norm(changes.sum(axis=0))
    columns, _ = np.linalg.qr(np.concatenate(list(changes), axis=1))
    outside = merged - columns @ (columns.T @ merged)
    assert (outside**2).sum() < 0.01 * (merged**2).sum()


@pytest.mark.parametrize("method", METHODS, ids=by_key)
def test_other_tensors_are_combined_as_the_fallback_says(method: Method) -> None:
    base = np.arange(5, dtype=np.float32)
    models = [base + 1, base + 2, base + 6]

    def merged(fallback: str) -> np.ndarray:
        return cuvee.merge_tensors(method.key, models, base=base, fallback=fallback)

    np.testing.assert_allclose(merged("mean"), base + 3)
    np.testing.assert_allclose(merged("sum"), base + 9)
    np.testing.assert_array_equal(merged("base"), base)


@pytest.mark.parametrize("method", METHODS, ids=by_key)
def test_each_matrix_of_a_stack_is_merged_by_itself(method: Method) -> None:
    stacks = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)
    base = np.zeros((3, 6, 5), np.float32)
    merged = cuvee.merge_tensors(method.key, list(stacks), base=base)
    for i in range(3):
        np.testing.assert_array_equal(merged[i], cuvee.merge_tensors(method.key, list(stacks[:, i]), base=base[i]))


@pytest.mark.parametrize("key", ["wudi", "actmat"])
def test_doubling_all_weights_of_a_least_squares_fit_changes_nothing(key: str) -> None:
    deltas = STACKS["tall"]
    fit = registry()[key].rule
    np.testing.assert_allclose(fit(deltas, weight=[2.0, 4.0, 1.0]), fit(deltas, weight=[1.0, 2.0, 0.5]), atol=1e-12)


def test_task_vectors_with_inputs_of_their_own_add_up_in_wudi() -> None:
    deltas = np.zeros((2, 6, 8))
    deltas[0, :, :4], deltas[1, :, 4:] = random(6, 4, models=1)[0], random(6, 4, models=1, seed=1)[0]
    np.testing.assert_allclose(registry()["wudi"].rule(deltas), deltas.sum(axis=0), atol=1e-9)


def test_the_descent_of_wudi_arrives_at_the_closed_form_when_it_may_go_far_enough() -> None:
    deltas = 1e-3 * STACKS["random"][:, :12, :8]
    far = registry()["wudi_gd"].rule(deltas, steps=4000, learning_rate=1e-6)
    np.testing.assert_allclose(far, registry()["wudi"].rule(deltas), atol=2e-6)
    summed = deltas.sum(axis=0)
    np.testing.assert_array_equal(registry()["wudi_gd"].rule(deltas, steps=0), summed)


@pytest.mark.parametrize("scale", [1.0, 0.01, 0.001])
def test_the_descent_of_wudi_is_that_of_its_authors(scale: float) -> None:
    deltas = scale * np.array([GOLDEN[f"tau{i}"] for i in (1, 2, 3)]).reshape(3, 3, 4)
    wanted = np.array(DESCENT[f"scale {scale:g}"]).reshape(3, 4)
    np.testing.assert_allclose(registry()["wudi_gd"].rule(deltas), wanted, rtol=1e-7)


def test_weights_without_a_mean_are_refused() -> None:
    base = np.zeros(4, np.float32)
    with pytest.raises(CuveeError, match="no mean"):
        cuvee.merge_tensors("iso_c", [base, base], base=base, weight=[1, -1])
