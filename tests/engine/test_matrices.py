"""Matrix methods and modifiers on whole models: which tensors they take, how they cut them, and with what memory."""

import json
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import MemoryCheckpoint, open_checkpoint
from cuvee.engine.run import run_plan
from cuvee.errors import OutOfBudget, RecipeError
from cuvee.plan import MergeStep, Plan, make_plan
from cuvee.plan.seconds import Rates, forecast_seconds
from cuvee.recipe.reference import ModelRef
from cuvee.testing import TINY_LLAMA, write_model
from plain_methods import PLAIN

from .conftest import EXPERTS

Weights = dict[str, np.ndarray]
SHAPES = {
    "model.embed_tokens.weight": (64, 32),
    "model.layers.0.self_attn.qkv_proj.weight": (64, 32),
    "model.layers.0.self_attn.o_proj.weight": (32, 32),
    "model.layers.0.mlp.experts.gate_up_proj": (3, 32, 40),
    "model.layers.0.mlp.experts.down_proj": (3, 20, 32),
    "model.layers.0.mlp.gate.weight": (3, 32),
    "model.layers.0.input_layernorm.weight": (32,),
    "lm_head.weight": (64, 32),
}
"""A layer with fused attention, and experts stacked as [in, out] with two projections fused."""

CONFIG = TINY_LLAMA | {"num_hidden_layers": 1, "num_local_experts": 3}


def models(count: int = 3) -> tuple[Weights, list[Weights]]:
    generator = np.random.default_rng(0)

    def one(scale: float) -> Weights:
        return {n: (scale * generator.standard_normal(s)).astype(np.float32) for n, s in SHAPES.items()}

    base = one(1.0)
    return base, [{n: base[n] + change for n, change in one(0.05).items()} for _ in range(count)]


def plan_of(text: str) -> Plan:
    base, experts = models()
    sources = {ModelRef("base"): MemoryCheckpoint(base, CONFIG)}
    sources |= {ModelRef(name): MemoryCheckpoint(w, CONFIG) for name, w in zip("abc", experts, strict=True)}
    listed = "models: [{model: a}, {model: b}, {model: c}]\nbase_model: base\n"
    return make_plan(cuvee.recipe_from_text(listed + text), models=sources)


def step(plan: Plan, part: str) -> MergeStep:
    return next(step for step in plan.steps if part in step.name)


def matrices(step: MergeStep) -> list[tuple[int, int]]:
    return step.cut.shapes(step.shape) if step.cut else []


def merged(text: str, tmp_path: Path, **options: object) -> Weights:
    folder = run_plan(plan_of(text), tmp_path / "out", overwrite=True, **options).folder
    written = open_checkpoint(folder)
    return {name: written.read(name) for name in written.tensors}


def test_linear_maps_are_matrices_and_nothing_else_is() -> None:
    plan = plan_of("merge_method: iso_c")
    assert matrices(step(plan, "qkv_proj")) == [(32, 32), (16, 32), (16, 32)]
    assert matrices(step(plan, "o_proj")) == [(32, 32)]
    assert matrices(step(plan, "gate_up_proj")) == [(20, 32)] * 6
    assert matrices(step(plan, "down_proj")) == [(32, 20)] * 3
    others = [s for s in plan.steps if s.cut is None]
    assert {s.name.split(".")[-2] for s in others} == {"embed_tokens", "gate", "input_layernorm", "lm_head"}
    assert {s.settings["fallback"] for s in others} == {"mean"}


def test_embeddings_and_head_are_matrices_if_asked() -> None:
    plan = plan_of("merge_method: iso_c\nparameters: {include_embeddings: true}")
    assert matrices(step(plan, "embed_tokens")) == [(64, 32)]
    assert matrices(step(plan, "lm_head")) == [(64, 32)]
    assert step(plan, "layernorm").cut is None


@pytest.mark.parametrize("method", [method.key for method in PLAIN.values() if method.kind == "matrix"])
def test_each_projection_and_each_expert_is_merged_by_itself(method: str, tmp_path: Path) -> None:
    base, experts = models()
    out = merged(f"merge_method: {method}", tmp_path)

    def alone(name: str, take: object, *, turned: bool = False) -> np.ndarray:
        parts = [np.ascontiguousarray(w[name][take].T if turned else w[name][take]) for w in (base, *experts)]
        found = cuvee.merge_tensors(method, parts[1:], base=parts[0])
        return found.T if turned else found

    qkv, stack = "model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.experts.gate_up_proj"
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(out[qkv][32:48], alone(qkv, np.s_[32:48]), **close)
    np.testing.assert_allclose(out[stack][1][:, 20:], alone(stack, np.s_[1, :, 20:], turned=True), **close)
    norm = "model.layers.0.input_layernorm.weight"
    np.testing.assert_allclose(out[norm], np.mean([w[norm] for w in experts], axis=0), rtol=1e-6)


def test_weights_without_a_mean_are_refused_in_the_plan() -> None:
    weights = "{filter: gate, value: -1}, {value: 2}"
    text = f"merge_method: iso_c\nparameters: {{weight: [{weights}]}}"
    assert step(plan_of(text), "layernorm").settings["weight"] == (2, 2, 2)
    with pytest.raises(RecipeError, match="no mean"):
        plan_of("merge_method: iso_c\nparameters: {weight: 0}")


