"""Stacks cut from layers of one or several models."""

import numpy as np
import pytest

from cuvee.errors import CheckpointError, CuveeError, RecipeError

from .conftest import layered


def passthrough(*ranges: str) -> str:
    """A recipe that stacks ranges such as "a [0,2]"."""
    sources = "".join(f"  - sources: [{{model: {entry.replace(' ', ', layer_range: ')}}}]\n" for entry in ranges)
    return f"merge_method: passthrough\nslices:\n{sources}"


def linear(first: str, second: str) -> str:
    sources = ", ".join(f"{{model: {entry.replace(' ', ', layer_range: ')}}}" for entry in (first, second))
    return f"merge_method: linear\nslices: [{{sources: [{sources}]}}]\nparameters: {{weight: 1}}\n"


def made_of(plan):
    return {step.name: [(str(plan.models[g.model]), g.tensor) for g in step.inputs] for step in plan.steps}


def problem(plan, text, models=None, configs=None) -> CuveeError:
    with pytest.raises(CuveeError) as caught:
        plan(text, models, configs)
    return caught.value


def test_layers_are_renumbered_and_the_rest_comes_from_the_ends(plan):
    assert made_of(plan(passthrough("a [1,3]", "b [0,2]"))) == {
        "model.embed_tokens.weight": [("a", "model.embed_tokens.weight")],
        "model.layers.0.mlp.weight": [("a", "model.layers.1.mlp.weight")],
        "model.layers.0.norm.weight": [("a", "model.layers.1.norm.weight")],
        "model.layers.1.mlp.weight": [("a", "model.layers.2.mlp.weight")],
        "model.layers.1.norm.weight": [("a", "model.layers.2.norm.weight")],
        "model.layers.2.mlp.weight": [("b", "model.layers.0.mlp.weight")],
        "model.layers.2.norm.weight": [("b", "model.layers.0.norm.weight")],
        "model.layers.3.mlp.weight": [("b", "model.layers.1.mlp.weight")],
        "model.layers.3.norm.weight": [("b", "model.layers.1.norm.weight")],
        "model.norm.weight": [("b", "model.norm.weight")],
        "lm_head.weight": [("b", "lm_head.weight")],
    }


def test_sources_of_a_slice_may_take_different_layers(plan):
    made = plan(linear("a [0,2]", "b [1,3]"))
    assert made_of(made)["model.layers.1.mlp.weight"] == [
        ("a", "model.layers.1.mlp.weight"),
        ("b", "model.layers.2.mlp.weight"),
    ]


def test_a_base_is_taken_at_its_own_layers_if_listed_else_at_the_first_sources(plan):
    text = """
merge_method: task_arithmetic
base_model: base
slices:
  - sources: [{model: a, layer_range: [1, 2]}]
  - sources: [{model: a, layer_range: [1, 2]}, {model: base, layer_range: [0, 1]}]
parameters: {weight: 1}
"""
    assert [step.base.tensor for step in plan(text).steps if "mlp" in step.name] == [
        "model.layers.1.mlp.weight",
        "model.layers.0.mlp.weight",
    ]


def test_the_config_counts_the_layers_and_is_cut_to_them(plan):
    config = {
        "num_hidden_layers": 3,
        "layer_types": ["full", "sliding", "none"],
        "eos_token_id": [1, 2, 3],
        "rope": [1, 2],
    }
    made = plan(passthrough("a [2,3]", "a [0,2]", "a [0,1]"), {"a": layered()}, {"a": config})
    assert made.config_changes == {
        "dtype": "float32",
        "num_hidden_layers": 4,
        "layer_types": ["none", "full", "sliding", "full"],
    }


def test_each_layers_entry_of_the_config_comes_from_the_model_of_the_layer(plan):
    models = {"a": layered(2), "b": layered(4)}
    configs = {
        "a": {"n_layer": 2, "layer_types": ["a0", "a1"]},
        "b": {"n_layer": 4, "layer_types": ["b0", "b1", "b2", "b3"]},
    }
    made = plan(passthrough("a [0,1]", "b [3,4]"), models, configs)
    assert made.config_changes == {"dtype": "float32", "n_layer": 2, "layer_types": ["a0", "b3"]}


