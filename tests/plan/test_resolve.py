"""Where models are looked up."""

import os

import pytest

import cuvee
from cuvee.errors import CheckpointError
from cuvee.testing import random_weights, write_model

LINEAR = "merge_method: linear\nmodels: [{{model: {}}}]\nparameters: {{weight: 1}}\n"


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder for the recipe, `recipes`, beside the current one, `here`."""
    for name in ("here", "recipes"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def place(beside, model):
    recipe = cuvee.recipe_from_text(LINEAR.format(model), folder=beside / "recipes")
    return cuvee.make_plan(recipe).places[0].resolve()


@pytest.mark.parametrize("where", ["here", "recipes"])
def test_a_model_is_found_in_the_current_folder_or_beside_the_recipe(beside, where):
    folder = write_model(beside / where / "org" / "m", random_weights(1))
    assert place(beside, "org/m") == folder


def test_a_model_in_both_is_refused(beside):
    for where in ("here", "recipes"):
        write_model(beside / where / "m", random_weights(1))
    with pytest.raises(CheckpointError, match="both in the current folder and beside the recipe") as caught:
        place(beside, "m")
    assert caught.value.hint == "give the whole path"


def test_the_same_folder_under_both_is_no_conflict(beside):
    folder = write_model(beside / "here" / "m", random_weights(1))
    (beside / "recipes" / "m").symlink_to(folder)
    assert place(beside, "m") == folder


def test_a_whole_path_and_a_file_are_found(beside):
    folder = write_model(beside / "elsewhere" / "m", random_weights(1))
    assert place(beside, folder) == folder
    assert place(beside, folder / "model.safetensors") == folder / "model.safetensors"


def test_a_home_is_expanded(beside, monkeypatch):
    folder = write_model(beside / "home" / "m", random_weights(1))
    monkeypatch.setenv("HOME", str(beside / "home"))
    assert place(beside, "~/m") == folder


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("missing", "no folder or file 'missing'"),
        ("a+adapter", "no folder or file 'a'"),
        ("~nobody-has-this-name/m", "this is not a path"),
        ("x" * 5000, "this is not a path"),
    ],
)
def test_a_model_that_cannot_be_found_is_one_clear_error(beside, model, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        place(beside, model)
    assert caught.value.exit_code == 3


def test_a_revision_of_a_folder_is_not_ignored_in_silence(beside):
    write_model(beside / "here" / "m", random_weights(1))
    with pytest.raises(CheckpointError, match="a folder has no revisions"):
        place(beside, "m@v2")


def test_every_bad_input_is_told_at_once(beside):
    (beside / "here" / "empty").mkdir()
    text = "merge_method: linear\nmodels: [{model: missing}, {model: empty}]\nparameters: {weight: 1}\n"
    with pytest.raises(CheckpointError) as caught:
        cuvee.make_plan(cuvee.recipe_from_text(text))
    assert [problem.where for problem in caught.value.problems] == ["missing", "empty"]


def test_a_quantised_folder_is_refused(beside):
    write_model(beside / "here" / "m", random_weights(1), config={"quantization_config": {"quant_method": "awq"}})
    with pytest.raises(CheckpointError, match=r"quantised \(AWQ\)"):
        place(beside, "m")


@pytest.mark.skipif(os.sep == "\\", reason="backslashes part folders here")
def test_a_path_with_backslashes_is_told_how_to_write_it(beside):
    with pytest.raises(CheckpointError) as caught:
        place(beside, "models\\a")
    assert caught.value.hint == "write '/' between folders: 'models/a'"
