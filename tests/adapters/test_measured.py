"""What the page of adapters shows, measured anew: apply, combine and extract of every kind, against PEFT's forward."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.conftest import KINDS, Made, load, logits, relative_error
from adapters.kinds_of_peft import VARIANTS, train
from adapters.measured import RECORD, compared

TOLERANCE = 1e-5
ROWS = json.loads(RECORD.read_text(encoding="utf-8"))
OTHERS = {
    f"{kind} {variant}".strip(): (kind, settings)
    for kind, variants in VARIANTS.items()
    for variant, settings in variants.items()
}


@pytest.mark.parametrize("name", KINDS)
def test_lora_and_its_options_are_as_the_page_says(name: str, adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters(name)
    assert relative_error(logits(load(made.base)), made.logits) > 1e-2 or "layer_replication" in KINDS[name][1]
    assert_as_recorded(compared(made, tmp_path), ROWS["lora"][name])


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_are_as_the_page_says(name: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    kind, settings = OTHERS[name]
    made = train(bases("biased"), tmp_path / "adapter", kind, settings)
    assert relative_error(logits(load(made.base)), made.logits) > 1e-3
    assert_as_recorded(compared(made, tmp_path), ROWS["kinds"][name])


def assert_as_recorded(found: dict[str, str], recorded: dict[str, str]) -> None:
    """Compare refusals word by word, and errors with the tolerance: their last bits hang on the processor."""
    for column, value in recorded.items():
        if value.startswith("refused"):
            assert found[column] == value
        else:
            assert float(found[column]) <= TOLERANCE


def test_the_page_shows_what_these_tests_hold() -> None:
    assert set(ROWS["kinds"]) == set(OTHERS)
    assert set(ROWS["lora"]) == set(KINDS)
    assert all(float(row["apply"]) <= TOLERANCE for rows in (ROWS["kinds"], ROWS["lora"]) for row in rows.values())
