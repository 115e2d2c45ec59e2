"""The JSON Schema that editors use agrees with the reader."""

import jsonschema
import pytest

import cuvee
from cuvee.catalogue import language, registry
from cuvee.documents.document import read_document
from cuvee.errors import RecipeError
from cuvee.recipe.schema import recipe_schema

SCHEMA = recipe_schema(language())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

TIES = "merge_method: ties\nbase_model: b\nmodels:\n  - model: a\n    parameters: {weight: W}\nparameters: {P}\n"
SOURCE = "{model: a, layer_range: [0, 2], parameters: {scale: 2}}"
SLICES = f"merge_method: passthrough\nslices:\n  - sources:\n      - {SOURCE}\n"


def ties(weight: str = "1", parameters: str = "", rest: str = "") -> str:
    return TIES.replace("W", weight).replace("P", parameters) + rest


GOOD = [
    ties(),
    ties("[0, 1]"),
    ties("{filter: mlp, value: 1}"),
    ties("[{filter: mlp, value: [0, 1]}, {value: 0.5}]"),
    ties("-2e-3"),
    ties(parameters="density: 0.3, normalize: false, lambda: 1.5, int8_mask: true"),
    ties(parameters="density: [0, 1, 0.5], normalize: [true, false]"),
    ties(rest="dtype: bfloat16\nout_dtype: float32\nseed: 3\nsemantics: paper\ncompute_dtype: as_loaded\nname: x\n"),
    ties("0.5").replace("parameters: {weight: 0.5}", "name: x") + "weights: metagpt\n",
    ties("0.5").replace("parameters: {weight: 0.5}", "name: x") + "weights: {rule: ema, factor: 0.2}\n",
    ties("0.5").replace("parameters: {weight: 0.5}", "name: x") + "weights: {rule: decay, factors: [0.5]}\n",
    ties(rest="post: [lines, {norm_match: }]\n"),
    ties(rest="post: [{lines: {alpha: 0.3, beta: 1}}, norm_match]\n"),
    ties(rest="rounding: stochastic\n"),
    ties(rest="tokenizer_source: base\nchat_template: auto\n"),
    ties(rest="tokenizer: union\n"),
    ties(rest="tokenizer: {source: a, tokens: {x: {source: b, force: true}}, pad_to_multiple_of: 64}\n"),
    ties(rest="tokenizer: {tokens: {x: {source: {kind: zero}}}}\n"),
    ties(rest="tokenizer: {tokens: {x: {source: {kind: model_token, model: a, token_id: 3}}}}\n"),
    SLICES,
    SLICES + "    parameters: {scale: [1, 2]}\n    base_model: b\n",
    SLICES + "models: null\n",
    "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\nparameters: {t: [0, 0.5, 1]}\n",
    "merge_method: linear\nmodels: [{model: a, name: x, parameters: }]\nparameters:\n",
    "merge_method: geometric_median\nmodels: [{model: a}]\nparameters: {scope: model, weight: 0}\n",
]

BAD = [
    ties(rest="rounding: random\n"),
    ties(rest="post: lines\n"),
    ties(rest="post: [lanes]\n"),
    ties(rest="post: [{lines: {alpha: -1}}]\n"),
    ties(rest="post: [{lines: {gamma: 1}}]\n"),
    ties(rest="post: [{lines: , norm_match: }]\n"),
    ties("0.5").replace("parameters: {weight: 0.5}", "name: x") + "weights: metagtp\n",
    ties("0.5").replace("parameters: {weight: 0.5}", "name: x") + "weights: {rule: ema, factor: 2}\n",
    ties("0.5").replace("parameters: {weight: 0.5}", "name: x") + "weights: {rule: decay, factors: 0.5}\n",
    ties(rest="dtypes: float16\n"),
    ties(rest="dtype: bf16\n"),
    ties(rest="seed: -1\n"),
    ties(rest="slices: []\n"),
    ties(rest="tokenizer_source: 3\n"),
    ties(rest="tokenizer: {sorce: base}\n"),
    ties(rest="tokenizer: {tokens: {x: {force: true}}}\n"),
    ties(rest="tokenizer: {tokens: {x: {source: {kind: nothing}}}}\n"),
    ties(rest="tokenizer: {pad_to_multiple_of: 0}\n"),
    ties(rest="chat_template: [auto]\n"),
    ties(parameters="densty: 0.3"),
    ties(parameters="density: 1.3"),
    ties(parameters="density: [0.5, 1.3]"),
    ties(parameters="density: {filter: mlp, value: 1.3}"),
    ties(parameters="density: {filters: mlp, value: 1}"),
    ties(parameters="normalize: 1"),
    ties("[]"),
    ties("text"),
    ties("true"),
    ties().replace("weight", "wieght"),
    ties().replace("weight", "normalize"),
    ties().replace("model: a", "modle: a"),
    ties().replace("ties", "tie"),
    SLICES.replace("scale", "weight"),
    SLICES.replace("[0, 2]", "[0]"),
    SLICES.replace("layer_range", "layers"),
    SLICES + "    parameters: {weight: 1}\n",
    "merge_method: geometric_median\nmodels: [{model: a}]\nparameters: {scope: world}\n",
    "merge_method: geometric_median\nmodels: [{model: a}]\nparameters: {weight: -1}\n",
    "merge_method: linear\n",
    "models: [{model: a}]\n",
]


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", GOOD)
def test_what_the_reader_accepts_the_schema_accepts(text):
    cuvee.recipe_from_text(text)
    assert [error.message for error in VALIDATOR.iter_errors(read_document(text, "r.yaml").data)] == []


@pytest.mark.parametrize("text", BAD)
def test_what_the_reader_refuses_the_schema_refuses(text):
    with pytest.raises(RecipeError):
        cuvee.recipe_from_text(text, strict=True)
    assert not VALIDATOR.is_valid(read_document(text, "r.yaml").data)


@pytest.mark.parametrize("key", registry())
def test_every_parameter_of_every_method_is_in_the_schema(key):
    for setting in registry()[key].settings.values():
        value = 1 if setting.default is None else setting.default
        document = {"merge_method": key, "models": [{"model": "a"}], "parameters": {setting.name: value}}
        assert VALIDATOR.is_valid(document)
