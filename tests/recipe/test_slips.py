"""What mergekit passes over is passed over with one warning for each kind; a misspelt key is never among it."""

from pathlib import Path

import pytest

import cuvee
from cuvee.catalogue import registry
from cuvee.errors import RecipeError
from cuvee.recipe.language import MERGEKIT_METHODS
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.slips import warnings_of

TWO = """merge_method: slerp
base_model: a
models:
  - model: a
    parameters: {weight: 0.5}
  - model: b
    parameters: {weight: 0.5}
parameters: {t: 0.5}
"""
SLICES = """merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: ["0", "2"], parameters: {scale: "0.5"}}]
    parameters: {scale: "+2"}
"""


def read(text: str) -> Recipe:
    return cuvee.recipe_from_text(text)


def warnings(text: str) -> list[str]:
    return warnings_of(read(text).slips)


def test_a_parameter_of_another_method_is_passed_over_with_one_warning_that_names_all_places() -> None:
    assert warnings(TWO) == ["'slerp' takes no parameter 'weight': it is ignored, as in mergekit (recipe:5, recipe:7)"]
    plain = TWO.replace("    parameters: {weight: 0.5}\n", "")
    assert read(TWO).digest == read(plain).digest
    assert warnings(plain) == []


@pytest.mark.parametrize("key", sorted(MERGEKIT_METHODS))
def test_every_method_of_mergekit_passes_over_the_parameters_of_all_others(key: str) -> None:
    own = registry()[key].settings
    others = {name for other in MERGEKIT_METHODS for name in registry()[other].settings if name not in own}
    lines = "".join(f"  {name}: 0.5\n" for name in sorted(others))
    text = f"merge_method: {key}\nbase_model: a\nmodels: [{{model: a}}, {{model: b}}]\nparameters:\n{lines}"
    assert {slip.message for slip in read(text).slips} == {f"'{key}' takes no parameter '{name}'" for name in others}


def test_a_method_that_mergekit_lacks_passes_over_nothing() -> None:
    text = "merge_method: iso_c\nbase_model: a\nmodels: [{model: b}]\nparameters: {density: 0.5}\n"
    with pytest.raises(RecipeError, match="'iso_c' takes no parameter 'density'"):
        read(text)


def test_a_misspelt_parameter_is_an_error_beside_those_that_are_passed_over() -> None:
    with pytest.raises(RecipeError, match="recipe:8: 'slerp' takes no parameter 'tt'"):
        read(TWO.replace("t: 0.5}", "t: 0.5, tt: 1}"))
    with pytest.raises(RecipeError, match=r"takes no parameter 'wieght'"):
        read(TWO.replace("weight", "wieght"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('t: "0.5"', "t: 0.5"),
        ('t: ["0", "1e-1", 1]', "t: [0, 0.1, 1]"),
        ('t: [{filter: "8", value: ["0", 1]}, {value: ".5"}]', 't: [{filter: "8", value: [0, 1]}, {value: 0.5}]'),
    ],
)
def test_a_number_in_quotes_is_the_number(written: str, meant: str) -> None:
    text = "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\nparameters:\n  "
    assert read(text + written).digest == read(text + meant).digest
    assert warnings(text + written) == [
        "'t' of 'slerp' is a number in quotes: it is read as one, as in mergekit (recipe:5)"
    ]
    assert warnings(text + meant) == []


def test_numbers_in_quotes_count_at_every_level() -> None:
    plain = SLICES.replace('"', "").replace("+2", "2")
    assert read(SLICES).digest == read(plain).digest
    assert warnings(SLICES) == [
        "'layer_range' is a number in quotes: it is read as one, as in mergekit (recipe:3)",
        "'scale' of 'passthrough' is a number in quotes: it is read as one, as in mergekit (recipe:3, recipe:4)",
    ]


def test_numbers_in_quotes_count_in_the_tokenizer_but_a_tokens_text_stays_text() -> None:
    rule = "{source: {kind: model_token, model: a, TOKEN}}"
    text = (
        f'merge_method: linear\nmodels: [{{model: a}}]\ntokenizer: {{pad_to_multiple_of: "16", tokens: {{x: {rule}}}}}'
    )
    by_number = read(text.replace("TOKEN", 'token_id: "3"')).tokenizer
    assert by_number is not None
    assert (by_number.pad_to_multiple_of, by_number.rules[0].number) == (16, 3)
    by_text = read(text.replace("TOKEN", 'token: "3"')).tokenizer
    assert by_text is not None
    assert by_text.rules[0].text == "3"


@pytest.mark.parametrize(("written", "meant"), [("1", True), ("0", False), ("'yes'", True), ("'False'", False)])
def test_another_way_to_write_true_or_false_is_read_as_mergekit_reads_it(written: str, meant: bool) -> None:
    text = f"merge_method: linear\nmodels: [{{model: a}}]\nparameters: {{normalize: {written}, weight: 1}}\n"
    recipe = read(text)
    assert recipe.settings["normalize"][0].stops == (meant,)
    assert warnings_of(recipe.slips) == [
        "'normalize' of 'linear' is not written as true or false: "
        "it is read as the one that it means, as in mergekit (recipe:3)"
    ]


def test_strict_reading_makes_errors_of_all_slips(tmp_path: Path) -> None:
    text = TWO.replace("t: 0.5", "t: '0.5'")
    with pytest.raises(RecipeError) as caught:
        cuvee.recipe_from_text(text, strict=True)
    assert [str(problem) for problem in caught.value.problems] == [
        "recipe:5: 'slerp' takes no parameter 'weight'\n  hint: leave it out",
        "recipe:7: 'slerp' takes no parameter 'weight'\n  hint: leave it out",
        "recipe:8: 't' of 'slerp' is a number in quotes\n  hint: write it without quotes",
    ]
    (tmp_path / "r.yaml").write_text(text)
    for load in (cuvee.load_recipe, cuvee.load_stages):
        with pytest.raises(RecipeError, match="3 problems"):
            load(tmp_path / "r.yaml", strict=True)


def test_the_nearest_parameter_is_named_where_another_methods_may_be_meant() -> None:
    text = "merge_method: della\nbase_model: a\nmodels: [{model: b, parameters: {weight: 1, eps: 0.1}}]\n"
    assert [slip.hint for slip in read(text).slips] == ["did you mean 'epsilon'?"]


def test_types_may_be_named_as_torch_names_them() -> None:
    text = "merge_method: linear\nmodels: [{model: a}]\ndtype: torch.bfloat16\nout_dtype: torch.float32\n"
    assert (read(text).dtype, read(text).out_dtype) == ("bfloat16", "float32")


def test_anchors_and_merge_keys_are_expanded_before_slips_are_looked_for() -> None:
    text = (
        "merge_method: slerp\nbase_model: a\nmodels:\n  - &one\n    model: a\n    parameters: &own {weight: '1'}\n"
        "  - {<<: *one, model: b}\nparameters: {<<: *own, t: '0.5'}\n"
    )
    recipe = read(text)
    assert [str(source.model) for source in recipe.slices[0].sources] == ["a", "b"]
    assert len(warnings_of(recipe.slips)) == 2
