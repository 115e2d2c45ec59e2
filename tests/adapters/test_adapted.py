"""`base+adapter` is what PEFT computes with the two, for every kind of adapter, in any chunks and by any thread."""

from collections.abc import Callable
from pathlib import Path

import pytest

import cuvee
from adapters.conftest import KINDS, Made, load, logits, relative_error


def merged(made: Made, out: Path, **options: int) -> Path:
    recipe = f"merge_method: passthrough\nmodels: [{{model: '{made.base}+{made.adapter}'}}]\n"
    return cuvee.merge(cuvee.recipe_from_text(recipe), out, **options).folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_written_model_computes_what_peft_does(kind: str, adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters(kind)
    found = logits(load(merged(made, tmp_path / "out")))
    assert relative_error(logits(load(made.base)), made.logits) > 1e-2
    assert relative_error(found, made.logits) < 1e-5
