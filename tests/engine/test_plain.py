"""A model in whatever form becomes a folder that transformers loads; one that is such a folder is left alone."""

from pathlib import Path

import numpy as np
import pytest

from cuvee.checkpoint import open_checkpoint
from cuvee.engine.plain import loadable_folder
from cuvee.errors import CheckpointError
from cuvee.hub import Hub
from cuvee.progress import Silent
from cuvee.testing import random_weights, write_model

torch = pytest.importorskip("torch")


def folder_of(model: Path) -> Path:
    return loadable_folder(str(model), Hub(offline=True), Silent())


def test_a_plain_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", random_weights(0))
    assert folder_of(folder) == folder


@pytest.mark.parametrize("form", ["bin", "file"])
def test_other_forms_are_written_as_a_folder_of_the_same_numbers(tmp_path: Path, form: str) -> None:
    weights = random_weights(0)
    folder = write_model(tmp_path / "m", weights)
    model = folder / "model.safetensors"
    if form == "bin":
        model.unlink()
        torch.save({n: torch.from_numpy(w) for n, w in weights.items()}, folder / "pytorch_model.bin")
        model = folder
    made = folder_of(model)
    assert made != folder
    assert (made / "config.json").is_file()
    with open_checkpoint(made) as written:
        for name, number in weights.items():
            np.testing.assert_array_equal(written.read(name), number)


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder or file"):
        folder_of(tmp_path / "gone.gguf")
