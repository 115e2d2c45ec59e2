"""Classifiers, value and reward heads: taken from one model where the recipe says so."""

import numpy as np
import pytest

import cuvee
from cuvee.errors import CuveeError, RecipeError
from cuvee.structure.task_heads import has_tokens, task_head

from .conftest import layered

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
ARITHMETIC = LINEAR.replace("linear", "task_arithmetic") + "base_model: base\n"


def headed(rows, *names, **others):
    """A model with heads of so many rows."""
    heads = {name: np.zeros((rows, 2) if name.endswith("weight") else rows, np.float32) for name in names}
    return layered() | heads | others


def made_of(made):
    return {step.name: ("".join(str(made.models[i.model]) for i in step.inputs), step.action) for step in made.steps}


def problems(plan, text, models):
    with pytest.raises(CuveeError) as caught:
        plan(text, models)
    return [str(problem) for problem in caught.value.problems or (caught.value,)]


HEADS = [
    ("classifier.weight", "classifier.bias"),
    ("score.weight",),
    ("v_head.summary.weight", "v_head.summary.bias"),
    ("pre_classifier.weight", "classifier.weight"),
    ("classifier.dense.weight", "classifier.out_proj.weight"),
    ("classification_head.dense.weight", "classification_head.out_proj.bias"),
    ("classifier.1.weight",),
    ("model.reward_head.weight",),
    ("qa_outputs.weight", "qa_outputs.bias"),
    ("decode_head.classifier.weight",),
    ("class_labels_classifier.weight", "bbox_predictor.layers.0.weight"),
    ("logits_proj.weight", "sequence_summary.summary.weight"),
]


@pytest.mark.parametrize("names", HEADS, ids=lambda names: names[0])
def test_heads_of_other_sizes_are_taken_from_the_model_that_is_named(plan, names):
    models = {"a": headed(3, *names), "b": headed(5, *names)}
    assert all("hint: `head: base`" in problem for problem in problems(plan, LINEAR, models)[: len(names)])
    for chosen, owner, rows in (("base", "a", 3), ("a", "a", 3), ("b", "b", 5), ("keep", "a", 3)):
        made = plan(f"{LINEAR}head: {chosen}\n", models)
        assert {name: made_of(made)[name] for name in names} == dict.fromkeys(names, (owner, "copy"))
        assert {step.shape[0] for step in made.steps if step.name in names} == {rows}
        assert made_of(made)["lm_head.weight"] == ("ab", "merge")
        assert sum("is taken from" in note for note in made.notes) >= 1


@pytest.mark.parametrize(
    "name",
    [
        "lm_head.weight",
        "model.layers.0.mlp.score.weight",
        "model.layers.3.classifier.weight",
        "model.embed_tokens.weight",
        "cls.predictions.decoder.weight",
        "head.weight",
        "model.scores.weight",
        "pooler.dense.weight",
    ],
)
def test_what_predicts_tokens_or_is_in_a_layer_is_no_such_head(name):
    assert task_head(name) is None


def test_a_bare_head_is_one_where_there_are_no_tokens():
    assert task_head("head.weight", has_tokens=has_tokens({"image_size": 224})) == "head"
    assert task_head("head.weight", has_tokens=has_tokens({"text_config": {"vocab_size": 64}})) is None


def test_a_head_of_the_base_is_not_merged_with_task_vectors(plan):
    models = {"base": headed(2, "score.weight"), "a": headed(1, "score.weight"), "b": headed(1, "score.weight")}
    made = plan(f"{ARITHMETIC}head: b\n", models)
    assert made_of(made)["score.weight"] == ("b", "copy")
    assert "the head 'score' is taken from b (1 tensor)" in made.notes


def test_a_head_that_the_base_lacks_can_come_from_a_model(plan):
    made = plan(f"{LINEAR}head: b\n", {"a": layered(), "b": headed(1, "v_head.summary.weight")})
    assert made_of(made)["v_head.summary.weight"] == ("b", "copy")


def test_keep_keeps_the_heads_of_all_models_each_in_one_piece(plan):
    models = {
        "a": headed(3, "classifier.weight"),
        "b": headed(1, "classifier.weight", "classifier.bias", "score.weight"),
    }
    made = plan(f"{LINEAR}head: keep\n", models)
    assert made_of(made)["classifier.weight"] == ("a", "copy")
    assert made_of(made)["score.weight"] == ("b", "copy")
    assert "classifier.bias" not in made_of(made)
    assert "'head' is taken from a: 'classifier', which only b has, is left out (1 tensor)" in made.warnings


def test_a_head_that_is_left_out_on_purpose_is_said(plan):
    made = plan(f"{LINEAR}head: a\n", {"a": headed(3, "classifier.weight"), "b": headed(1, "v_head.weight")})
    assert "v_head.weight" not in made_of(made)
    assert "'head' is taken from a: 'v_head', which only b has, is left out (1 tensor)" in made.warnings


def test_a_model_without_a_head_lends_none(plan):
    found, *_ = problems(plan, f"{LINEAR}head: base\n", {"a": layered(), "b": headed(1, "score.weight")})
    assert found == (
        "recipe: 'head: a': this model has no classifier, value or reward head\n"
        "  hint: these heads are in other models: score"
    )


def test_the_config_says_the_labels_of_the_head(plan):
    names = ("classifier.weight", "classifier.bias")
    configs = {
        "a": {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x", "1": "y", "2": "z"}},
        "b": {
            "architectures": ["BertForTokenClassification"],
            "id2label": {"0": "O", "1": "PER"},
            "label2id": {"O": 0},
        },
        "c": {"architectures": ["BertForSequenceClassification"]},
    }
    models = {"a": headed(3, *names), "b": headed(2, *names), "c": headed(2, *names)}
    three = LINEAR.replace("{model: b}", "{model: b}, {model: c}")
    assert "id2label" not in plan(f"{three}head: a\n", models, configs).config_changes
    changes = plan(f"{three}head: b\n", models, configs).config_changes
    assert {key: changes[key] for key in ("id2label", "label2id", "architectures")} == {
        "id2label": {"0": "O", "1": "PER"},
        "label2id": {"O": 0},
        "architectures": ["BertForTokenClassification"],
    }
    assert plan(f"{three}head: c\n", models, configs).config_changes["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("head: c", "'head': expected 'merge' or 'keep' or a model of the recipe, found 'c'"),
        ("heads: base", "unknown key 'heads'\n  hint: did you mean 'head'?"),
    ],
)
def test_a_wrong_choice_is_an_error_of_its_line(line, complaint):
    with pytest.raises(RecipeError) as caught:
        cuvee.recipe_from_text(LINEAR + line)
    assert str(caught.value).startswith(f"recipe:4: {complaint}")


def test_heads_are_of_whole_models():
    text = "merge_method: passthrough\nslices:\n  - sources: [{model: a, layer_range: [0, 1]}]\nhead: a\n"
    with pytest.raises(RecipeError, match="'head' is for whole 'models', not for 'slices'"):
        cuvee.recipe_from_text(text)


def test_saying_merge_does_not_change_the_digest_and_a_model_does():
    plain = cuvee.recipe_from_text(LINEAR).digest
    assert cuvee.recipe_from_text(f"{LINEAR}head: merge\n").digest == plain
    assert cuvee.recipe_from_text(f"{LINEAR}head: base\n").digest == cuvee.recipe_from_text(f"{LINEAR}head: a\n").digest
    assert cuvee.recipe_from_text(f"{LINEAR}head: keep\n").digest != plain
