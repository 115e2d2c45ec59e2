"""Fisher merging, against numbers by hand, another implementation's numbers, and its own definition."""

import json
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.engine.arrays import merge_by_definition
from cuvee.errors import RecipeError

DRAW = np.random.default_rng(0)
MODELS = DRAW.standard_normal((3, 5, 7)).astype(np.float32)
IMPORTANCE = DRAW.random((3, 5, 7))

FISHERS = [
    np.array([[1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1]]),
    np.array([[2, 1, 1, 0], [0, 1, 2, 3], [1, 2, 1, 2]]),
    np.array([[0, 0, 1, 0], [1, 1, 1, 1], [2, 2, 2, 2]]),
]


def test_an_entry_is_nearest_to_the_model_that_depends_on_it() -> None:
    models = [np.array([1.0, 1.0, 1.0], np.float32), np.array([3.0, 3.0, 3.0], np.float32)]
    importance = [np.array([1.0, 3.0, 0.0]), np.array([1.0, 1.0, 0.0])]
    found = cuvee.merge_tensors("fisher", models, importance=importance)
    np.testing.assert_allclose(found, [2.0, 1.5, 2.0])
    weighed = cuvee.merge_tensors("fisher", models, importance=importance, weight=[3.0, 1.0])
    np.testing.assert_allclose(weighed, [1.5, 1.2, 1.5])


def test_changes_from_a_base_are_weighed_alike() -> None:
    base = DRAW.standard_normal((5, 7)).astype(np.float32)
    plain = cuvee.merge_tensors("fisher", list(MODELS), importance=list(IMPORTANCE))
    found = cuvee.merge_tensors("fisher", list(MODELS), base=base, importance=list(IMPORTANCE))
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_the_engine_does_what_the_definition_says() -> None:
    found = cuvee.merge_tensors("fisher", list(MODELS), importance=list(IMPORTANCE), chunk=8)
    wanted = merge_by_definition("fisher", MODELS, importance=list(IMPORTANCE))
    np.testing.assert_array_equal(found, wanted)


def test_equal_models_and_one_model_stay_as_they_are() -> None:
    equal = [MODELS[0]] * 3
    np.testing.assert_allclose(cuvee.merge_tensors("fisher", equal, importance=list(IMPORTANCE)), MODELS[0], rtol=1e-6)
    alone = cuvee.merge_tensors("fisher", [MODELS[0]], importance=[np.zeros((5, 7))])
    np.testing.assert_array_equal(alone, MODELS[0])


def test_it_needs_an_array_for_each_model() -> None:
    with pytest.raises(RecipeError, match="needs 'importance'"):
        cuvee.merge_tensors("fisher", list(MODELS))


def test_it_is_the_formula_of_the_paper() -> None:
    golden = json.loads((Path(__file__).parents[1] / "golden" / "paper.json").read_text())
    mergekit = json.loads((Path(__file__).parents[1] / "golden" / "mergekit.json").read_text())
    deltas = [np.array(mergekit[f"tau{number}"], np.float32).reshape(3, 4) for number in (1, 2, 3)]
    found = cuvee.merge_tensors("fisher", deltas, importance=[own.astype(float) for own in FISHERS])
    np.testing.assert_allclose(found.reshape(-1), golden["Fisher on deltas"], atol=1e-4)
