"""Recipes: what is read, and what is refused, with its line and the closest match."""

from collections.abc import Sequence

import pytest
import yaml

import cuvee
from cuvee.errors import RecipeError
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.recipe.setting import Choice

HEAD = "merge_method: ties\nbase_model: base\nmodels:\n  - model: a\n    parameters: {weight: 1}\n"


def read(text: str) -> Recipe:
    return cuvee.recipe_from_text(text)


def problems(text: str) -> Sequence[str]:
    with pytest.raises(RecipeError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems or (caught.value,)]


def test_a_recipe_with_everything():
    recipe = read("""
merge_method: dare_ties
base_model: org/base@main
models:
  - model: org/base@main
  - model: ./a
    name: mathematics
    parameters:
      weight: [0, 1]
      density: {filter: mlp, value: 0.5}
parameters: {weight: 0.3, normalize: true, lambda: 0.7}
dtype: bfloat16
out_dtype: float16
compute_dtype: as_loaded
semantics: paper
seed: 7
name: blend
""")
    base = ModelRef("org/base", "main")
    assert recipe.models() == (base, ModelRef("./a"))
    assert (recipe.dtype, recipe.out_dtype, recipe.compute_dtype) == ("bfloat16", "float16", "as_loaded")
    assert (recipe.semantics, recipe.seed, recipe.name, recipe.sliced) == ("paper", 7, "blend", False)
    assert recipe.settings["normalize"] == (Choice((True,)),)
    source = recipe.slices[0].sources[1]
    assert source.identity == "mathematics"
    assert source.settings == {"weight": (Choice((0.0, 1.0)),), "density": (Choice((0.5,), "mlp"),)}


def test_a_recipe_of_data_is_the_recipe_of_the_same_text():
    text = HEAD + "parameters: {density: [0, 1], normalize: true}\ndtype: bfloat16\n"
    made = cuvee.recipe_from_data(yaml.safe_load(text), folder="there")
    written = cuvee.recipe_from_text(text, folder="there")
    assert made.digest == written.digest
    assert cuvee.recipe_from_text(made.text, folder="there").digest == written.digest


def test_a_mistake_in_data_is_told_without_a_line():
    data = yaml.safe_load(HEAD) | {"dtpe": "bfloat16", "seed": "one"}
    with pytest.raises(RecipeError) as caught:
        cuvee.recipe_from_data(data)
    assert [problem.where for problem in caught.value.problems] == ["recipe", "recipe"]


def test_slices_are_read():
    recipe = read("""
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
    parameters: {scale: 0.5}
  - sources: [{model: b, layer_range: [1, 3], parameters: {scale: 2}}]
    base_model: c
""")
    first, second = recipe.slices
    assert recipe.sliced
    assert (first.sources[0].layers, second.sources[0].layers) == ((0, 2), (1, 3))
    assert (first.settings, second.sources[0].settings) == ({"scale": (Choice((0.5,)),)}, {"scale": (Choice((2.0,)),)})
    assert recipe.models() == (ModelRef("a"), ModelRef("c"), ModelRef("b"))


def test_the_base_is_the_first_of_the_models():
    assert [str(model) for model in read(HEAD).models()] == ["base", "a"]


def test_empty_parameters_are_none():
    text = "merge_method: linear\nmodels:\n  - model: a\n    parameters:\nparameters:\n"
    assert read(text).slices[0].sources[0].settings == {}


