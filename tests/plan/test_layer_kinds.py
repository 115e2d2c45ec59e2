"""What a config says of layers when slices move them: rewritten, or refused with what would be right."""

import numpy as np
import pytest

from cuvee.errors import CheckpointError, CuveeError, RecipeError

from .conftest import layered
from .test_slices import linear, made_of, passthrough, problem

GEMMA = {"model_type": "gemma2", "num_hidden_layers": 3, "sliding_window": 4}
JAMBA = {
    "model_type": "jamba", "num_hidden_layers": 3, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1,
}  # fmt: skip
DEEPSEEK = {"model_type": "deepseek_v3", "num_hidden_layers": 3, "first_k_dense_replace": 1}
AHEAD = DEEPSEEK | {"num_hidden_layers": 2, "num_nextn_predict_layers": 1}


def with_kinds(dense=(0,), layers=3):
    """A model in which dense layers have another tensor than those with experts."""
    model = layered(layers)
    for layer in range(layers):
        name = "dense" if layer in dense else "experts"
        model[f"model.layers.{layer}.{name}.weight"] = np.zeros((2, 2), np.float32)
    return model


def changes(plan, text, config, model=None):
    return plan(text, {"a": model or layered()}, {"a": config}).config_changes


def test_a_list_that_the_loader_derives_is_written_where_layers_come_to_other_places(plan):
    assert changes(plan, passthrough("a [1,3]"), GEMMA)["layer_types"] == ["full_attention", "sliding_attention"]
    assert "layer_types" not in changes(plan, passthrough("a [0,2]", "a [0,3]"), GEMMA)


def test_a_period_is_kept_or_shifted_and_else_refused(plan):
    made = changes(plan, passthrough("a [1,3]"), JAMBA)
    assert (made["attn_layer_period"], made["attn_layer_offset"]) == (2, 0)
    text = passthrough("a [0,2]", "a [1,3]", "a [0,3]")
    found = problem(plan, text, {"a": layered()}, {"a": JAMBA})
    assert isinstance(found, RecipeError)
    assert "'attention' would have to be true of layers [1, 2, 5] only" in str(found)
    assert "attn_layer_offset: 1, attn_layer_period: 2 does not give for 7 layers" in str(found)


def test_the_number_of_dense_layers_follows(plan):
    text = passthrough("a [0,1]", "a [0,3]")
    assert changes(plan, text, DEEPSEEK, with_kinds())["first_k_dense_replace"] == 2
    assert changes(plan, passthrough("a [1,3]"), DEEPSEEK, with_kinds())["first_k_dense_replace"] == 0
    found = problem(plan, passthrough("a [0,3]", "a [0,2]"), {"a": with_kinds()}, {"a": DEEPSEEK})
    assert "'experts' would have to be true of layers [1, 2, 4] only" in str(found)


def test_layers_of_two_kinds_are_not_merged(plan):
    found = problem(plan, linear("a [0,2]", "b [1,3]"), {"a": layered(), "b": layered()}, {"a": GEMMA, "b": GEMMA})
    assert "layer 0 of a is merged with layer 1 of b, but 'layer_types' is sliding_attention there" in str(found)


def test_layers_that_differ_by_an_unknown_rule_are_moved_only_if_the_recipe_says_so(plan):
    models, configs = {"a": with_kinds()}, {"a": {"model_type": "new", "num_hidden_layers": 3}}
    found = problem(plan, passthrough("a [1,3]"), models, configs)
    assert isinstance(found, CheckpointError)
    assert "layers 0 and 1 differ ('dense.weight' of shape [2, 2] is in 0 only)" in str(found)
    assert "no rule of the family 'new' says why" in str(found)
    (warning,) = plan(passthrough("a [1,3]") + "unknown_layers: move\n", models, configs).warnings
    assert "they are moved all the same" in warning
    (warning,) = plan(passthrough("a [0,2]"), models, configs).warnings
    assert "its layers keep their places, check the output" in warning


def test_a_key_of_an_unknown_family_that_speaks_of_layers_stops_the_move(plan):
    config = {"model_type": "new", "num_hidden_layers": 3, "global_every": 2, "layer_norm_eps": 1e-5}
    found = problem(plan, passthrough("a [1,3]"), {"a": layered()}, {"a": config})
    assert "its config.json says global_every: 2 of layers, and the family 'new' is not known" in str(found)


def test_a_program_that_does_not_know_the_list_is_warned_of(plan):
    config = {"model_type": "gemma3_text", "num_hidden_layers": 3, "sliding_window_pattern": 3}
    (warning,) = plan(passthrough("a [2,3]", "a [0,2]"), {"a": layered()}, {"a": config}).warnings
    assert "a program that reads only 'sliding_window_pattern: 3' would take other ones" in warning


def test_the_part_of_a_nested_config_follows(plan):
    config = {"model_type": "gemma3", "text_config": GEMMA, "vision_config": {"num_hidden_layers": 3}}
    made = changes(plan, passthrough("a [1,3]"), config)
    assert made["text_config"] == GEMMA | {
        "num_hidden_layers": 2,
        "layer_types": ["full_attention", "sliding_attention"],
    }
    assert "vision_config" not in made


def ahead():
    """Two layers, and behind them one that predicts a token further ahead."""
    return with_kinds(dense=(0,), layers=3)


def test_what_predicts_ahead_is_no_layer_and_moves_behind_the_last(plan):
    made = plan(passthrough("a [0,2]", "a [1,2]"), {"a": ahead()}, {"a": AHEAD})
    assert made.config_changes["num_hidden_layers"] == 3
    assert made_of(made)["model.layers.3.mlp.weight"] == [("a", "model.layers.2.mlp.weight")]
    found = problem(plan, passthrough("a [0,3]"), {"a": ahead()}, {"a": AHEAD})
    assert "slice 0 takes layers [0, 3] of a, which has 2" in str(found)


