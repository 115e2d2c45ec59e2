"""Batch norms: what they have counted and seen is no weight, so no method changes it as one."""

import numpy as np
import pytest

import cuvee
from cuvee.errors import CheckpointError

NORM = "encoder.layers.0.conv.batch_norm"
MEAN, VARIANCE, COUNTER = f"{NORM}.running_mean", f"{NORM}.running_var", f"{NORM}.num_batches_tracked"
SEEN = {
    "base": ([0.0, 0.0], [1.0, 1.0], 100),
    "a": ([1.0, 2.0], [4.0, 0.5], 1000),
    "b": ([3.0, -2.0], [0.25, 2.0], 1001),
}


def norm(name, dtype=np.float32):
    mean, variance, count = SEEN[name]
    return {
        f"{NORM}.weight": np.asarray(mean, dtype) + 1,
        MEAN: np.asarray(mean, dtype),
        VARIANCE: np.asarray(variance, dtype),
        COUNTER: np.asarray(count, np.int64),
    }


A, B, BASE = norm("a"), norm("b"), norm("base")


def test_a_linear_merge_averages_the_statistics_by_its_weights():
    merged = cuvee.merge_state_dicts("linear", [A, B], weight=[1, 3])
    assert merged[MEAN].tolist() == [2.5, -1.0]
    assert merged[VARIANCE].tolist() == [1.1875, 1.625]


@pytest.mark.parametrize("counter", ["num_batches_tracked", "num_updates", "counter", "global_step"])
def test_counters_are_those_of_the_base_or_else_of_the_first_model(counter):
    name = f"quantiser.{counter}"
    first, second, base = ({name: np.asarray(n, np.int64)} for n in (3, 4, 5))
    assert cuvee.merge_state_dicts("linear", [first, second], weight=1)[name] == 3
    assert cuvee.merge_state_dicts("task_arithmetic", [first, second], base=base, weight=1)[name] == 5


def test_integers_that_are_no_counters_must_still_be_equal():
    models = [{"position_ids": np.arange(4)}, {"position_ids": np.arange(4)[::-1]}]
    with pytest.raises(CheckpointError, match="holds I64, integers, which cannot be merged, and the inputs differ"):
        cuvee.merge_state_dicts("linear", models, weight=1)


def test_a_name_of_a_counter_excuses_no_weights():
    merged = cuvee.merge_state_dicts("linear", [{"steps": np.zeros(3)}, {"steps": np.ones(3)}], weight=1)
    assert merged["steps"].tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("task_arithmetic", {"weight": 1.0}),
        ("task_arithmetic", {"weight": [2.0, 2.0], "lambda_": 3.0}),
        ("task_arithmetic", {"weight": [-1.0, 2.0]}),
        ("ties", {"weight": 1.0, "density": 0.5}),
        ("dare_linear", {"weight": 1.0, "density": 0.1}),
        ("breadcrumbs", {"weight": 1.0}),
        ("iso_c", {}),
    ],
)
def test_no_method_on_task_vectors_makes_a_variance_that_no_model_is_near(method, settings):
    merged = cuvee.merge_state_dicts(method, [A, B], base=BASE, **settings)
    assert merged[VARIANCE] == pytest.approx((A[VARIANCE] + B[VARIANCE]) / 2)
    assert merged[MEAN] == pytest.approx((A[MEAN] + B[MEAN]) / 2)


def test_weights_that_leave_something_leave_it_to_the_base():
    merged = cuvee.merge_state_dicts("task_arithmetic", [A, B], base=BASE, weight=[0.5, 0.25], lambda_=0.5)
    assert merged[VARIANCE] == pytest.approx(0.25 * A[VARIANCE] + 0.125 * B[VARIANCE] + 0.625 * BASE[VARIANCE])


def test_an_arc_between_two_models_is_a_line_for_statistics():
    merged = cuvee.merge_state_dicts("slerp", [B], base=A, t=0.25)
    assert merged[VARIANCE] == pytest.approx(0.75 * A[VARIANCE] + 0.25 * B[VARIANCE])


def test_statistics_of_another_type_are_written_in_the_first_models():
    merged = cuvee.merge_state_dicts("linear", [norm("a", np.float16), B], weight=1)
    assert merged[VARIANCE].dtype == np.float16
    assert merged[VARIANCE].tolist() == [2.125, 1.25]


def test_statistics_that_are_not_finite_stop_the_merge():
    with pytest.raises(CheckpointError, match="running_var' holds inf at element 1"):
        cuvee.merge_state_dicts("linear", [A, B | {VARIANCE: np.asarray([1, np.inf], np.float32)}], weight=1)
