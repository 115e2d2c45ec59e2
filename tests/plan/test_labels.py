"""Row 3 of every classifier means the same label, or the recipe is refused."""

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import MemoryCheckpoint, open_checkpoint
from cuvee.errors import CuveeError
from cuvee.recipe.reference import parse_reference
from cuvee.testing import write_model
from cuvee.verify import verify

from .conftest import layered

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 0.5}\n"
STACK = """merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources: [{model: b, layer_range: [1, 3]}]
"""
NAMES = ("classifier.weight", "classifier.bias")
MOODS = ("negative", "neutral", "positive")
VALUES = {"negative": 1, "neutral": 2, "positive": 3}


def classifier(labels, names=NAMES, extra=0):
    """A model in whose head each row tells its label."""
    values = np.array([VALUES.get(label.lower(), 9) for label in labels] + [0] * extra, np.float32)
    heads = {name: np.stack([values] * 2, 1) if name.endswith("weight") else values for name in names}
    return layered() | heads


def config(labels, **others):
    shown = {"num_hidden_layers": 3, "torch_dtype": "float32"} | others
    return shown if labels is None else shown | {"id2label": {str(i): label for i, label in enumerate(labels)}}


def planned(text, own, theirs, names=NAMES, extra=0):
    sources = {
        parse_reference(model): MemoryCheckpoint(classifier(labels or MOODS, names, extra), config(labels))
        for model, labels in (("a", own), ("b", theirs))
    }
    return cuvee.make_plan(cuvee.recipe_from_text(text), models=sources)


def merged(text, own, theirs, tmp_path, names=NAMES, extra=0):
    out = cuvee.run_plan(planned(text, own, theirs, names, extra), tmp_path / "out").folder
    with open_checkpoint(out) as found:
        arrays = {}
        for name in names:
            spec = found.tensors[name]
            arrays[name] = np.empty(spec.shape, np.float32)
            found.read_into(name, 0, [arrays[name].reshape(-1)])
        return arrays


ORDERS = [("positive", "negative", "neutral"), ("neutral", "negative", "positive"), ("POSITIVE", "Neutral", "negative")]


@pytest.mark.parametrize("text", [LINEAR, STACK], ids=["linear", "stack"])
@pytest.mark.parametrize("labels", ORDERS, ids=" ".join)
def test_rows_are_put_in_the_order_of_the_donor(text, labels, tmp_path):
    arrays = merged(text, MOODS, labels, tmp_path)
    assert arrays["classifier.bias"].tolist() == [1, 2, 3]
    assert arrays["classifier.weight"].tolist() == [[1, 1], [2, 2], [3, 3]]


def test_the_plan_says_so_and_its_digest_knows(tmp_path):
    made = planned(LINEAR, MOODS, ORDERS[0])
    assert made.notes == (
        "the rows of 'classifier' in b are put in the order of the labels of a: negative, neutral, positive",
    )
    digests = {planned(LINEAR, MOODS, labels).digest for labels in (MOODS, *ORDERS)}
    assert len(digests) == 4


def test_the_row_for_nothing_stays_last(tmp_path):
    names = ("class_labels_classifier.weight", "class_labels_classifier.bias")
    arrays = merged(LINEAR, MOODS, ORDERS[0], tmp_path, names, extra=1)
    assert arrays["class_labels_classifier.bias"].tolist() == [1, 2, 3, 0]


def test_only_the_layer_with_the_labels_is_put_in_order():
    names = (*NAMES, "pre_classifier.weight")
    with pytest.raises(CuveeError, match=r"more than one layer may have their rows: classifier, pre_classifier"):
        planned(LINEAR, MOODS, ORDERS[0], names)


def test_labels_in_one_order_say_nothing():
    for labels in (MOODS, [label.upper() for label in MOODS]):
        assert planned(LINEAR, MOODS, labels).notes == ()


@pytest.mark.parametrize("text", [LINEAR, STACK], ids=["linear", "stack"])
def test_other_labels_are_refused(text):
    with pytest.raises(CuveeError) as caught:
        planned(text, MOODS, ("cat", "dog", "cow"))
    message, _, hint = str(caught.value).partition("\n  hint: ")
    assert message == "b: its labels are cat, dog, cow, and those of a are negative, neutral, positive"
    assert "head: base" in hint or "end with layers" in hint


def test_a_head_that_comes_from_one_model_brings_its_labels():
    made = planned(LINEAR + "head: b\n", MOODS, ("cat", "dog", "cow"))
    assert made.config_changes["id2label"]["0"] == "cat"
    assert not any("labels" in note for note in made.notes)


@pytest.mark.parametrize("labels", [None, ("LABEL_0", "LABEL_1", "LABEL_2")])
def test_labels_without_names_go_with_any(labels):
    note = "{} does not name its labels: they are taken to be those of {}, in its order"
    assert planned(LINEAR, MOODS, labels).notes == (note.format("b", "a"),)
    assert planned(LINEAR, labels, MOODS).notes == (note.format("a", "b"),)
    assert planned(LINEAR, labels, labels).notes == ()


def test_models_without_a_classifier_have_labels_of_no_use(plan):
    made = plan(LINEAR, {name: layered() for name in "ab"}, {"a": config(MOODS), "b": config(ORDERS[0])})
    assert made.notes == ()


def test_stacks_that_end_in_the_donor_need_no_other_labels():
    text = STACK + "  - sources: [{model: a, layer_range: [2, 3]}]\n"
    assert planned(text, MOODS, ("cat", "dog", "cow")).notes == ()


def test_heads_that_answer_in_another_way_are_told(plan):
    kinds = ("single_label_classification", "multi_label_classification")
    configs = {name: config(MOODS, problem_type=kind) for name, kind in zip("ab", kinds, strict=True)}
    made = plan(LINEAR, {name: classifier(MOODS) for name in "ab"}, configs)
    assert made.warnings == (f"classifiers of other kinds: problem_type is {kinds[0]} in a, {kinds[1]} in b",)


def test_what_was_put_in_order_is_verified(tmp_path):
    for model, labels in (("a", MOODS), ("b", ORDERS[0])):
        write_model(tmp_path / model, classifier(labels), config=config(labels), dtype="F32")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(LINEAR.replace("model: ", f"model: {tmp_path}/"))
    cuvee.merge(recipe, tmp_path / "out")
    states = {check.name: check.state for check in verify(tmp_path / "out").checks}
    assert states["digest"] == states["parents"] == states["norms"] == "passed"
