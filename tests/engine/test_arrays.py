"""`merge_tensors` takes what it can merge, and says what is wrong with the rest."""

import ml_dtypes
import numpy as np
import pytest

import cuvee
from cuvee.errors import CheckpointError, RecipeError

BASE = np.zeros(4, np.float32)
MODELS = [np.array([1, 2, 3, 4], np.float32), np.array([4, -3, 2, 1], np.float32)]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.complex64, ml_dtypes.float8_e4m3fn])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_no_weight_is_refused(dtype: type, which: int) -> None:
    tensors = [*MODELS, BASE]
    tensors[which] = np.ones(4).astype(dtype)
    with pytest.raises(CheckpointError, match=f"found one of {np.dtype(dtype)}, which is no weight"):
        cuvee.merge_tensors("task_arithmetic", tensors[:2], base=tensors[2], weight=1)


def test_semantics_that_are_unknown_are_refused() -> None:
    with pytest.raises(RecipeError, match="'semantics' is one of mergekit, paper, found 'papers'"):
        cuvee.merge_tensors("ties", MODELS, base=BASE, weight=1, semantics="papers")


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "c"]])
def test_every_tensor_needs_a_name_if_any_has(names: list[str]) -> None:
    with pytest.raises(RecipeError, match=f"a name for each of 2 tensors, found {len(names)}"):
        cuvee.merge_tensors("dare_ties", MODELS, base=BASE, weight=1, names=names)


@pytest.mark.parametrize("method", ["slerp", "arcee_fusion"])
def test_the_base_of_a_method_with_two_ends_needs_no_name(method: str) -> None:
    settings = {"t": 0.5} if method == "slerp" else {}
    named = cuvee.merge_tensors(method, MODELS[:1], base=MODELS[1], names=["a"], **settings)
    np.testing.assert_array_equal(named, cuvee.merge_tensors(method, MODELS[:1], base=MODELS[1], **settings))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int32])
def test_settings_may_be_numbers_of_numpy(kind: type) -> None:
    wanted = cuvee.merge_tensors("ties", MODELS, base=BASE, weight=[1.0, 2.0], density=1.0)
    for weight in ([kind(1), kind(2)], (kind(1), kind(2)), np.array([1, 2], kind)):
        merged = cuvee.merge_tensors("ties", MODELS, base=BASE, weight=weight, density=kind(1))
        np.testing.assert_array_equal(merged, wanted)
    state = {"w": BASE}, [{"w": model} for model in MODELS]
    merged = cuvee.merge_state_dicts("ties", state[1], base=state[0], weight=[kind(1), kind(2)], density=kind(1))
    np.testing.assert_array_equal(merged["w"], wanted)
