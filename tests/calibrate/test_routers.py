"""Routers of mixtures of experts are solved with the linear maps, so that they choose as each expert's own does."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from calibrate.networks import average, nearby, save, write_rows
from cuvee.api import load_recipe
from cuvee.calibrate.forecast import forecast_alignment
from cuvee.calibrate.outcome import Aligned
from cuvee.calibrate.repair import align
from cuvee.calibrate.settings import Alignment, alignment
from cuvee.evaluation import load_model
from cuvee.plan import make_plan
from evaluation.families import make_network

BY_SOFTMAX = {
    "mixtral": "block_sparse_moe.gate.weight",
    "qwen 3 of experts": "mlp.gate.weight",
    "deepseek 2": "mlp.gate.weight",
    "granite hybrid": "block_sparse_moe.router.layer.weight",
}
NAMES = ("mlp.gate.weight", "router.weight")
"""What routers are called in networks."""

OTHERWISE = {"deepseek 3": "mlp.gate.weight", "gpt-oss": "mlp.router.weight", "llama 4": "feed_forward.router.weight"}
"""They choose by sigmoids, or with a bias beside."""

FULL = alignment("align", mix=0.0, ridge=0.0)


def aligned_blend(family: str, folder: Path, how: Alignment, *, experts: int = 2, threads: int = 1) -> Aligned:
    """Align the average of a base's neighbours with as many of them."""
    base = make_network(family)
    networks = [nearby(base, seed) for seed in (1, 2)]
    save(folder / "merged", average(networks))
    texts = {}
    for seed, network in enumerate(networks[:experts]):
        text = write_rows(folder / f"text-{seed}.jsonl", seed=seed)
        texts[str(save(folder / f"expert-{seed}", network))] = text
    out = folder / f"out-{threads}"
    return align(str(folder / "merged"), out, texts, how, compares=True, threads=threads)


def centred(router: torch.Tensor) -> torch.Tensor:
    """Leave out what is the same for all experts, which changes no choice."""
    return router - router.mean(dim=0)


@pytest.mark.parametrize("family", BY_SOFTMAX)
def test_routers_come_nearer_to_the_experts_choices(family: str, tmp_path: Path) -> None:
    aligned = aligned_blend(family, tmp_path, alignment(ridge=3e-4))
    fits = [
        own for block in aligned.blocks for own in block.maps if own.tensor.endswith(("gate.weight", "router.weight"))
    ]
    rules = {name: rule for name, rule in aligned.rules.items() if name.endswith(BY_SOFTMAX[family])}
    assert len(fits) == len(rules) > 0
    assert set(rules.values()) == {"aligned"}
    for own in fits:
        assert own.before is not None
        assert own.after is not None
        assert own.after < own.before


def test_the_merge_comes_nearer_to_its_experts_than_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aligned = aligned_blend("deepseek 2", tmp_path / "with", alignment())
    monkeypatch.setattr("cuvee.calibrate.block.find_routers", lambda *_: ())
    without = aligned_blend("deepseek 2", tmp_path / "without", alignment())
    ridge = f"{aligned.ridge:g}"
    assert aligned.divergences[ridge] < without.divergences[ridge] < aligned.divergences["before"]


@pytest.mark.parametrize("family", OTHERWISE)
def test_routers_that_choose_otherwise_stay_the_merges(family: str, tmp_path: Path) -> None:
    aligned = aligned_blend(family, tmp_path, alignment(ridge=3e-4))
    rules = {name: rule for name, rule in aligned.rules.items() if name.endswith(OTHERWISE[family])}
    assert set(rules.values()) == {"anchor"}


def test_one_experts_choices_come_back(tmp_path: Path) -> None:
    aligned_blend("mixtral", tmp_path, FULL, experts=1)
    name = "model.layers.0.block_sparse_moe.gate.weight"
    own, wanted, before = (
        centred(load_file(tmp_path / folder / "model.safetensors")[name]) for folder in ("out-1", "expert-0", "merged")
    )
    assert float((own - wanted).abs().max()) < 0.02 * float((before - wanted).abs().max())


def test_threads_change_no_byte(tmp_path: Path) -> None:
    digests = {aligned_blend("mixtral", tmp_path, FULL, threads=threads).result.digest for threads in (1, 2)}
    assert len(digests) == 1


def test_the_plan_says_that_routers_are_aligned(tmp_path: Path) -> None:
    aligned = aligned_blend("mixtral", tmp_path, FULL)
    models = "".join(
        f"  - {{model: {tmp_path}/expert-{number}, text: {tmp_path}/text-{number}.jsonl}}\n" for number in (0, 1)
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"merge_method: linear\nmodels:\n{models}parameters: {{weight: 0.5}}\nalign: {{ridge: 0.0003}}\n")
    assert forecast_alignment(make_plan(load_recipe(recipe))).rules == aligned.rules


def test_an_adapter_of_the_repair_leaves_them_out_and_loads(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    aligned_blend("mixtral", tmp_path, FULL)
    texts = {str(tmp_path / f"expert-{number}"): str(tmp_path / f"text-{number}.jsonl") for number in (0, 1)}
    aligned = align(str(tmp_path / "merged"), tmp_path / "adapter", texts, FULL, adapter_rank=32)
    assert aligned.aligned > 0
    assert {rule for name, rule in aligned.rules.items() if name.endswith(BY_SOFTMAX["mixtral"])} == {"anchor"}
    peft.PeftModel.from_pretrained(load_model(tmp_path / "merged", device="cpu").network, tmp_path / "adapter")
