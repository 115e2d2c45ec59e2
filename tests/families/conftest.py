"""Three fine-tunes of each family, written once for all tests of this folder."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def triple(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Path]]:
    """Give the folders of three models of a family."""
    from .zoo import FAMILIES

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    made: dict[str, list[Path]] = {}

    def make(family: str) -> list[Path]:
        if family not in made:
            torch.manual_seed(len(family))
            model = FAMILIES[family]()
            made[family] = [_written(copy.deepcopy(model), tmp_path_factory.mktemp("model") / "m") for _ in range(3)]
        return made[family]

    return make


def _written(model: "transformers.PreTrainedModel", folder: Path) -> Path:
    """Write a model after a step in a random direction."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(folder)
    return folder