def test_anchors_work_within_a_recipe():
    text = (
        "merge_method: linear\nmodels:\n  - {model: a, parameters: &p {weight: 1e-4}}\n  - {model: b, parameters: *p}\n"
    )
    assert [source.settings["weight"][0].stops for source in read(text).slices[0].sources] == [(1e-4,), (1e-4,)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "merge_metod: ties\nmodels: [{model: a}]\n",
            "recipe:1: unknown key 'merge_metod'\n  hint: did you mean 'merge_method'?",
        ),
        (
            HEAD.replace("ties", "dare-ties"),
            "recipe:1: unknown merge method 'dare-ties'\n  hint: did you mean 'dare_ties'?",
        ),
        (HEAD.replace("ties", "TIES"), "recipe:1: unknown merge method 'TIES'\n  hint: did you mean 'ties'?"),
        (
            HEAD.replace("weight", "wieght"),
            "recipe:5: 'ties' takes no parameter 'wieght'\n  hint: did you mean 'weight'?",
        ),
        (
            HEAD.replace("weight: 1", "density: 2"),
            "recipe:5: 'density' of 'ties': expected a number in [0, 1], found 2",
        ),
        (HEAD.replace("weight: 1", "weight: 'x'"), "recipe:5: 'weight' of 'ties': expected a number, found 'x'"),
        (HEAD.replace("weight: 1", "weight: '.nan'"), "recipe:5: 'weight' of 'ties': expected a number, found '.nan'"),
        (
            HEAD.replace("weight: 1", "density: '2'"),
            "recipe:5: 'density' of 'ties': expected a number in [0, 1], found 2",
        ),
        (
            HEAD.replace("weight: 1", "dtype: float16"),
            "recipe:5: 'ties' takes no parameter 'dtype'\n  hint: 'dtype' is a key of the recipe: write it beside",
        ),
        (
            HEAD.replace("weight: 1", "weight: .nan"),
            "recipe:5: 'weight' of 'ties': expected a finite number, found nan",
        ),
        (
            HEAD.replace("weight: 1", "weight: 1e999"),
            "recipe:5: 'weight' of 'ties': expected a finite number, found inf",
        ),
        (
            HEAD.replace("weight: 1", "density: [0.5, 1.5]"),
            "recipe:5: 'density' of 'ties': expected a number in [0, 1], found 1.5",
        ),
        (HEAD + "parameters: {normalize: 2}\n", "recipe:6: 'normalize' of 'ties': expected true or false, found 2"),
        (
            HEAD.replace("weight: 1", "weight: []"),
            "recipe:5: 'weight': expected at least one value, found an empty list",
        ),
        (
            HEAD.replace("weight: 1", "normalize: true"),
            "recipe:5: 'normalize' is one number for the whole merge; a model cannot set its own\n"
            "  hint: set it under the recipe's own 'parameters'",
        ),
        (HEAD.replace("base_model: base\n", ""), "recipe:1: 'ties' needs a 'base_model'"),
        (
            HEAD.replace("- model: a", "- modle: a"),
            "recipe:4: unknown key 'models.0.modle'\n  hint: did you mean 'model'?",
        ),
        (HEAD.replace("model: a", "model: a@"), "recipe:4: nothing follows the '@' in 'a@'; expected a revision"),
        (HEAD.replace("model: a", "model: 7"), "recipe:4: 'models.0.model': input should be a valid string, found 7"),
        (HEAD + "dtype: bf16\n", "hint: did you mean 'bfloat16'?"),
        (HEAD + "dtype: fp8\n", "merges are computed in more than eight bits: say 'out_dtype: fp8'"),
        (HEAD + "out_dtype: float8_e4m3fn\n", "eight bits need scales: say 'out_dtype: fp8'"),
        (HEAD + "seed: -1\n", "recipe:6: 'seed': input should be greater than or equal to 0, found -1"),
        (HEAD + "seed: 1.5\n", "recipe:6: 'seed': input should be a valid integer, found 1.5"),
        (
            HEAD + "slices: []\n",
            "recipe:1: expected exactly one of 'models', 'slices' and 'modules', found 'models'",
        ),
        ("merge_method: linear\n", "recipe:1: expected exactly one of 'models', 'slices' and 'modules', found none"),
        ("merge_method: linear\nmodels: []\n", "recipe:2: 'models': expected one entry at least, found []"),
        (
            HEAD.replace("{model: a, parameters: {weight: 1}}", "{model: a, weight: 1}") + "density: 1\n",
            "recipe:6: unknown key 'density'\n  hint: settings of the method stand under 'parameters'",
        ),
        (
            "merge_method: linear\nmodels: [{model: a, weight: 1}]\n",
            "recipe:2: unknown key 'models.0.weight'\n  hint: settings of the method stand under 'parameters'",
        ),
        ("models: [{model: a}]\n", "recipe:1: 'merge_method' is missing"),
        ("- merge_method\n", "recipe:1: expected a mapping with 'merge_method' and 'models'"),
        ("null\n", "recipe:1: expected a mapping with 'merge_method' and 'models'"),
        ("merge_method: [ties]\nmodels: [{model: a}]\n", "recipe:1: 'merge_method': input should be a valid string"),
        ("merge_method: linear\nmodels: {model: a}\n", "recipe:2: 'models': expected a list, found {'model': 'a'}"),
        (
            "merge_method: linear\nmodels: [a]\n",
            "recipe:2: 'models.0': expected 'name: value' lines, found 'a'\n  hint: write `- model: a`",
        ),
        (
            "merge_method: passthrough\nslices: [{sources: [a]}]\n",
            "recipe:2: 'slices.0.sources.0': expected 'name: value' lines, found 'a'\n  hint: write `- model: a`",
        ),
        ("merge_method: passthrough\nslices: [3]\n", "recipe:2: 'slices.0': expected 'name: value' lines, found 3"),
        (
            "merge_method: linear\nmodels: [{model: a}]\nparameters: [1]\n",
            "recipe:3: 'parameters': expected 'name: value'",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_closest_match(text, expected):
    assert any(expected in problem for problem in problems(text))


def test_one_of_models_slices_and_modules_is_expected():
    text = "merge_method: linear\nmodels: [{model: a}]\nmodules: {text: {models: [{model: a}]}}\n"
    assert problems(text)[0].endswith("found 'models' and 'modules'")
    assert len(read("merge_method: linear\nmodules: {text: {models: [{model: a}]}}\n").slices) == 1


def test_residual_weight_is_refused_by_name():
    text = (
        "merge_method: passthrough\nslices:\n  - sources: [{model: a, layer_range: [0, 1]}]\n    residual_weight: 0\n"
    )
    assert problems(text) == ["recipe:4: 'residual_weight' is not supported: it has no effect in mergekit either"]


@pytest.mark.parametrize("layers", ["[3, 1]", "[2, 2]", "[-1, 2]"])
def test_an_empty_or_reversed_layer_range_is_refused(layers):
    text = f"merge_method: passthrough\nslices:\n  - sources:\n      - model: a\n        layer_range: {layers}\n"
    assert problems(text) == [f"recipe:5: expected [first, last) with 0 <= first < last, found {layers}"]


@pytest.mark.parametrize("layers", ["[1]", "[1, 2, 3]", "3", "[a, b]", "[0, 1.5]"])
def test_a_layer_range_is_two_whole_numbers(layers):
    text = f"merge_method: passthrough\nslices:\n  - sources:\n      - model: a\n        layer_range: {layers}\n"
    assert all(problem.startswith("recipe:5: 'slices.0.sources.0.layer_range") for problem in problems(text))


def test_a_source_of_a_slice_needs_a_layer_range():
    text = "merge_method: passthrough\nslices:\n  - sources:\n      - model: a\n"
    assert problems(text) == ["recipe:4: 'slices.0.sources.0.layer_range' is missing"]


def test_the_sources_of_a_slice_need_equally_many_layers():
    text = (
        "merge_method: linear\nslices:\n  - sources:\n"
        "    - {model: a, layer_range: [0, 2]}\n    - {model: b, layer_range: [0, 3]}\n"
    )
    assert problems(text) == ["recipe:3: the sources of a slice need equally many layers, found 2, 3"]


def test_all_problems_are_told_at_once_in_the_order_of_the_lines():
    text = "merge_method: dare-ties\nbase: x\nmodels:\n  - model: a+\n    wight: 1\ndtype: int64\nseed: x\n"
    assert [problem.split(":")[1] for problem in problems(text)] == ["1", "2", "4", "5", "6", "7"]


def test_very_many_problems_are_counted():
    keys = "".join(f"key{i}: 1\n" for i in range(100))
    assert problems(HEAD + keys)[-1] == "and 70 more"


def test_a_recipe_file_is_read_from_its_folder(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(HEAD, encoding="utf-8")
    recipe = cuvee.load_recipe(file)
    assert (recipe.folder, recipe.source, recipe.text) == (tmp_path, str(file), HEAD)


def test_a_recipe_that_cannot_be_read_is_the_authors_mistake(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.yaml", "binary.yaml", "."):
        with pytest.raises(RecipeError, match="cannot read the recipe"):
            cuvee.load_recipe(tmp_path / name)


def test_the_recipe_of_a_mixture_names_the_command_for_it() -> None:
    text = "base_model: a\nexperts:\n  - source_model: b\n    positive_prompts: [x]\n"
    with pytest.raises(RecipeError, match=r"recipe:2: this is the recipe of a mixture.*\n.*`cuvee upcycle RECIPE OUT`"):
        cuvee.recipe_from_text(text)
