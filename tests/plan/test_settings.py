"""Which value of a parameter each tensor gets."""

import pytest

from cuvee.errors import RecipeError

EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"


def by_tensor(plan, setting):
    return {step.name: step.settings[setting] for step in plan.steps}


def matrices(plan, setting):
    return [step.settings[setting] for step in plan.steps if "mlp" in step.name]


def test_a_models_own_value_comes_first_then_the_recipes_then_the_default(plan):
    made = plan("""
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {weight: 1, density: 0.1}}
  - {model: b, parameters: {density: {filter: mlp, value: 0.2}}}
  - model: c
parameters: {weight: 3, density: {filter: norm, value: 0.3}}
""")
    assert by_tensor(made, "weight")[HEAD] == (1.0, 3.0, 3.0)
    assert by_tensor(made, "density")["model.layers.0.mlp.weight"] == (0.1, 0.2, 1.0)
    assert by_tensor(made, "density")["model.layers.0.norm.weight"] == (0.1, 0.3, 0.3)
    assert by_tensor(made, "density")[HEAD] == (0.1, 1.0, 1.0)
    assert by_tensor(made, "normalize")[HEAD] is True


def test_a_slices_value_comes_between_the_models_and_the_recipes(plan):
    made = plan("""
merge_method: linear
slices:
  - sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [0, 1], parameters: {weight: 5}}]
    parameters: {weight: 2}
  - sources: [{model: a, layer_range: [1, 2]}, {model: b, layer_range: [1, 2], parameters: {weight: 6}}]
parameters: {weight: 3}
""")
    assert by_tensor(made, "weight") == {
        EMBEDDING: (2.0, 5.0),
        "model.layers.0.mlp.weight": (2.0, 5.0),
        "model.layers.0.norm.weight": (2.0, 5.0),
        "model.layers.1.mlp.weight": (3.0, 6.0),
        "model.layers.1.norm.weight": (3.0, 6.0),
        NORM: (3.0, 6.0),
        HEAD: (3.0, 6.0),
    }


SLERP = "merge_method: slerp\nbase_model: base\nmodels: [{model: base}, {model: a}]\nparameters: {t: T}\n"


def test_a_gradient_runs_over_the_layers_and_the_rest_is_at_its_first_stop(plan):
    made = plan(SLERP.replace("T", "[0.1, 0.2, 0.9]"))
    assert matrices(made, "t") == [0.1, 0.2, 0.9]
    assert [by_tensor(made, "t")[name] for name in (EMBEDDING, NORM, HEAD)] == [0.1, 0.1, 0.1]


def test_in_the_papers_semantics_norm_and_head_are_at_the_last_stop(plan):
    made = plan(SLERP.replace("T", "[0.1, 0.9]") + "semantics: paper\n")
    assert matrices(made, "t") == [0.1, 0.5, 0.9]
    assert [by_tensor(made, "t")[name] for name in (EMBEDDING, NORM, HEAD)] == [0.1, 0.9, 0.9]


def test_a_gradient_runs_anew_in_each_slice_and_ends_in_a_slice_of_one_layer(plan):
    made = plan("""
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 3]}]
  - sources: [{model: b, layer_range: [2, 3]}]
  - sources: [{model: a, layer_range: [1, 3]}]
parameters: {scale: [1, 2, 3]}
""")
    assert matrices(made, "scale") == [(1.0,), (2.0,), (3.0,), (3.0,), (1.0,), (3.0,)]


def test_a_list_of_filters_falls_through_to_its_last_entry(plan):
    made = plan(SLERP.replace("T", "[{filter: mlp, value: [0, 1]}, {filter: layers.1., value: 0.3}, {value: 0.7}]"))
    assert matrices(made, "t") == [0.0, 0.5, 1.0]
    assert by_tensor(made, "t")["model.layers.1.norm.weight"] == 0.3
    assert by_tensor(made, "t")[HEAD] == 0.7


