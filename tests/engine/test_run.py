"""Whole merges on disk: what is written, what it does not depend on, and what a failure leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.catalogue import registry
from cuvee.checkpoint import open_checkpoint, weights_digest
from cuvee.cli.merge import print_merge
from cuvee.engine.run import run_plan
from cuvee.errors import CheckpointError, CuveeError, OutOfBudget, RecipeError
from cuvee.kernels import BLOCK
from cuvee.plan import make_plan
from cuvee.testing import random_weights, write_model
from plain_methods import PLAIN

from .conftest import CONFIG, EXPERTS

SETTINGS = {"weight": 0.5, "density": 0.4, "t": 0.3}


def recipe(family: Path, method: str, extra: str = "") -> str:
    known = registry()[method]
    experts = EXPERTS[:1] if known.base == "endpoint" else EXPERTS[: known.models[1]]
    base = "" if known.base == "member" else f"base_model: {family}/base\n"
    models = "".join(f"  - model: {family}/{name}\n" for name in experts)
    given = "".join(f"  {name}: {SETTINGS[name]}\n" for name in known.settings if name in SETTINGS)
    return f"merge_method: {method}\n{base}models:\n{models}" + (f"parameters:\n{given}" if given else "") + extra


def merge(family: Path, out: Path, method: str = "ties", extra: str = "", **options: object) -> cuvee.MergeResult:
    return run_plan(make_plan(cuvee.recipe_from_text(recipe(family, method, extra))), out, **options)


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.safetensors")}


@pytest.mark.parametrize("method", sorted(PLAIN))
def test_threads_and_chunks_change_no_byte(family: Path, tmp_path: Path, method: str) -> None:
    first = merge(family, tmp_path / "first", method)
    chunks = [{"chunk": blocks * BLOCK, "threads": 1 + blocks % 2} for blocks in (1, 2, 3, 5, 9)]
    for i, options in enumerate([{"threads": 2}, *chunks]):
        other = merge(family, tmp_path / str(i), method, **options)
        assert other.digest == first.digest
        assert files(other.folder) == files(first.folder)


def test_hash_seeds_change_no_byte(family: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe(family, "dare_ties"))
    code = "import sys, cuvee; print(cuvee.merge(cuvee.load_recipe(sys.argv[1]), sys.argv[2]).digest)"
    digests = set()
    for seed in ("0", "1", "77"):
        command = [sys.executable, "-c", code, str(path), str(tmp_path / f"out{seed}")]
        done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


def test_the_weights_are_those_of_the_merge_done_by_hand(family: Path, tmp_path: Path) -> None:
    result = merge(family, tmp_path / "out", "task_arithmetic", "dtype: float32\n")
    base, *experts = (open_checkpoint(family / name) for name in ("base", *EXPERTS))
    merged = open_checkpoint(result.folder)
    assert set(merged.tensors) == set(base.tensors)
    for name in base.tensors:
        origin = base.read(name).astype(np.float32)
        change = sum(0.5 * (expert.read(name).astype(np.float32) - origin) for expert in experts)
        np.testing.assert_allclose(merged.read(name), origin + change, rtol=1e-6, atol=1e-7)


def test_the_folder_says_where_it_came_from(family: Path, tmp_path: Path) -> None:
    result = merge(family, tmp_path / "out", "ties")
    said = json.loads((result.folder / "cuvee.json").read_text())
    assert said["weights_digest"] == result.digest == weights_digest(result.folder)
    assert said["reproducible"] == "bits"
    assert [entry["model"] for entry in said["inputs"]] == [f"{family}/{n}" for n in ("base", *EXPERTS)]
    assert len(said["inputs"][1]["files"]) > 1
    assert said["tensors"] == 30
    assert said["figures"]["bytes_written"] > 0
    assert 0 < said["figures"]["cast_loss"] < 1
    names = {p.name for p in result.folder.iterdir()}
    assert {"README.md", "recipe.yaml", "mergekit_config.yml", "config.json", "model.safetensors"} <= names
    assert "ties" in (result.folder / "README.md").read_text()


def test_the_digest_does_not_depend_on_sharding(family: Path, tmp_path: Path) -> None:
    whole = merge(family, tmp_path / "whole")
    cut = merge(family, tmp_path / "cut", shard_bytes=30_000)
    assert cut.digest == whole.digest == weights_digest(cut.folder)
    assert (cut.folder / "model.safetensors.index.json").exists()


def test_as_loaded_computes_in_the_models_own_type(family: Path, tmp_path: Path) -> None:
    loaded = merge(family, tmp_path / "loaded", extra="compute_dtype: as_loaded\ndtype: bfloat16\n")
    exact = merge(family, tmp_path / "exact", extra="dtype: bfloat16\n")
    assert loaded.digest != exact.digest
    one, other = open_checkpoint(loaded.folder), open_checkpoint(exact.folder)
    name = "model.layers.0.mlp.up_proj.weight"
    np.testing.assert_allclose(one.read(name).astype(np.float32), other.read(name).astype(np.float32), atol=0.02)


def test_a_folder_can_be_merged_into_once_and_again_only_on_purpose(family: Path, tmp_path: Path) -> None:
    first = merge(family, tmp_path / "out")
    with pytest.raises(RecipeError, match="exists already"):
        merge(family, tmp_path / "out")
    again = merge(family, tmp_path / "out", "linear", overwrite=True)
    assert again.digest != first.digest
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(RecipeError, match="not a folder that a merge wrote"):
        merge(family, tmp_path / "precious", overwrite=True)
    assert (tmp_path / "precious" / "thesis.txt").exists()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("computed", ["float32", "as_loaded"])
@pytest.mark.parametrize("method", sorted(PLAIN))
def test_a_number_that_is_not_finite_stops_the_merge_and_leaves_nothing(
    family: Path, tmp_path: Path, method: str, computed: str, value: float
) -> None:
    weights = random_weights(1, config=CONFIG)
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    write_model(tmp_path / "broken", weights, config=CONFIG, dtype="BF16")
    text = recipe(family, method).replace(f"{family}/{EXPERTS[0]}", f"{tmp_path}/broken")
    text += f"compute_dtype: {computed}\n"
    with pytest.raises(CheckpointError, match=rf"up_proj.weight' holds {value} at element 100") as stopped:
        cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out")
    assert "broken" in str(stopped.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken"]


def test_a_number_that_is_not_finite_passes_if_asked_for(family: Path, tmp_path: Path) -> None:
    weights = random_weights(1, config=CONFIG)
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    write_model(tmp_path / "broken", weights, config=CONFIG, dtype="BF16")
    text = recipe(family, "ties").replace(f"{family}/e1", f"{tmp_path}/broken")
    allowed = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out", allow_nonfinite=True)
    assert allowed.folder.exists()


def test_a_result_too_large_for_its_type_stops_the_merge(family: Path, tmp_path: Path) -> None:
    text = recipe(family, "task_arithmetic").replace("weight: 0.5", "weight: 1.0e+8") + "dtype: float16\n"
    with pytest.raises(CuveeError, match="does not fit F16"):
        cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_integers_are_copied_if_equal_and_refused_if_not(tmp_path: Path) -> None:
    for name, positions in (("a", [0, 1, 2]), ("b", [0, 1, 2]), ("c", [5, 1, 2])):
        write_model(tmp_path / name, {**random_weights(0), "model.position_ids": np.array(positions)})

    def average(first: str, second: str) -> str:
        models = f"[{{model: {tmp_path}/{first}}}, {{model: {tmp_path}/{second}}}]"
        return f"merge_method: linear\nmodels: {models}\nparameters: {{weight: 1}}\n"

    same = cuvee.merge(cuvee.recipe_from_text(average("a", "b")), tmp_path / "out")
    np.testing.assert_array_equal(open_checkpoint(same.folder).read("model.position_ids"), [0, 1, 2])
    with pytest.raises(CheckpointError, match="the inputs differ"):
        cuvee.merge(cuvee.recipe_from_text(average("a", "c")), tmp_path / "other")


def test_too_little_memory_is_refused_with_the_figure_needed(family: Path, tmp_path: Path) -> None:
    with pytest.raises(OutOfBudget, match=r"needs [\d.]+ MB"):
        merge(family, tmp_path / "out", memory_bytes=1000)
    assert not (tmp_path / "out").exists()


def test_slices_stack_layers_in_the_order_of_the_recipe(family: Path, tmp_path: Path) -> None:
    text = f"""
