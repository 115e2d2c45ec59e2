"""Which models take part in a step, for every way in which a method uses its base model."""

import numpy as np
import pytest

from cuvee.errors import CheckpointError, RecipeError


def recipe(method, listed, base="base", parameters="weight: 1"):
    models = "".join(f"  - model: {name}\n" for name in listed)
    line = f"base_model: {base}\n" if base else ""
    return f"merge_method: {method}\n{line}models:\n{models}parameters: {{{parameters}}}\n"


def names(plan):
    step = plan.steps[0]
    inputs = [str(plan.models[given.model]) for given in step.inputs]
    return inputs, str(plan.models[step.base.model]) if step.base else None


@pytest.mark.parametrize("method", ["ties", "task_arithmetic", "dare_linear", "geometric_median"])
@pytest.mark.parametrize("listed", [["a", "b"], ["base", "a", "b"], ["a", "base", "b"]])
def test_a_base_that_is_subtracted_is_no_member_listed_or_not(plan, method, listed):
    assert names(plan(recipe(method, listed))) == (["a", "b"], "base")


@pytest.mark.parametrize("listed", [["a"], ["base", "a"], ["a", "base"]])
def test_a_base_that_is_one_end_comes_first_listed_or_not(plan, listed):
    assert names(plan(recipe("slerp", listed, parameters="t: 0.5"))) == (["base", "a"], None)


def test_both_ends_may_be_layers_of_one_model(plan):
    made = plan("""
merge_method: slerp
base_model: base
slices:
  - sources: [{model: base, layer_range: [0, 2]}, {model: base, layer_range: [1, 3]}]
parameters: {t: 0.5}
""")
    step = next(step for step in made.steps if step.name == "model.layers.0.mlp.weight")
    assert [given.tensor for given in step.inputs] == ["model.layers.0.mlp.weight", "model.layers.1.mlp.weight"]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [(["a", "b"], ["a", "b", "base"]), (["a", "base", "b"], ["a", "base", "b"])],
)
def test_a_base_that_is_a_member_is_added_at_the_end_if_not_listed(plan, listed, expected):
    assert names(plan(recipe("linear", listed))) == (expected, None)


def test_a_base_that_is_added_needs_its_weight_too(plan):
    text = "merge_method: linear\nbase_model: base\nmodels: [{model: a, parameters: {weight: 1}}]\n"
    with pytest.raises(RecipeError, match="parameter 'weight' has no value for base in 9 tensors"):
        plan(text)


def test_the_base_of_a_passthrough_lends_its_config_only(plan):
    made = plan(recipe("passthrough", ["a"], parameters="scale: 1"))
    assert names(made) == (["a"], None)
    assert str(made.models[made.donor]) == "base"


def test_without_a_base_the_first_model_is_the_donor(plan):
    made = plan(recipe("linear", ["b", "a"], base=None))
    assert str(made.models[made.donor]) == "b"


def test_a_median_without_a_base_is_one_of_the_models(plan):
    assert names(plan(recipe("geometric_median", ["a", "b"], base=None))) == (["a", "b"], None)


@pytest.mark.parametrize(
    ("method", "listed", "parameters", "message"),
    [
        ("slerp", ["a", "b"], "t: 1", r"merges 2 models; the recipe names 3\n  hint: the base model counts as one"),
        ("slerp", ["base"], "t: 1", r"'slerp' merges 2 models; the recipe names 1"),
        ("passthrough", ["a", "b"], "", r"'passthrough' merges 1 model; the recipe names 2"),
        (
            "ties",
            ["base"],
            "weight: 1",
            r"'ties' merges at least 1 model besides the base model; the recipe names 0",
        ),
    ],
)
def test_too_few_or_too_many_models_are_refused(plan, method, listed, parameters, message):
    with pytest.raises(RecipeError, match=message):
        plan(recipe(method, listed, parameters=parameters))


def test_a_slice_with_too_many_models_is_named(plan):
    with pytest.raises(RecipeError, match=r"slice 1 names 2"):
        plan("""
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 1]}]
  - sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [0, 1]}]
""")


def test_random_draws_depend_on_name_reference_and_occurrence(plan):
    made = plan("""
merge_method: dare_linear
base_model: base
models:
  - {model: a, name: mathematics}
  - model: b
  - model: b
parameters: {weight: 1}
""")
    assert [(given.identity, given.occurrence) for given in made.steps[0].inputs] == [
        ("mathematics", 0),
        ("b", 0),
        ("b", 1),
    ]


def test_slices_may_have_a_base_of_their_own(plan):
    made = plan("""
merge_method: task_arithmetic
slices:
  - {sources: [{model: a, layer_range: [0, 1]}], base_model: base}
  - {sources: [{model: a, layer_range: [1, 2]}], base_model: b}
parameters: {weight: 1}
""")
    bases = {step.name: str(made.models[step.base.model]) for step in made.steps if step.base}
    assert bases["model.layers.0.mlp.weight"] == "base"
    assert bases["model.layers.1.mlp.weight"] == "b"
    assert (bases["model.embed_tokens.weight"], bases["lm_head.weight"]) == ("base", "b")


def test_a_model_that_nobody_gave_is_told(plan):
    with pytest.raises(CheckpointError, match="found no b"):
        plan(recipe("linear", ["a", "b"], base=None), {"a": {"x": np.zeros(1, np.float32)}})