def test_a_config_that_cannot_be_cut_is_warned_of(plan):
    configs = {"a": {"depth": 3}, "b": {"num_hidden_layers": 3}}
    made = plan(passthrough("a [0,1]", "b [0,1]"), {"a": layered(), "b": layered()}, configs)
    assert made.warnings == ("config.json has no layer count of 3 to change; check it",)


def test_kinds_of_layers_that_only_one_config_knows_are_refused(plan):
    listed = {"a": {"num_hidden_layers": 3, "layer_types": ["x", "y", "z"]}, "b": {"num_hidden_layers": 3}}
    found = problem(plan, passthrough("a [0,1]", "b [0,1]"), {"a": layered(), "b": layered()}, listed)
    assert "layers of a differ in 'layer_types', of which the config of b says nothing" in str(found)


def test_models_of_different_depth_can_be_stacked(plan):
    configs = {"a": {"num_hidden_layers": 2}, "b": {"num_hidden_layers": 5}}
    made = plan(passthrough("a [0,2]", "b [3,5]"), {"a": layered(2), "b": layered(5)}, configs)
    assert made_of(made)["model.layers.3.mlp.weight"] == [("b", "model.layers.4.mlp.weight")]


def test_a_range_beyond_the_models_layers_is_refused(plan):
    found = problem(plan, passthrough("a [0,2]", "b [1,4]"))
    assert isinstance(found, RecipeError)
    assert str(found) == (
        "recipe: slice 1 takes layers [1, 4] of b, which has 3\n"
        "  hint: the second number is not included, and layers that predict ahead (MTP) are not counted"
    )


def test_more_layers_than_any_model_has_are_refused(plan):
    found = problem(plan, passthrough("a [0,20000]"), {"a": layered()})
    assert "expected at most 10000 layers in all, found 20000" in str(found)


def test_a_model_without_layers_cannot_be_sliced(plan):
    found = problem(plan, passthrough("a [0,1]"), {"a": {"x.weight": np.zeros(1, np.float32)}})
    assert "needs a model with one stack of layers, or one for language, found none" in str(found)


def test_a_model_with_two_stacks_cannot_be_sliced(plan):
    vision = {f"vision.blocks.{i}.weight": np.zeros(1, np.float32) for i in range(2)}
    found = problem(plan, passthrough("a [0,1]"), {"a": layered() | vision})
    assert isinstance(found, CheckpointError)
    assert "found model.layers and vision.blocks" in str(found)


def test_a_tensor_that_another_layer_lacks_is_told_with_the_closest(plan):
    other = {name: array for name, array in layered().items() if name != "model.layers.2.mlp.weight"}
    text = linear("a [0,1]", "b [2,3]") + "unknown_layers: move\n"
    found = problem(plan, text, {"a": layered(), "b": other})
    assert "b: has no tensor 'model.layers.2.mlp.weight', needed for 'model.layers.0.mlp.weight'" in str(found)
    assert "the closest is 'model.layers." in str(found)


@pytest.mark.parametrize("extra", ["model.layers.2.bias", "model.embed_positions.weight"])
def test_a_tensor_that_only_one_source_has_is_not_lost_in_silence(plan, extra):
    other = layered() | {extra: np.zeros(2, np.float32)}
    text = linear("a [2,3]", "b [2,3]") + "unknown_layers: move\n"
    found = problem(plan, text, {"a": layered(), "b": other})
    assert f"b: has a tensor '{extra}', which a lacks: it would be lost" in str(found)


def test_a_head_that_the_donor_ties_and_the_last_slice_has_is_written(plan):
    tied = {name: array for name, array in layered().items() if name != "lm_head.weight"}
    made = plan(passthrough("a [0,2]", "b [0,2]"), {"a": tied, "b": layered()})
    assert made_of(made)["lm_head.weight"] == [("b", "lm_head.weight")]
    assert made.config_changes["tie_word_embeddings"] is False
    (note,) = made.notes
    assert note.startswith("'lm_head.weight' is tied to the embedding in a and not in b")
