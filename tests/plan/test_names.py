"""Fine-tunes whose names differ in a prefix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.checkpoint import MemoryCheckpoint
from cuvee.errors import CheckpointError
from cuvee.plan.names import view_as, view_of

from .conftest import layered

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
Arrays = dict[str, np.ndarray]


def prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {prefix + name: array for name, array in arrays.items()}


def inner(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if "lm_head" not in name}


def sources_of(made, step):
    return [(str(made.models[given.model]), given.tensor) for given in step.inputs]


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ("", "bert.", "b: 9 tensors are matched with the prefix 'bert.' more, as in a"),
        ("bert.", "", "b: 9 tensors are matched without the prefix 'bert.', as in a"),
        (
            "language.x.",
            "x.language.",
            "b: 9 tensors are matched with the prefix 'x.language.' for 'language.x.', as in a",
        ),
    ],
)
def test_a_prefix_is_mapped_and_said(plan, ours, theirs, said):
    made = plan(LINEAR, {"a": prefixed(ours, layered()), "b": prefixed(theirs, layered())})
    assert made.notes == (said,)
    for step in made.steps:
        assert sources_of(made, step) == [("a", step.name), ("b", theirs + step.name.removeprefix(ours))]


def test_a_prefix_of_a_part_is_mapped_and_what_is_named_alike_stays(plan):
    ours = prefixed("bert.", inner(layered())) | {"cls.weight": np.zeros((3, 2), np.float32)}
    theirs = inner(layered()) | {"cls.weight": np.zeros((3, 2), np.float32)}
    made = plan(LINEAR, {"a": ours, "b": theirs})
    assert [len(step.inputs) for step in made.steps] == [2] * len(ours)
    assert made.notes == ("b: 8 tensors are matched without the prefix 'bert.', as in a",)


def test_slices_map_prefixes_too(plan):
    text = "merge_method: passthrough\nslices:\n"
    text += "".join(f"  - sources: [{{model: {model}, layer_range: [1, 3]}}]\n" for model in "ab")
    made = plan(text, {"a": layered(), "b": prefixed("x.", layered())})
    found = {step.name: sources_of(made, step) for step in made.steps}
    assert found["model.layers.3.mlp.weight"] == [("b", "x.model.layers.2.mlp.weight")]
    assert found["model.norm.weight"] == [("b", "x.model.norm.weight")]


def test_the_base_is_mapped_too(plan):
    text = "merge_method: task_arithmetic\nbase_model: base\nmodels: [{model: a}]\nparameters: {weight: 1}\n"
    made = plan(text, {"base": prefixed("x.", layered()), "a": layered()})
    assert {step.name: step.base.tensor for step in made.steps} == {name: name for name in prefixed("x.", layered())}


def test_a_tensor_that_fits_no_shape_is_not_mapped(plan):
    other = {name: np.zeros((*array.shape, 1), np.float32) for name, array in prefixed("x.", layered()).items()}
    with pytest.raises(CheckpointError, match="has no tensor"):
        plan(LINEAR, {"a": layered(), "b": other})


def test_vision_is_never_taken_for_language_nor_one_layer_for_another():
    ours = {f"vision_model.layers.{i}.{fc}.weight": np.zeros((2, 2), np.float32) for i in range(2) for fc in "abc"}
    text = {name.replace("vision_model", "text_model"): array for name, array in ours.items()}
    shifted = {name.replace("layers.", "layers.1"): array for name, array in ours.items()}
    for other in (text, shifted):
        assert not view_as(view_of(MemoryCheckpoint(ours)), MemoryCheckpoint(other)).renamings


names = st.lists(st.from_regex(r"[a-c]{1,2}|[0-2]", fullmatch=True), min_size=1, max_size=5).map(".".join)
models = st.dictionaries(names, st.sampled_from([(1,), (2, 2)]), max_size=8)


@given(models, models)
def test_every_tensor_of_any_model_is_called_once(ours, theirs):
    donor, other = (MemoryCheckpoint({n: np.zeros(s, np.float32) for n, s in m.items()}) for m in (ours, theirs))
    view = view_as(view_of(donor), other)
    assert sorted(view.called.values()) == sorted(theirs)
    for name, own in view.called.items():
        assert name == own or (name in ours and ours[name] == theirs[own])