def test_a_filter_of_what_each_model_may_set_looks_at_the_models_own_name_for_a_tensor(plan):
    made = plan("""
merge_method: ties
base_model: base
slices:
  - sources:
      - {model: base, layer_range: [0, 2]}
      - {model: a, layer_range: [1, 3]}
      - {model: b, layer_range: [0, 2]}
parameters:
  weight: [{filter: layers.1., value: 5}, {value: 1}]
  normalize: [{filter: layers.1., value: false}]
""")
    assert by_tensor(made, "weight")["model.layers.0.mlp.weight"] == (5.0, 1.0)
    assert by_tensor(made, "weight")["model.layers.1.mlp.weight"] == (1.0, 5.0)
    assert by_tensor(made, "normalize")["model.layers.0.mlp.weight"] is True
    assert by_tensor(made, "normalize")["model.layers.1.mlp.weight"] is False


def test_a_filter_that_fits_only_the_name_in_a_model_is_not_idle(plan):
    text = """
merge_method: passthrough
slices: [{sources: [{model: a, layer_range: [2, 3], parameters: {scale: [{filter: layers.2., value: 0}]}}]}]
"""
    assert plan(text).warnings == ()
    assert "is in no tensor's name" in plan(text.replace("layers.2.", "layers.1.")).warnings[0]


def test_booleans_have_gradients_too(plan):
    made = plan("""
merge_method: ties
base_model: base
models: [{model: a}]
parameters: {weight: 1, normalize: [true, false, true]}
""")
    assert matrices(made, "normalize") == [True, False, True]


def test_lambda_becomes_the_scale_of_a_step(plan):
    made = plan("""
merge_method: task_arithmetic
base_model: base
models: [{model: a}]
parameters: {weight: 1, lambda: [0, 1]}
""")
    assert [step.scale for step in made.steps if "mlp" in step.name] == [0.0, 0.5, 1.0]
    assert "lambda" not in made.steps[0].settings


def test_a_required_parameter_without_value_names_the_model_and_counts_the_tensors(plan):
    with pytest.raises(RecipeError) as caught:
        plan("""
merge_method: linear
models:
  - {model: a, parameters: {weight: 1}}
  - {model: b, parameters: {weight: {filter: mlp, value: 1}}}
  - model: c
""")
    assert [problem.message for problem in caught.value.problems] == [
        "parameter 'weight' has no value for b in 6 tensors",
        "parameter 'weight' has no value for c in 9 tensors",
    ]


def test_a_required_parameter_of_the_whole_merge_is_missed_too(plan):
    with pytest.raises(RecipeError, match="parameter 't' has no value in 9 tensors"):
        plan("merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\n")


def test_weights_that_sum_to_zero_are_refused_with_the_tensor(plan):
    with pytest.raises(
        RecipeError, match=r"the weights \[1.0, -1.0\] sum to zero .*'model.layers.1.mlp.weight'"
    ) as caught:
        plan("""
merge_method: linear
models:
  - {model: a, parameters: {weight: 1}}
  - {model: b, parameters: {weight: {filter: layers.1.mlp, value: -1}}}
parameters: {weight: 1}
""")
    assert caught.value.problems == ()


TIES = "merge_method: ties\nbase_model: base\nmodels: [{model: a}]\nparameters: {weight: 1, density: DENSITY}\n"


@pytest.mark.parametrize("density", ["[0.1, 0.5]", "[{filter: mlp, value: 0.1}, {value: 0.2}]"])
def test_a_setting_of_the_whole_model_may_not_vary_in_the_papers_semantics(plan, density):
    text = TIES.replace("DENSITY", density)
    plan(text)
    with pytest.raises(RecipeError, match="'density' differs between tensors, but here it counts for the whole model"):
        plan(text + "semantics: paper\n")


def test_one_density_for_the_whole_model_is_fine_in_the_papers_semantics(plan):
    plan(TIES.replace("DENSITY", "0.2") + "semantics: paper\n")


@pytest.mark.parametrize("first", ["tensor", "model"])
def test_a_scope_that_varies_is_refused_whichever_comes_first(plan, first):
    other = {"tensor": "model", "model": "tensor"}[first]
    models = "models: [{model: a}, {model: b}, {model: c}]\n"
    text = f"merge_method: geometric_median\n{models}parameters: {{scope: [{first}, {other}]}}\n"
    with pytest.raises(RecipeError, match="'scope' differs between tensors"):
        plan(text)
