"""Two random recipes of each method, merged as mergekit merges them; `make parity` merges forty of each."""

from pathlib import Path

import pytest

from parity.compare import BFLOAT16_BAR, FLOAT32_BAR, compared
from parity.conftest import Draw
from parity.recipes import DRAWN, Loaded
from parity.run import Answers, merge_here, plan_of
from parity.table import rows


@pytest.mark.parametrize("loaded", ["fp32", "bf16"])
@pytest.mark.parametrize("key", DRAWN)
def test_a_merge_computed_as_loaded_is_that_of_mergekit(
    key: str, loaded: Loaded, answers: Answers, drawn: Draw, tmp_path: Path
) -> None:
    case = drawn(key, loaded)
    plan = plan_of(case, "as_loaded")
    plain, reference = (answers.merged(case, reference=which) for which in (False, True))
    found = compared(plan, merge_here(plan, tmp_path / "merged"), plain, reference)
    bar = {"F32": FLOAT32_BAR, "BF16": BFLOAT16_BAR}
    assert {each.name: each.worst for each in found if each.worst > bar[each.loaded]} == {}


@pytest.mark.parametrize("loaded", ["fp32", "bf16"])
def test_merges_by_default_are_nearer_to_the_exact_results_than_mergekits(
    loaded: Loaded, answers: Answers, drawn: Draw, tmp_path: Path
) -> None:
    found = rows([drawn(key, loaded) for key in DRAWN], answers, tmp_path).values()
    assert sum(row.ours.squares for row in found) < sum(row.theirs.squares for row in found)
