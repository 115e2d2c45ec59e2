"""Layers that slices move compute what they computed in their model, or the recipe is refused."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from .deep import DEEP, LAYERS  # noqa: E402  # after the skip
from .layerwise import Source, random_ranges, written, wrong_layers  # noqa: E402

RECIPES = 20
REFUSALS = ("slices move layers", "needs the layer", "uses the", "config.json says")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Source]:
    """Give a saved model of a family."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    made: dict[str, Source] = {}

    def make(family: str) -> Source:
        if family not in made:
            made[family] = written(DEEP[family], tmp_path_factory.mktemp("model") / "m")
        return made[family]

    return make


@pytest.mark.parametrize("family", DEEP)
def test_moved_layers_compute_what_they_did_or_the_recipe_is_refused(
    family: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    draw = random.Random(family)
    for number in range(RECIPES):
        ranges = random_ranges(draw, LAYERS)
        wrong = wrong_layers(source(family), ranges, tmp_path / str(number))
        assert not wrong or isinstance(wrong, str), (ranges, wrong)
