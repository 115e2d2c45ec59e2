"""Two random recipes of each method, merged as mergekit merges them; `make parity` merges forty of each."""

from pathlib import Path

import pytest

from parity.compare import BFLOAT16_BAR, FLOAT32_BAR, ROUNDS_LESS, compared
from parity.conftest import Draw
from parity.recipes import DRAWN, Loaded
from parity.run import Answers, merge_here, plan_of
from parity.table import Nearness, rows

HELD_TO_THE_BAR = [
    (key, loaded) for key in DRAWN for loaded in ("fp32", "bf16") if loaded == "fp32" or key not in ROUNDS_LESS
]


@pytest.mark.parametrize(("key", "loaded"), HELD_TO_THE_BAR)
def test_a_merge_computed_as_loaded_is_that_of_mergekit(
    key: str, loaded: Loaded, answers: Answers, drawn: Draw, tmp_path: Path
) -> None:
    case = drawn(key, loaded)
    plan = plan_of(case, "as_loaded")
    plain, reference = (answers.merged(case, reference=which) for which in (False, True))
    found = compared(plan, merge_here(plan, tmp_path / "merged"), plain, reference)
    bar = {"F32": FLOAT32_BAR, "BF16": BFLOAT16_BAR}
    assert {each.name: each.worst for each in found if each.worst > bar[each.loaded]} == {}


@pytest.mark.parametrize("key", ROUNDS_LESS)
def test_what_rounds_less_than_mergekit_is_nearer_to_the_exact_result(
    key: str, answers: Answers, drawn: Draw, tmp_path: Path
) -> None:
    case = drawn(key, "bf16")
    plan, nearness = plan_of(case, "as_loaded"), Nearness()
    nearness.add(plan, merge_here(plan, tmp_path / "merged"), answers.merged(case, reference=True))
    assert nearness.ours.count > 0
    assert nearness.holds


@pytest.mark.parametrize("loaded", ["fp32", "bf16"])
def test_merges_by_default_are_nearer_to_the_exact_results_than_mergekits(
    loaded: Loaded, answers: Answers, drawn: Draw, tmp_path: Path
) -> None:
    found = rows([drawn(key, loaded) for key in DRAWN], answers, tmp_path).values()
    assert sum(row.ours.squares for row in found) < sum(row.theirs.squares for row in found)
