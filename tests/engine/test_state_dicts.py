"""Whole models in memory: the same bytes as a merge on disk, in the caller's own kind of array."""

from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.catalogue import registry
from cuvee.checkpoint import open_checkpoint
from cuvee.errors import CheckpointError, RecipeError
from plain_methods import PLAIN

from .conftest import EXPERTS
from .test_run import SETTINGS, merge

StateDict = dict[str, np.ndarray]


def state(folder: Path) -> StateDict:
    opened = open_checkpoint(folder)
    return {name: opened.read(name) for name in opened.tensors}


def small(*values: float) -> StateDict:
    return {"a": np.array(values, np.float32), "layers.0.b": np.array([[1.0, values[0]]], np.float32)}


@pytest.mark.parametrize("method", sorted(PLAIN))
def test_memory_gives_the_bytes_that_disk_gives(family: Path, tmp_path: Path, method: str) -> None:
    on_disk = state(merge(family, tmp_path / "out", method, "seed: 5\n").folder)
    known = registry()[method]
    experts = EXPERTS[:1] if known.base == "endpoint" else EXPERTS[: known.models[1]]
    merged = cuvee.merge_state_dicts(
        method,
        [state(family / name) for name in experts],
        base=None if known.base == "member" else state(family / "base"),
        seed=5,
        names=[f"{family}/{name}" for name in experts],
        **{name: SETTINGS[name] for name in known.settings if name in SETTINGS},
    )
    assert set(merged) == set(on_disk)
    for name, array in merged.items():
        assert array.dtype == on_disk[name].dtype
        assert array.tobytes() == on_disk[name].tobytes(), name


def test_settings_are_one_value_or_one_a_model() -> None:
    models = [small(1, 2), small(3, 4)]
    merged = cuvee.merge_state_dicts("linear", models, weight=np.array([1, 3]), normalize=False)
    np.testing.assert_array_equal(merged["a"], [10, 14])
    merged = cuvee.merge_state_dicts("task_arithmetic", models, base=small(0, 0), weight=1, lambda_=0.5)
    np.testing.assert_array_equal(merged["a"], [2, 3])


def test_the_names_of_tensors_and_models_decide_the_draws() -> None:
    values = np.ones(2000, np.float32)
    zeros = {"a": np.zeros_like(values), "b": np.zeros_like(values)}
    models = [{"a": values, "b": values}]

    def drawn(**options: object) -> StateDict:
        return cuvee.merge_state_dicts("dare_linear", models, base=zeros, weight=1, density=0.5, **options)

    first = drawn()
    assert (first["a"] != first["b"]).any()
    assert first["a"].tobytes() == drawn(names=["0"], threads=2)["a"].tobytes()
    assert (first["a"] != drawn(names=["other"])["a"]).any()
    assert (first["a"] != drawn(seed=1)["a"]).any()


def test_the_first_model_decides_order_and_type() -> None:
    first = {"b": np.ones(2, np.float16), "a": np.ones(3, np.float32)}
    second = {"a": np.zeros(3, np.float32), "b": np.zeros(2, np.float32)}
    merged = cuvee.merge_state_dicts("linear", [first, second], weight=1)
    assert list(merged) == ["b", "a"]
    assert merged["b"].dtype == np.float16
    assert (first["b"] == 1).all()


def test_integers_are_copied_if_equal() -> None:
    models = [small(1, 2) | {"ids": np.array([0, 1])}, small(3, 4) | {"ids": np.array([0, 1])}]
    np.testing.assert_array_equal(cuvee.merge_state_dicts("linear", models, weight=1)["ids"], [0, 1])
    models[1]["ids"] = np.array([0, 2])
    with pytest.raises(CheckpointError, match="'ids' holds I64"):
        cuvee.merge_state_dicts("linear", models, weight=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c": np.zeros(1, np.float32)}, "has a tensor 'c', which model 0 lacks"),
        ({"a": np.zeros(3, np.float32)}, r"'a' has different shapes: \[2\] in model 0, \[3\] in model 1"),
        ({"a": np.zeros(2, np.complex128)}, "'a' is complex128, which cannot be merged"),
        ({"a": [1.0, 2.0]}, "'a': expected a NumPy array or a torch tensor, found list"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        cuvee.merge_state_dicts("linear", [small(1, 2), small(3, 4) | change], weight=1)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("tees", {}, "did you mean 'ties'"),
        ("ties", {"base": small(0, 0), "weight": 1, "densty": 0.5}, "did you mean 'density'"),
        ("ties", {"weight": 1}, "needs a 'base_model'"),
        ("linear", {"weight": 1, "base": small(0, 0)}, "'linear' takes no base"),
        ("linear", {"weight": [1, 2, 3]}, "expected one value a model"),
        ("linear", {"weight": 1, "names": ["a"]}, "a name for each of 2 models, found 1"),
    ],
)
def test_settings_are_checked_as_in_a_recipe(method: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        cuvee.merge_state_dicts(method, [small(1, 2), small(3, 4)], **options)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_torch_tensors_give_torch_tensors_with_the_same_bits(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    base, *experts = (torch.randn(5, 7, generator=generator).to(getattr(torch, dtype)) for _ in range(3))
    experts[1] = torch.nn.Parameter(experts[1])
    merged = cuvee.merge_state_dicts("ties", [{"w": e} for e in experts], base={"w": base}, weight=1)["w"]
    assert merged.dtype == base.dtype
    again = cuvee.merge_tensors("ties", experts, base=base, weight=1)
    wide = [t.detach().to(torch.float64).numpy().astype(_numpy(dtype)) for t in (base, *experts)]
    plain = cuvee.merge_tensors("ties", wide[1:], base=wide[0], weight=1)
    assert torch.equal(merged, again)
    np.testing.assert_array_equal(merged.to(torch.float64).numpy(), plain.astype(np.float64))


def test_torch_tensors_of_any_layout_are_taken() -> None:
    torch = pytest.importorskip("torch")
    turned = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T
    scalar = torch.tensor(2.0, dtype=torch.bfloat16)
    model = {"turned": turned, "scalar": scalar, "empty": torch.zeros(0, 3), "ids": torch.arange(3)}
    merged = cuvee.merge_state_dicts("linear", [model, model], weight=1)
    for name, tensor in model.items():
        assert torch.equal(merged[name], tensor), name
        assert merged[name].dtype == tensor.dtype


def _numpy(dtype: str) -> np.dtype:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
