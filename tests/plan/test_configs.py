"""The plan says in which settings the models' configs differ, what becomes of them, and refuses if it is asked to."""

import json

import pytest

import cuvee
from cuvee.cli.plan import _plain
from cuvee.errors import CuveeError
from cuvee.plan.mergekit import as_mergekit

from .conftest import layered

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}, {model: c}]\nparameters: {weight: 1}\n"
STACK = """merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources: [{model: b, layer_range: [1, 3]}]
"""
CONFIG = {"model_type": "llama", "num_hidden_layers": 3, "torch_dtype": "float32", "rope_theta": 10000.0}


def models(names="abc"):
    return {name: layered() for name in names}


def configs(**others):
    return {name: CONFIG | others.get(name, {}) for name in "abc"}


def test_each_difference_is_said_once_with_both_values_and_what_becomes_of_it(plan):
    made = plan(LINEAR, models(), configs(b={"rope_theta": 1e6}, c={"rope_theta": 1e6, "hidden_act": "gelu"}))
    assert made.warnings == (
        "config.json: rope_theta is 10000 in a, and 1000000 in b, c",
        "config.json: hidden_act is silu in a, and gelu in c",
        "the output keeps the settings of a, with which the others were not trained: check what comes out, or merge "
        "models that agree (`unlike_configs: refuse` makes this an error)",
    )
    assert "rope_theta" not in made.config_changes


def test_equal_configs_say_nothing(plan):
    made = plan(LINEAR, models(), configs(b={"_name_or_path": "x", "attention_dropout": 0.1, "rms_norm_eps": 1e-06}))
    assert made.warnings == ()
    assert made.notes == ()


def test_the_base_is_whose_config_counts(plan):
    text = LINEAR.replace("linear", "task_arithmetic") + "base_model: c\n"
    first, *_ = plan(text, models(), configs(c={"rope_theta": 5.0})).warnings
    assert first == "config.json: rope_theta is 5 in c, and 10000 in a, b"


def test_a_length_alone_is_a_note(plan):
    made = plan(LINEAR, models(), configs(b={"max_position_embeddings": 4096}))
    assert made.warnings == ()
    assert made.notes == (
        "config.json: max_position_embeddings is 2048 in a, and 4096 in b; the output keeps the first",
    )


def test_what_is_not_known_of_a_family_is_a_note(plan):
    own = {name: {"model_type": "made up", "num_hidden_layers": 3, "dtype": "float32"} for name in "abc"}
    made = plan(LINEAR, models(), own | {"b": own["b"] | {"scale": 2}})
    assert made.notes == ("config.json: scale is not stated in a, and 2 in b; the output keeps the first",)


def test_models_that_compute_otherwise_can_be_refused(plan):
    unlike = configs(b={"rope_theta": 1e6, "hidden_act": "gelu", "max_position_embeddings": 4096})
    with pytest.raises(CuveeError) as caught:
        plan(LINEAR + "unlike_configs: refuse\n", models(), unlike)
    first, second, *_ = caught.value.problems
    assert str(first) == (
        "recipe: config.json: hidden_act is silu in a, and gelu in b\n"
        "  hint: leave the model out, or say `unlike_configs: keep` to go by the config.json of a"
    )
    assert "rope_theta is 10000 in a, and 1000000 in b" in str(second)
    assert plan(LINEAR + "unlike_configs: refuse\n", models(), configs()).warnings == ()


def test_slices_compare_every_model_whose_layers_they_take(plan):
    first, *_ = plan(STACK, models("ab"), configs(b={"rope_theta": 5.0})).warnings
    assert first == "config.json: rope_theta is 10000 in a, and 5 in b"


def test_kinds_of_layers_that_slices_move_are_no_difference(plan):
    kinds = {"model_type": "qwen3", "layer_types": ["full_attention"] * 3, "sliding_window": 8}
    others = kinds | {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]}
    both = configs(a=kinds, b=others)
    assert not any("layer_types of layer" in warning for warning in plan(STACK, models("ab"), both).warnings)
    (first, _) = plan(LINEAR.replace(", {model: c}", ""), models("ab"), both).warnings
    assert first == "config.json: layer_types of layer 1 and 1 more is full_attention in a, and sliding_attention in b"


def test_many_differences_are_counted(plan):
    own = {name: {"model_type": "made up", "num_hidden_layers": 3, "dtype": "float32"} for name in "abc"}
    a, b = ({f"scale_{i}": value for i in range(20)} for value in (1, 2))
    *_, counted, _ = plan(LINEAR, models(), own | {"a": own["a"] | a, "b": own["b"] | b, "c": own["c"] | a}).warnings
    assert counted == "config.json: 8 more settings differ"


def test_keeping_says_nothing_new_and_refusing_does():
    plain = cuvee.recipe_from_text(LINEAR)
    assert cuvee.recipe_from_text(LINEAR + "unlike_configs: keep\n").digest == plain.digest
    refusing = cuvee.recipe_from_text(LINEAR + "unlike_configs: refuse\n")
    assert refusing.digest != plain.digest
    assert "unlike_configs" not in (as_mergekit(refusing) or "")


def test_programs_read_the_differences_too(plan):
    made = plan(LINEAR, models(), configs(b={"rope_theta": 1e6}))
    assert (
        "config.json: rope_theta is 10000 in a, and 1000000 in b" in json.loads(json.dumps(_plain(made, 1)))["warnings"]
    )
