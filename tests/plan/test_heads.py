"""Heads that are tied in some models and not in others."""

import numpy as np
import pytest

from cuvee.errors import CheckpointError
from cuvee.plan.config import with_changes

from .conftest import layered

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
TIED = {name: array for name, array in layered().items() if name != HEAD}
LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"


def head_of(made):
    steps = [step for step in made.steps if step.name == HEAD]
    return [(str(made.models[given.model]), given.tensor) for step in steps for given in step.all_inputs]


def configs(**said):
    return {model: {"tie_word_embeddings": flag} for model, flag in said.items()}


@pytest.mark.parametrize("tied", ["a", "b"])
def test_a_tied_model_lends_its_embedding_and_the_output_is_untied(plan, tied):
    models = {"a": layered(), "b": layered()} | {tied: TIED}
    made = plan(LINEAR, models, configs(a=tied == "a", b=tied == "b"))
    assert head_of(made) == [(model, EMBEDDING if model == tied else HEAD) for model in "ab"]
    assert made.config_changes["tie_word_embeddings"] is False
    other = "b" if tied == "a" else "a"
    assert made.notes == (
        f"'{HEAD}' is tied to the embedding in {tied} and not in {other}: the output has a head of its own, and its "
        "config says tie_word_embeddings: false",
    )


def test_a_tied_base_lends_its_embedding(plan):
    text = "merge_method: task_arithmetic\nbase_model: base\nmodels: [{model: a}]\nparameters: {weight: 1}\n"
    made = plan(text, {"base": TIED, "a": layered()}, configs(base=True, a=False))
    assert head_of(made) == [("a", HEAD), ("base", EMBEDDING)]


def test_the_language_models_own_config_is_untied_too(plan):
    nested = {"text_config": {"tie_word_embeddings": True, "vocab_size": 4}}
    made = plan(LINEAR, {"a": TIED, "b": layered()}, {"a": nested, "b": {}})
    assert made.config_changes["text_config"] == {"tie_word_embeddings": False, "vocab_size": 4}


def test_tied_models_stay_tied(plan):
    made = plan(LINEAR, {"a": TIED, "b": TIED}, configs(a=True, b=True))
    assert not head_of(made)
    assert "tie_word_embeddings" not in made.config_changes
    assert not made.warnings + made.notes


def test_a_head_stored_by_all_though_tied_is_kept_and_untied(plan):
    made = plan(LINEAR, {"a": layered(), "b": layered()}, configs(a=True, b=True))
    assert made.config_changes["tie_word_embeddings"] is False
    assert made.notes[0].startswith(f"every model stores '{HEAD}', though a says that it is tied")


def test_the_config_of_a_two_sided_model_that_stores_its_tied_head_stays(plan):
    sides = {f"{side}.block.0.x.weight": np.zeros((2, 2), np.float32) for side in ("encoder", "decoder")}
    model = {"shared.weight": np.zeros((4, 2), np.float32), HEAD: np.zeros((4, 2), np.float32)} | sides
    made = plan(LINEAR, {"a": model, "b": model}, configs(a=True, b=True))
    assert "tie_word_embeddings" not in made.config_changes  # T5 would not scale its head's inputs any more
    assert made.notes == (
        f"every model stores '{HEAD}', though a says that it is tied to the embedding: the output stores it, too, and "
        "its config stays as it is",
    )


def test_a_head_that_is_missing_and_not_tied_is_an_error(plan):
    with pytest.raises(CheckpointError, match=rf"b: has no tensor '{HEAD}'"):
        plan(LINEAR, {"a": layered(), "b": TIED}, configs(a=False, b=False))


def test_mixed_ties_of_encoder_and_decoder_are_refused(plan):
    sides = {f"{side}.block.0.x.weight": np.zeros((2, 2), np.float32) for side in ("encoder", "decoder")}
    shared = {"shared.weight": np.zeros((4, 2), np.float32)}
    models = {"a": shared | sides | {HEAD: np.zeros((4, 2), np.float32)}, "b": shared | sides}
    with pytest.raises(
        CheckpointError, match=r"some models tie 'lm_head\.weight' to the embedding and some do not: b do"
    ):
        plan(LINEAR, models, configs(a=False, b=True))


def test_a_language_models_own_config_keeps_the_tie_and_the_rows_that_change():
    config = {"text_config": {"vocab_size": 4, "x": 1}}
    untied = {"text_config": {"vocab_size": 4, "x": 1, "tie_word_embeddings": False}}
    resized = {"text_config": {"vocab_size": 8, "x": 1}}
    expected = {"text_config": {"vocab_size": 8, "x": 1, "tie_word_embeddings": False}}
    assert with_changes(untied, resized, config) == expected
    assert with_changes(resized, untied, config) == expected
