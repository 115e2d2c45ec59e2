"""Adapters whose change is only known with their base: DoRA, other kinds than LoRA, experts; combined and compared."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cuvee
from adapters.conftest import Made, load, logits, peft_logits, relative_error, torch
from adapters.kinds_of_peft import VARIANTS, train
from adapters.test_adapted import merged
from adapters.test_experts import rewritten
from cuvee.adapters.low_rank import Wanted
from cuvee.comparison.adapters import compare_adapters
from cuvee.engine.combine import How
from cuvee.errors import CheckpointError, RecipeError

EXACT = How(wanted=Wanted(energy=1.0))
STACKS = (
    "parameters",
    "parameters of square gpt-oss",
    "parameters of mixtral",
    "parameters of qwen3-moe",
    "parameters of qwen3.5-moe",
    "ranks by parameter",
    "square matrices alone, square qwen3-moe",
)
OF_ANY_RANK = ("dora", "dora and embeddings", "dora and fan_in_fan_out")


def combined(made: list[Made], weights: list[float], out: Path, how: How = EXACT) -> Path:
    folders = [one.adapter for one in made]
    return cuvee.combine_adapters(folders, weights, out, how, base=made[0].base).folder


@pytest.mark.parametrize("kind", [*STACKS, *OF_ANY_RANK])
def test_one_alone_stays_what_it_is(kind: str, adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters(kind)
    folder = combined([made], [1.0], tmp_path / "one")
    again = merged(Made(made.base, folder, made.logits), tmp_path / "out")
    assert relative_error(peft_logits(made.base, folder), made.logits) < 1e-5
    assert relative_error(logits(load(again)), made.logits) < 1e-5


@pytest.mark.parametrize("kind", ["parameters of mixtral", "parameters", "dora"])
def test_a_sum_of_two_is_that_of_the_changed_models(kind: str, adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = [adapters(kind, seed) for seed in (0, 1)]
    both = combined(made, [0.7, -0.4], tmp_path / "both")
    whole = [str(merged(one, tmp_path / str(i))) for i, one in enumerate(made)]
    base = made[0].base
    models = [{"model": m, "parameters": {"weight": w}} for m, w in zip(whole, (0.7, -0.4), strict=True)]
    recipe = cuvee.recipe_from_text(
        f"merge_method: task_arithmetic\nbase_model: {base}\nmodels: {models}\nout_dtype: float32"
    )
    expected = logits(load(cuvee.merge(recipe, tmp_path / "merged").folder))
    assert relative_error(peft_logits(base, both), expected) < 1e-5


@pytest.mark.parametrize("space", ["core", "knots", "dense"])
@pytest.mark.parametrize("method", ["task_arithmetic", "iso_c"])
def test_experts_are_merged_one_by_one_in_every_space(
    space: str, method: str, adapters: Callable[..., Made], tmp_path: Path
) -> None:
    made = [adapters("parameters of mixtral", seed) for seed in (0, 1)]
    how = How(method, space, Wanted(energy=1.0))  # type: ignore[arg-type]  # one of the three
    folder = combined(made, [1.0, 1.0], tmp_path / space, how)
    found = compare_adapters([folder, folder], base=made[0].base)
    assert found.adapters[0].norm > 0
    assert len([m for m in found.modules if ".experts." in m.module]) == 2 * 2 * 4


def test_factors_of_other_releases_are_brought_to_one_layout(adapters: Callable[..., Made], tmp_path: Path) -> None:
    kind = "square matrices alone, square qwen3-moe"
    made, other = adapters(kind), adapters(kind, 1)
    older = rewritten(other, tmp_path / "older", "0.18.1", swapped=True)
    folders = [combined([made, one], [1.0, 1.0], tmp_path / str(i)) for i, one in enumerate((other, older))]
    assert relative_error(peft_logits(made.base, folders[0]), peft_logits(made.base, folders[1])) < 1e-5


@pytest.mark.parametrize("kind", ["IA3", "LOHA", "LN_TUNING", "BEFT", "GLORA", "TRAINABLE_TOKENS", "OFT"])
def test_other_kinds_become_lora(kind: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    made = train(bases("biased"), tmp_path / "adapter", kind, VARIANTS[kind][""])
    folder = combined([made], [1.0], tmp_path / "one")
    assert relative_error(peft_logits(made.base, folder), made.logits) < 1e-5


def test_changes_of_any_rank_need_a_wish_for_the_rank(adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters("dora")
    with pytest.raises(RecipeError, match="changes of any rank") as caught:
        combined([made], [1.0], tmp_path / "one", How())
    assert "--energy 1" in str(caught.value)
    with pytest.raises(RecipeError, match="have no place in the core space"):
        combined([made], [1.0], tmp_path / "one", How(space="core", wanted=Wanted(rank=4)))
    assert not (tmp_path / "one").exists()


def test_without_a_base_they_are_refused(adapters: Callable[..., Made]) -> None:
    for kind in ("dora", "parameters"):
        folder = adapters(kind).adapter
        with pytest.raises(CheckpointError, match="only known with its base"):
            compare_adapters([folder, folder])


@pytest.mark.parametrize("kind", ["parameters", "parameters of mixtral", "dora", "dora and fan_in_fan_out"])
def test_figures_are_those_of_the_changed_models(kind: str, adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = [adapters(kind, seed) for seed in (0, 1)]
    found = compare_adapters([one.adapter for one in made], base=made[0].base)
    base = load(made[0].base).state_dict()
    changes = []
    for i, one in enumerate(made):
        whole = load(merged(one, tmp_path / str(i))).state_dict()
        changes.append(torch.cat([(whole[name] - base[name]).double().reshape(-1) for name in base]).numpy())
    norms = [float(np.linalg.norm(change)) for change in changes]
    assert [one.norm for one in found.adapters] == pytest.approx(norms, rel=1e-5)
    assert found.pairs[0].cosine == pytest.approx(changes[0] @ changes[1] / norms[0] / norms[1], abs=1e-5)