def test_what_predicts_ahead_can_be_left_out_or_taken_from_one_model(plan):
    models, configs = {"a": ahead(), "b": ahead()}, {"a": AHEAD, "b": AHEAD}
    text = passthrough("a [0,2]", "b [1,2]")
    made = plan(text + "mtp: drop\n", models, configs)
    assert made.config_changes["num_nextn_predict_layers"] == 0
    assert not any(name.startswith("model.layers.3.") for name in made_of(made))
    for mtp, model in (("base", "a"), ("a", "a"), ("b", "b"), ("merge", "b")):
        made = plan(text + f"mtp: {mtp}\n", models, configs)
        assert made_of(made)["model.layers.3.mlp.weight"] == [(model, "model.layers.2.mlp.weight")]


def test_what_predicts_ahead_is_not_lost(plan):
    without = {name: array for name, array in ahead().items() if ".2." not in name}
    text = passthrough("a [0,2]", "b [1,2]")
    found = problem(plan, text, {"a": ahead(), "b": without}, {"a": AHEAD, "b": AHEAD})
    assert isinstance(found, CuveeError)
    assert "which b lacks: they would be lost" in str(found)
    assert "`mtp: a` to take them from there, or `mtp: drop`" in str(found)


@pytest.mark.parametrize("written", ["nobody", "c"])
def test_mtp_names_a_model_of_the_recipe(plan, written):
    found = problem(plan, passthrough("a [0,2]") + f"mtp: {written}\n", {"a": ahead()}, {"a": AHEAD})
    assert f"'mtp': expected 'merge' or 'drop' or a model of the recipe, found '{written}'" in str(found)


def test_whole_models_may_leave_out_what_predicts_ahead_or_take_it_from_one(plan):
    models, configs = {"a": ahead(), "b": ahead()}, {"a": AHEAD, "b": AHEAD}
    text = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
    made = plan(text + "mtp: drop\n", models, configs)
    assert made.config_changes["num_nextn_predict_layers"] == 0
    assert not any(name.startswith("model.layers.2.") for name in made_of(made))
    assert "'mtp: drop': what predicts tokens further ahead is left out (3 tensors)" in made.notes
    assert made_of(plan(text + "mtp: b\n", models, configs))["model.layers.2.mlp.weight"] == [
        ("b", "model.layers.2.mlp.weight")
    ]
    assert len(made_of(plan(text, models, configs))["model.layers.2.mlp.weight"]) == 2


SEEING = {"model_type": "gemma3", "text_config": GEMMA, "vision_config": {"num_hidden_layers": 2}}


def seeing():
    """Three layers that speak and two that see."""
    speaking = {f"language_model.{name}": array for name, array in with_kinds(dense=()).items()}
    rests = ("mlp.weight", "norm.weight", "attention.weight")
    names = [f"vision_tower.layers.{layer}.{rest}" for layer in range(2) for rest in rests]
    names += ["vision_tower.patch_embed.weight", "vision_tower.post_norm.weight"]
    return speaking | {name: np.zeros((2, 2), np.float32) for name in names}


def test_slices_cut_the_language_part_and_the_rest_comes_from_the_first_slice(plan):
    models, configs = {"a": seeing(), "b": seeing()}, {"a": SEEING, "b": SEEING}
    made = plan(passthrough("a [1,3]", "b [0,3]"), models, configs)
    assert made.config_changes["text_config"]["layer_types"] == [
        "full_attention",
        "sliding_attention",
        "sliding_attention",
        "full_attention",
        "sliding_attention",
    ]
    assert made_of(made)["language_model.model.layers.4.mlp.weight"] == [
        ("b", "language_model.model.layers.2.mlp.weight")
    ]
    assert {model for name, inputs in made_of(made).items() if "vision" in name for model, _ in inputs} == {"a"}


def test_a_module_may_be_cut_and_another_merged_whole(plan):
    models, configs = {"a": seeing(), "b": seeing()}, {"a": SEEING, "b": SEEING}
    text = """
merge_method: passthrough
modules:
  text_decoder:
    slices:
    - sources: [{model: a, layer_range: [0, 3]}]
    - sources: [{model: a, layer_range: [1, 3]}]
  vision_tower:
    models: [{model: b}]
"""
    made = made_of(plan(text, models, configs))
    assert made["language_model.model.layers.3.mlp.weight"] == [("a", "language_model.model.layers.1.mlp.weight")]
    assert {model for name, inputs in made.items() if "vision" in name for model, _ in inputs} == {"b"}


def test_only_the_language_part_is_cut(plan):
    text = """
merge_method: passthrough
modules:
  language: {models: [{model: a}]}
  vision: {slices: [{sources: [{model: a, layer_range: [0, 1]}]}]}
"""
    found = problem(plan, text, {"a": seeing()}, {"a": SEEING})
    assert "'slices' cut the layers of the language part only, not of 'vision'" in str(found)


def test_other_layers_where_pictures_enter_are_warned_of(plan):
    config = SEEING | {"vision_config": {"num_hidden_layers": 2, "deepstack_visual_indexes": [0, 1]}}
    (warning,) = plan(passthrough("a [0,1]", "a [0,3]"), {"a": seeing()}, {"a": config}).warnings
    assert "enters behind the first 2 layers" in warning
    assert "layer 1 is another one now" in warning
    assert plan(passthrough("a [0,3]", "a [0,3]"), {"a": seeing()}, {"a": config}).warnings == ()
