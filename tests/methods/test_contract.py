"""Properties of every method in the registry. Each method says by its kind and settings which ones it must have."""

import array_api_compat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cuvee
from cuvee.engine.arrays import merge_by_definition
from cuvee.errors import CuveeError
from cuvee.kernels import BLOCK
from cuvee.method import Method, registry
from plain_methods import PLAIN

METHODS = list(PLAIN.values())
DELTA_METHODS = [m for m in METHODS if m.base in ("delta", "optional")]
SYMMETRIC = [m for m in METHODS if m.base != "endpoint" and m.models[1] != 1]
SHAPES = [(1,), (7,), (1, 5), (5, 1), (3, 4), (2, 3, 4), (BLOCK + 3,), (257, 131)]


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


def lacking(methods: list[Method], reasons: dict[str, str]) -> list[Method]:
    """Return the methods without those that have a reason not to be here."""
    return [method for method in methods if method.key not in reasons]


def count(method: Method) -> int:
    least, most = method.models
    if method.base == "endpoint":
        return 1
    return min(most or 3, max(3, least))


def example(method: Method, shape: tuple[int, ...], seed: int = 0) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Random tensors with ties and untouched entries: a third of each task vector is zero, half is on a coarse grid."""
    generator = np.random.default_rng(seed)
    base = generator.standard_normal(shape).astype(np.float32)
    tensors = []
    for _ in range(count(method)):
        change = generator.standard_normal(shape) * 0.1
        change = np.where(generator.random(shape) < 0.5, np.round(change * 8) / 8, change)
        tensors.append(base + np.where(generator.random(shape) < 1 / 3, 0, change).astype(np.float32))
    return tensors, base if method.base in ("delta", "optional", "endpoint") else None


def typical(method: Method, density: float = 0.4) -> dict[str, object]:
    return chosen(method, {**TYPICAL, "density": density})


def chosen(method: Method, values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if name in method.settings}


def merge(method: Method, tensors: list[np.ndarray], base: np.ndarray | None, **options: object) -> np.ndarray:
    return cuvee.merge_tensors(method.key, tensors, base=base, **options)


def define(method: Method, tensors: list[np.ndarray], base: np.ndarray | None, **options: object) -> np.ndarray:
    ends = method.base == "endpoint" and base is not None
    stack = np.stack([base, *tensors] if ends else tensors)
    return np.asarray(merge_by_definition(method.key, stack, base=None if ends else base, **options))


def by_key(method: Method) -> str:
    return method.key


@pytest.mark.parametrize("semantics", ["mergekit", "paper"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("method", "variant"), CASES)
def test_the_engine_equals_the_definition(
    method: Method, variant: dict[str, object], shape: tuple[int, ...], semantics: str
) -> None:
    tensors, base = example(method, shape)
    options = {**typical(method), **variant, "semantics": semantics}
    streamed = merge(method, tensors, base, chunk=BLOCK, **options)
    np.testing.assert_allclose(streamed, define(method, tensors, base, **options), rtol=1e-6, atol=1e-6)


@settings(max_examples=25)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@pytest.mark.parametrize("method", [m for m in METHODS if "density" in m.settings], ids=by_key)
def test_any_density_equals_the_definition(method: Method, shape: tuple[int, ...], density: float, seed: int) -> None:
    tensors, base = example(method, shape, seed)
    options = typical(method, density)
    streamed = merge(method, tensors, base, **options)
    assert np.isfinite(streamed).all()
    np.testing.assert_allclose(streamed, define(method, tensors, base, **options), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("semantics", ["mergekit", "paper"])
@pytest.mark.parametrize(("method", "variant"), CASES)
def test_definitions_give_the_same_on_torch(method: Method, variant: dict[str, object], semantics: str) -> None:
    torch = pytest.importorskip("torch")
    tensors, base = example(method, (3, 4))
    ends = method.base == "endpoint" and base is not None
    stack = torch.tensor(np.stack([base, *tensors] if ends else tensors))
    options = {**typical(method), **variant, "semantics": semantics}
    merged = merge_by_definition(
        method.key, stack, base=None if ends or base is None else torch.tensor(base), **options
    )
    assert array_api_compat.is_torch_array(merged)
    np.testing.assert_allclose(merged.numpy(), define(method, tensors, base, **options), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(9 * BLOCK + 17,), (3, 70, 499)], ids=str)
@pytest.mark.parametrize(("method", "variant"), CASES)
def test_chunks_change_no_bit(method: Method, variant: dict[str, object], shape: tuple[int, ...]) -> None:
    tensors, base = example(method, shape)
    for semantics in ("mergekit", "paper"):
        options = {**typical(method), **variant, "semantics": semantics}
        whole = merge(method, tensors, base, chunk=16 * BLOCK, **options).tobytes()
        for chunk in (BLOCK, 5 * BLOCK):
            assert merge(method, tensors, base, chunk=chunk, **options).tobytes() == whole


@pytest.mark.parametrize("method", lacking(METHODS, SUMS), ids=by_key)
def test_equal_models_give_that_model(method: Method) -> None:
    tensors, base = example(method, (4, 5))
    same = [tensors[0]] * len(tensors)
    if method.base == "endpoint":
        base = tensors[0]
    np.testing.assert_allclose(merge(method, same, base, **chosen(method, WHOLE)), tensors[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", [m for m in METHODS if m.base != "member"], ids=by_key)
def test_models_equal_to_the_base_give_the_base_bit_for_bit(method: Method) -> None:
    _, base = example(method, (4, 5))
    assert base is not None
    base[0, 0] = -0.0
    merged = merge(method, [base.copy() for _ in range(count(method))], base, **typical(method))
    if method.base == "endpoint":
        np.testing.assert_allclose(merged, base, rtol=1e-6)
    else:
        assert merged.tobytes() == base.tobytes()


@pytest.mark.parametrize("method", lacking([m for m in DELTA_METHODS if m.models[0] == 1], NO_IDENTITY), ids=by_key)
def test_one_expert_at_full_weight_is_that_expert(method: Method) -> None:
    tensors, base = example(method, (4, 5))
    np.testing.assert_allclose(
        merge(method, tensors[:1], base, **chosen(method, WHOLE)), tensors[0], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("method", lacking(SYMMETRIC, ORDERED), ids=by_key)
def test_the_order_of_models_changes_no_draw_and_no_tie(method: Method) -> None:
    tensors, base = example(method, (37, 11))

    def merged(order: list[int]) -> np.ndarray:
        weights = [(0.5, 0.3, 0.9)[i] for i in order]
        options = chosen(method, {**TYPICAL, "weight": weights})
        return merge(method, [tensors[i] for i in order], base, names=["abc"[i] for i in order], **options)

    order = list(range(len(tensors)))
    straight, turned = merged(order), merged(order[-1:] + order[:-1])
    np.testing.assert_allclose(turned, straight, atol=1e-6 * np.abs(straight).max())


@pytest.mark.parametrize("method", lacking(DELTA_METHODS, ABSOLUTE), ids=by_key)
def test_larger_task_vectors_give_a_larger_change(method: Method) -> None:
    tensors, base = example(method, (6, 7))
    assert base is not None
    zero = np.zeros_like(base)
    deltas = [tensor - base for tensor in tensors]
    once = merge(method, deltas, zero, **typical(method))
    tenfold = merge(method, [np.float32(8) * delta for delta in deltas], zero, **typical(method))
    np.testing.assert_allclose(tenfold, 8 * once, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", DELTA_METHODS, ids=by_key)
def test_lambda_scales_the_change(method: Method) -> None:
    tensors, base = example(method, (6, 7))
    once = merge(method, tensors, base, **typical(method))
    half = merge(method, tensors, base, **typical(method), lambda_=0.5)
    np.testing.assert_allclose(half - base, 0.5 * (once - base), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64], ids=["float16", "float64"])
@pytest.mark.parametrize("method", METHODS, ids=by_key)
def test_other_number_types_agree_with_float32(method: Method, dtype: type) -> None:
    tensors, base = example(method, (9, 8))
    tensors = [tensor.astype(np.float16) for tensor in tensors]
    base = base.astype(np.float16) if base is not None else None
    reference = merge(
        method,
        [t.astype(np.float32) for t in tensors],
        None if base is None else base.astype(np.float32),
        **typical(method),
    )
    merged = merge(
        method, [t.astype(dtype) for t in tensors], None if base is None else base.astype(dtype), **typical(method)
    )
    assert merged.dtype == dtype
    np.testing.assert_allclose(merged, reference, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("method", METHODS, ids=by_key)
def test_a_number_that_is_not_finite_stops_the_merge(method: Method, value: float) -> None:
    tensors, base = example(method, (3, 4))
    tensors[0][1, 2] = value
    with pytest.raises(CuveeError, match="element 6"):
        merge(method, tensors, base, **typical(method))


@pytest.mark.parametrize("method", METHODS, ids=by_key)
def test_unknown_settings_are_named(method: Method) -> None:
    tensors, base = example(method, (3,))
    with pytest.raises(CuveeError, match="takes no parameter 'densty'"):
        merge(method, tensors, base, **typical(method), densty=0.5)


@pytest.mark.parametrize("method", METHODS, ids=by_key)
def test_every_method_says_what_it_does(method: Method) -> None:
    assert method.summary.endswith(".")
    assert method.formula
    assert method.key == method.rule.__name__