merge_method: passthrough
slices:
  - sources: [{{model: {family}/base, layer_range: [0, 2]}}]
  - sources: [{{model: {family}/e1, layer_range: [1, 3]}}]
"""
    result = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out")
    merged, expert = open_checkpoint(result.folder), open_checkpoint(family / "e1")
    assert merged.config["num_hidden_layers"] == 4
    taken = merged.read("model.layers.3.mlp.up_proj.weight")
    assert taken.tobytes() == expert.read("model.layers.2.mlp.up_proj.weight").tobytes()


def test_an_empty_tensor_and_a_scalar_pass_through(tmp_path: Path) -> None:
    for i in (0, 1):
        write_model(tmp_path / f"m{i}", {"empty": np.zeros((0, 3), np.float32), "scale": np.array(float(i))})
    models = f"[{{model: {tmp_path}/m0}}, {{model: {tmp_path}/m1}}]"
    text = f"merge_method: linear\nmodels: {models}\nparameters: {{weight: 1}}\n"
    merged = open_checkpoint(cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out").folder)
    assert merged.read("empty").shape == (0, 3)
    assert merged.read("scale") == 0.5


def test_random_rounding_does_not_depend_on_chunks_and_threads(family: Path, tmp_path: Path) -> None:
    extra = "rounding: stochastic\nseed: 3\n"
    first = merge(family, tmp_path / "first", extra=extra)
    assert first.digest != merge(family, tmp_path / "nearest", extra="seed: 3\n").digest
    for i, options in enumerate([{"threads": 2}, {"chunk": BLOCK}]):
        assert merge(family, tmp_path / str(i), extra=extra, **options).digest == first.digest
    assert not (first.folder / "mergekit_config.yml").exists()


@pytest.mark.parametrize("method", ["ties", "localize_stitch", "pcb", "ramplus_tl"])
def test_what_counts_for_the_whole_model_is_that_of_its_tensors_laid_end_to_end(tmp_path: Path, method: str) -> None:
    generator = np.random.default_rng(0)
    models = {
        name: {"a": generator.standard_normal((7, 9), np.float32), "b": generator.standard_normal(50, np.float32)}
        for name in ("base", *EXPERTS)
    }
    for name, weights in models.items():
        write_model(tmp_path / name, weights, dtype="F32")
    out = merge(tmp_path, tmp_path / "out", method, "semantics: paper\n", threads=2).folder
    merged = open_checkpoint(out)
    base, *experts = (np.concatenate([weights["a"].ravel(), weights["b"]]) for weights in models.values())
    given = {name: value for name, value in SETTINGS.items() if name in registry()[method].settings}
    whole = cuvee.merge_tensors(method, experts, base=base, semantics="paper", **given)
    np.testing.assert_array_equal(np.concatenate([merged.read("a").ravel(), merged.read("b")]), whole)


def test_a_number_that_is_not_finite_passes_if_allowed(family: Path, tmp_path: Path) -> None:
    weights = random_weights(1, config=CONFIG)
    weights["model.norm.weight"][3] = np.nan
    write_model(tmp_path / "broken", weights, config=CONFIG, dtype="BF16")
    text = recipe(family, "ties").replace(f"{family}/e1", f"{tmp_path}/broken")
    merged = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out", allow_nonfinite=True)
    norm = open_checkpoint(merged.folder).read("model.norm.weight").astype(np.float32)
    assert np.flatnonzero(np.isnan(norm)).tolist() == [3]


def test_lambda_without_a_base_is_refused(family: Path, tmp_path: Path) -> None:
    text = recipe(family, "geometric_median").replace(f"base_model: {family}/base\n", "") + "  lambda: 1.5\n"
    with pytest.raises(RecipeError, match="'lambda' needs a base_model"):
        cuvee.merge(
            cuvee.recipe_from_text(text.replace("parameters:\n", "parameters:\n  scope: tensor\n")), tmp_path / "out"
        )


def test_whole_model_methods_need_the_same_models_in_every_slice(family: Path, tmp_path: Path) -> None:
    def part(first: str, second: str, layers: str) -> str:
        sources = "".join(f"      - {{model: {family}/{m}, layer_range: {layers}}}\n" for m in (first, second, "base"))
        return f"  - sources:\n{sources}"

    text = (
        f"merge_method: ties\nsemantics: paper\nbase_model: {family}/base\nslices:\n"
        + part("e0", "e1", "[0, 1]") + part("e1", "e0", "[1, 3]")
        + "parameters: {weight: 1, density: 0.1}\n"
    )  # fmt: skip
    with pytest.raises(RecipeError, match="the slices do not name the same ones"):
        make_plan(cuvee.recipe_from_text(text))


def test_one_place_written_two_ways_is_refused(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(family)
    text = "merge_method: linear\nmodels: [{model: e0}, {model: ./e0}]\nparameters: {weight: 1}\n"
    with pytest.raises(RecipeError, match="are the same place"):
        make_plan(cuvee.recipe_from_text(text))


def test_a_filter_that_no_tensor_has_is_told(family: Path) -> None:
    weight = "[{filter: slef_attn, value: 0.2}, {value: 1}]"
    models = f"models: [{{model: {family}/e0}}, {{model: {family}/e1}}]"
    plan = make_plan(cuvee.recipe_from_text(f"merge_method: linear\n{models}\nparameters: {{weight: {weight}}}\n"))
    assert "'slef_attn' of 'weight' is in no tensor's name; did you mean 'self_attn'" in plan.warnings[0]


def test_an_adapter_is_not_taken_for_a_model(tmp_path: Path) -> None:
    write_model(tmp_path / "adapter", {"base_model.model.q_proj.lora_A.weight": np.ones((2, 4), np.float32)})
    text = f"merge_method: linear\nmodels: [{{model: {tmp_path}/adapter}}]\nparameters: {{weight: 1}}\n"
    with pytest.raises(CheckpointError, match="an adapter"):
        make_plan(cuvee.recipe_from_text(text))


def test_only_known_companions_come_along_with_a_single_file(tmp_path: Path) -> None:
    for name in ("tax-return.txt", "tokenizer.json", "generation_config.json"):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / name).write_text("{}")
    for i in (0, 1):
        folder = write_model(tmp_path / f"m{i}", random_weights(i))
        (folder / "model.safetensors").rename(tmp_path / "models" / f"{i}.safetensors")
    files = [f"{{model: {tmp_path}/models/{i}.safetensors}}" for i in (0, 1)]
    text = f"merge_method: linear\nmodels: [{', '.join(files)}]\nparameters: {{weight: 1}}\n"
    out = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out").folder
    assert {"tokenizer.json", "generation_config.json"} <= {path.name for path in out.iterdir()}
    assert not (out / "tax-return.txt").exists()


def test_compiling_is_told_apart_from_merging(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    native = pytest.importorskip("cuvee.kernels.fused.native")
    monkeypatch.setattr(native, "_folders", lambda: (tmp_path / "kernels",))
    monkeypatch.setattr(native, "_functions", {})
    monkeypatch.setattr("cuvee.kernels.fused.compiled", lambda: True)  # the common ones are compiled as they are used
    first = merge(family, tmp_path / "first", "linear")
    again = merge(family, tmp_path / "again", "linear")
    assert first.figures.compile_seconds > first.figures.seconds > 0
    assert again.figures.compile_seconds == 0
    for result in (first, again):
        print_merge(result, as_json=False)
    told = [line for line in capsys.readouterr().err.splitlines() if "compile" in line]
    assert told == [f"besides, {first.figures.compile_seconds:.1f} s to compile kernels for this machine, once"]


def test_what_was_decided_is_a_note_and_what_may_be_lost_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = random_weights(0)
    for name, added in (("a", {}), ("b", {"extra.weight": whole["model.norm.weight"]})):
        write_model(tmp_path / name, {**whole, **added})
    more = tmp_path / "c"
    write_model(more, {name: array for name, array in whole.items() if name != "lm_head.weight"})
    models = "".join(f"  - model: {tmp_path / name}\n" for name in "abc")
    text = f"merge_method: linear\nmodels:\n{models}parameters: {{weight: 1}}\nmissing: base\n"
    result = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "cuvee.json").read_text())
    print_merge(result, as_json=False)
    printed = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in printed if line.startswith("warning: ")] == record["warnings"]
    assert [line.partition(": ")[2] for line in printed if line.startswith("note: ")] == record["notes"]
    assert record["warnings"] == [f"tensors that only {tmp_path / 'b'} has are left out (1 tensor)"]
    assert record["notes"] == [f"tensors that {tmp_path / 'c'} lacks are taken from {tmp_path / 'a'} (1 tensor)"]
    assert (result.warnings, result.notes) == (tuple(record["warnings"]), tuple(record["notes"]))