def test_too_little_memory_is_refused_with_the_figure(tmp_path: Path) -> None:
    plan = plan_of("merge_method: wudi")
    needed = plan.forecast.least_memory_bytes
    with pytest.raises(OutOfBudget, match=rf"needs {needed / 1e6:.1f} MB"):
        run_plan(plan, tmp_path / "out", memory_bytes=needed // 2)
    assert not (tmp_path / "out").exists()
    assert run_plan(plan, tmp_path / "out", memory_bytes=needed).folder.exists()


def test_larger_matrices_take_longer_and_more_memory() -> None:
    rates = Rates(1e9, 1e-9)
    plan = plan_of("merge_method: iso_c")
    with_embeddings = plan_of("merge_method: iso_c\nparameters: {include_embeddings: true}")
    few, more = forecast_seconds(plan, rates), forecast_seconds(with_embeddings, rates)
    assert few is not None
    assert more is not None
    assert (few.matrices, more.matrices) == (13, 15)
    assert more.total > few.total > few.longest > 0
    assert few.on(2) >= few.total / 2
    assert forecast_seconds(plan_of("merge_method: task_arithmetic\nparameters: {weight: 1}"), rates) is None


@pytest.mark.parametrize("method", ["iso_c", "tsv_m", "wudi"])
def test_the_memory_is_as_forecast(method: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    shape = (1600, 900)
    for name in ("base", "a", "b"):
        weights = {"model.layers.0.mlp.up_proj.weight": generator.standard_normal(shape).astype(np.float32)}
        write_model(tmp_path / name, weights, dtype="BF16")
    text = f"merge_method: {method}\nbase_model: {tmp_path}/base\n"
    recipe = cuvee.recipe_from_text(text + f"models: [{{model: {tmp_path}/a}}, {{model: {tmp_path}/b}}]")
    plan = make_plan(recipe)
    figures = run_plan(plan, tmp_path / "out").figures
    assert figures.peak_memory_bytes < plan.forecast.least_memory_bytes


MODIFIED = "merge_method: task_arithmetic\nparameters: {weight: 1}\n"


def test_modifiers_of_matrices_leave_other_tensors_alone(tmp_path: Path) -> None:
    plain = merged(MODIFIED, tmp_path)
    boosted = merged(MODIFIED + "post: [subspace_boost: {beta: 0}]", tmp_path)
    base, _ = models()
    for name in ("model.layers.0.input_layernorm.weight", "lm_head.weight"):
        np.testing.assert_array_equal(boosted[name], plain[name])
    name = "model.layers.0.self_attn.o_proj.weight"
    values = np.linalg.svd(boosted[name] - base[name], compute_uv=False)
    strongest = np.linalg.svd(plain[name] - base[name], compute_uv=False)[0]
    np.testing.assert_allclose(values, strongest, rtol=1e-4)


def test_a_boost_of_nothing_changes_nothing(tmp_path: Path) -> None:
    plain, boosted = merged(MODIFIED, tmp_path), merged(MODIFIED + "post: [subspace_boost: {beta: 1}]", tmp_path)
    for name, array in plain.items():
        np.testing.assert_allclose(boosted[name], array, atol=1e-6)


def test_calibrated_singular_values_are_those_of_the_paper() -> None:
    golden = Path(__file__).parent.parent / "golden"
    given = json.loads((golden / "mergekit.json").read_text())
    wanted = json.loads((golden / "paper.json").read_text())["SVC on sum, alpha .1"]
    name = "layers.0.up_proj.weight"
    base = {name: np.array(given["base"]).reshape(3, 4)}
    experts = [{name: base[name] + np.array(given[f"tau{i}"]).reshape(3, 4)} for i in (1, 2, 3)]
    out = cuvee.merge_state_dicts("task_arithmetic", experts, base=base, weight=1.0, post=[{"svc": {"alpha": 0.1}}])
    np.testing.assert_allclose(out[name] - base[name], np.reshape(wanted, (3, 4)), atol=6e-5)


def test_modifiers_that_scale_see_what_those_of_matrices_made(tmp_path: Path) -> None:
    base, experts = models()
    out = merged(MODIFIED + "post: [svc, norm_match]", tmp_path)
    name = "model.layers.0.self_attn.o_proj.weight"
    norms = [np.linalg.norm(w[name] - base[name]) for w in experts]
    np.testing.assert_allclose(np.linalg.norm(out[name] - base[name]), np.mean(norms), rtol=1e-4)


def test_modifiers_of_matrices_come_first() -> None:
    with pytest.raises(RecipeError, match="'svc' works on matrices, so it comes before 'lines'"):
        plan_of(MODIFIED + "post: [lines, svc]")


def test_a_merge_with_modifiers_of_matrices_depends_on_no_thread_or_chunk(family: Path, tmp_path: Path) -> None:
    experts = ", ".join(f"{{model: {family}/{name}}}" for name in EXPERTS)
    listed = f"models: [{experts}]\nbase_model: {family}/base\n"
    text = listed + "merge_method: ties\nparameters: {weight: 1, density: 0.5}\npost: [svc, subspace_boost, norm_match]"
    digests = {
        run_plan(make_plan(cuvee.recipe_from_text(text)), tmp_path / str(i), **options).digest
        for i, options in enumerate([{}, {"threads": 2}, {"chunk": 1 << 16, "threads": 2}])
    }
    assert len(digests) == 1
