"""What the headers must agree on: names, shapes, types."""

import numpy as np
import pytest
from ml_dtypes import bfloat16, float8_e4m3fn

from cuvee.errors import CheckpointError

from .conftest import layered

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
MATRIX = "model.layers.1.mlp.weight"
WAYS = "`missing: base` goes by the base model, or else the first; `missing: skip` by the models that have it"


def without(*names):
    return {name: array for name, array in layered().items() if name not in names}


def problems(plan, models, text=LINEAR, configs=None):
    with pytest.raises(CheckpointError) as caught:
        plan(text, models, configs)
    return [str(problem) for problem in caught.value.problems or (caught.value,)]


def dtypes(plan, text, *kinds):
    models = {name: layered(dtype=kind) for name, kind in zip("abc", kinds, strict=False)}
    return {step.dtype for step in plan(text, models).steps}


def test_a_missing_tensor_is_named_with_the_closest_there_is(plan):
    other = without(MATRIX) | {"model.layers.1.mpl.weight": np.zeros((2, 2), np.float32)}
    assert problems(plan, {"a": layered(), "b": other}) == [
        f"b: has no tensor '{MATRIX}', which a has\n  hint: did you mean 'model.layers.1.mpl.weight'? Else {WAYS}"
    ]


def test_many_missing_tensors_are_counted(plan):
    found = problems(plan, {"a": layered(), "b": {"x": np.zeros(1, np.float32)}})
    assert found[-1] == "b: lacks 9 tensors of a in all"
    assert len(found) == 4


def test_a_surplus_tensor_is_not_dropped_in_silence(plan):
    more = layered() | {"model.layers.0.bias": np.zeros(2, np.float32)}
    assert problems(plan, {"a": layered(), "b": more}) == [
        f"b: has a tensor 'model.layers.0.bias', which a lacks: it would be lost\n  hint: {WAYS}"
    ]


def test_a_different_shape_is_told_with_tensor_and_models(plan):
    other = layered() | {MATRIX: np.zeros((2, 3), np.float32)}
    assert problems(plan, {"a": layered(), "b": other}) == [
        f"'{MATRIX}' has different shapes: [2, 2] in a, [2, 3] in b"
    ]


def test_all_inputs_are_complained_of_at_once_and_many_are_counted(plan):
    other = {name: np.zeros((*array.shape, 1), np.float32) for name, array in layered(20).items()}
    found = problems(plan, {"a": layered(20), "b": other})
    assert found[-1] == "and 40 tensors more have different shapes"


@pytest.mark.parametrize("scheme", [{"quant_method": "gptq", "bits": 4}, {"load_in_4bit": True}, "odd"])
def test_a_quantised_model_is_refused_by_the_scheme_in_its_config(plan, scheme):
    (found,) = problems(plan, {"a": layered(), "b": layered()}, configs={"b": {"quantization_config": scheme}})
    assert found.startswith("b: its weights are quantised (")
    assert "merge the unquantised model" in found


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (MATRIX, float8_e4m3fn),
        (MATRIX, np.int8),
        (MATRIX, np.uint8),
        ("model.layers.1.mlp.qweight", np.int32),
        ("model.layers.1.mlp.weight_packed", np.int32),
    ],
)
def test_quantised_codes_are_refused_by_the_tensor_that_holds_them(plan, name, dtype):
    coded = layered() | {name: np.zeros((2, 2), dtype)}
    (found,) = problems(plan, {"a": coded, "b": coded}, LINEAR.replace("model: b", "model: a"))
    assert f"by '{name}'): codes, not numbers" in found


def test_integer_buffers_are_copied_not_averaged(plan):
    buffer = {"model.position_ids": np.arange(4)}
    made = plan(LINEAR, {"a": layered() | buffer, "b": layered() | buffer})
    (step,) = [step for step in made.steps if step.name == "model.position_ids"]
    assert (step.action, step.dtype, len(step.inputs)) == ("copy", "I64", 2)
    assert {step.action for step in made.steps} == {"merge", "copy"}


def test_what_batch_norms_have_counted_and_seen_is_said_to_be_no_weight(plan):
    norm = {"norm.running_mean": np.zeros(2, np.float32), "norm.num_batches_tracked": np.asarray(3)}
    made = plan(LINEAR, {"a": layered() | norm, "b": layered() | norm})
    assert {step.name: step.action for step in made.steps if step.name in norm} == {
        "norm.running_mean": "average",
        "norm.num_batches_tracked": "copy",
    }
    assert made.notes == (
        "the means and variances that batch norms have seen are averaged by the models' weights (1 tensor)",
        "counters of training steps are taken from a (1 tensor)",
    )


def test_a_buffer_that_is_a_weight_elsewhere_is_refused(plan):
    models = {"a": layered() | {"x": np.zeros(1, np.int64)}, "b": layered() | {"x": np.zeros(1, np.float32)}}
    assert problems(plan, models) == ["'x' is of different types: I64 in a, F32 in b"]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((np.float16, np.float16), "F16"),
        ((bfloat16, bfloat16), "BF16"),
        ((bfloat16, np.float16), "F32"),
        ((bfloat16, np.float32), "F32"),
        ((np.float16, np.float64), "F64"),
    ],
)
def test_without_dtype_the_output_has_the_type_that_holds_all_inputs(plan, kinds, expected):
    assert dtypes(plan, LINEAR, *kinds) == {expected}


def test_the_base_counts_for_the_type_too(plan):
    text = "merge_method: ties\nbase_model: b\nmodels: [{model: a}]\nparameters: {weight: 1}\n"
    assert dtypes(plan, text, bfloat16, np.float32) == {"F32"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dtype: bfloat16", "BF16"),
        ("out_dtype: float16", "F16"),
        ("dtype: bfloat16\nout_dtype: float32", "F32"),
    ],
)
def test_dtype_names_the_outputs_type_and_out_dtype_wins(plan, line, expected):
    assert dtypes(plan, f"{LINEAR}{line}\n", np.float32, np.float32) == {expected}


def test_the_config_is_told_the_written_type(plan):
    models = {"a": layered(), "b": layered()}
    bare = plan(f"{LINEAR}dtype: bfloat16\n", models, {"a": {"num_hidden_layers": 3}})
    both = plan(f"{LINEAR}dtype: bfloat16\n", models, {"a": {"dtype": "float32", "torch_dtype": "float32"}})
    assert bare.config_changes == {"dtype": "bfloat16"}
    assert both.config_changes == {"dtype": "bfloat16", "torch_dtype": "bfloat16"}


def test_a_donor_without_a_config_is_warned_of(plan):
    made = plan(LINEAR, {"a": layered(), "b": layered()}, {"a": {}})
    assert made.warnings == ("a has no config.json; the output will have none",)
