"""A merge with `out_dtype: fp8` writes what `cuvee export fp8` makes of the merge in bfloat16."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cuvee
from cuvee.calibrate.repair import merge_aligned
from cuvee.checkpoint import open_checkpoint
from cuvee.engine.journal import read_journal
from cuvee.engine.workers import Workers
from cuvee.errors import MethodError, RecipeError
from cuvee.export.eight_bits import export_fp8
from cuvee.plan.eight_bits import FORMS, SCALE
from cuvee.progress import Silent
from cuvee.testing import write_model
from cuvee.verify import verify

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "vocab_size": 160}
SHAPES = {"self_attn.q_proj": (256, 384), "self_attn.o_proj": (384, 256), "mlp.up_proj": (100, 384), "norm": (384,)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    generator = np.random.default_rng(0)
    for name in ("base", "a", "b"):
        weights = {"model.embed_tokens.weight": generator.standard_normal((160, 384), np.float32)}
        for layer in range(2):
            for module, shape in SHAPES.items():
                weights[f"model.layers.{layer}.{module}.weight"] = generator.standard_normal(shape, np.float32)
        weights["model.layers.1.self_attn.q_proj.weight"][:128, :128] *= 0
        write_model(root / name, weights, dtype="BF16", config=CONFIG)
    return root


def recipe(models: Path, method: str = "ties", rest: str = "out_dtype: fp8\n") -> cuvee.Recipe:
    return cuvee.recipe_from_text(recipe_text(models, rest, method))


def recipe_text(models: Path, rest: str, method: str = "ties") -> str:
    inputs = f"base_model: {models}/base\nmodels: [{{model: {models}/a}}, {{model: {models}/b}}]\n"
    thinning = "" if method == "task_arithmetic" else ", density: 0.4"
    return f"merge_method: {method}\n{inputs}parameters: {{weight: 0.6{thinning}}}\n{rest}"


def tensors(folder: Path) -> dict[str, Any]:
    with open_checkpoint(folder) as source:
        return {name: (spec.dtype, source.read(name).tobytes()) for name, spec in source.tensors.items()}


@pytest.mark.parametrize("method", ["task_arithmetic", "ties"])
@pytest.mark.parametrize("options", [{}, {"threads": 2, "chunk": 4096}], ids=["whole", "in small chunks"])
@pytest.mark.parametrize("out_dtype", FORMS)
def test_it_is_the_export_of_the_merge_in_bfloat16(models, tmp_path, method, options, out_dtype):
    made = cuvee.merge(recipe(models, method, f"out_dtype: {out_dtype}\n"), tmp_path / "coded", **options)
    cuvee.merge(recipe(models, method, "out_dtype: bfloat16\n"), tmp_path / "plain")
    exported = export_fp8(tmp_path / "plain", tmp_path / "exported", FORMS[out_dtype])
    assert tensors(made.folder) == tensors(exported.folder)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (made.folder, exported.folder)]
    assert configs[0] == configs[1]
    assert exported.matrices == 4
    assert made.notes[-1] == (
        f"eight bits lost {exported.loss:.2%} of the norm of the 4 matrices in them; "
        f"most {exported.largest_loss:.2%}, of {exported.worst}"
    )
    losses = json.loads((made.folder / "cuvee.json").read_text())["eight_bits"]
    assert losses[exported.worst] == pytest.approx(exported.largest_loss)


def test_it_is_verified_and_read_again(models, tmp_path):
    folder = cuvee.merge(recipe(models), tmp_path / "coded").folder
    states = {check.name: check.state for check in verify(folder).checks}
    assert {states[name] for name in ("digest", "finite", "counts", "shapes", "parents", "norms")} == {"passed"}
    again = f"merge_method: passthrough\nmodels: [{{model: {folder}}}]\n"
    back = tensors(cuvee.merge(cuvee.recipe_from_text(again), tmp_path / "again").folder)
    assert back["model.layers.0.self_attn.q_proj.weight"][0] == "BF16"


class Stopping(Silent):
    """Progress that stops the merge once so many tensors are finished."""

    def __init__(self, out: Path, after: int, journal: str = "journal.jsonl") -> None:
        self.journal = out.parent / f".{out.name}.partial" / journal
        self.after = after

    def advance(self, amount: int) -> None:
        if len(read_journal(self.journal).finished) >= self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 4, 9])
@pytest.mark.parametrize("loses_scales", [False, True])
def test_a_stopped_merge_goes_on(models, tmp_path, after, loses_scales):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        cuvee.merge(recipe(models), out, progress=Stopping(out, after))
    journal = tmp_path / ".out.partial" / "journal.jsonl"
    if loses_scales:
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(line for line in lines if "_scale_inv" not in line))
    resumed = cuvee.merge(recipe(models), out)
    whole = cuvee.merge(recipe(models), tmp_path / "whole")
    assert tensors(out) == tensors(tmp_path / "whole")
    assert (resumed.digest, resumed.notes) == (whole.digest, whole.notes)
    assert resumed.figures.cast_loss == whole.figures.cast_loss


@pytest.mark.parametrize("out_dtype", FORMS)
@pytest.mark.parametrize(("count", "shard_bytes"), [(2, 200_000), (5, 40_000)])
def test_parts_are_joined_to_the_whole_though_codes_and_scales_lie_in_other_files(
    models, tmp_path, out_dtype, count, shard_bytes
):
    wanted = recipe(models, rest=f"out_dtype: {out_dtype}\n")
    whole = cuvee.merge(wanted, tmp_path / "whole", shard_bytes=shard_bytes)
    ending = SCALE[FORMS[out_dtype]]
    index = json.loads((whole.folder / "model.safetensors.index.json").read_text())["weight_map"]
    if shard_bytes == 40_000:
        assert any(file != index[name.removesuffix(ending)] for name, file in index.items() if name.endswith(ending))
    for number in range(count, 0, -1):
        cuvee.merge_part(wanted, tmp_path / "out", cuvee.Part(number, count), shard_bytes=shard_bytes)
    joined = cuvee.join(tmp_path / "out")
    assert tensors(joined.folder) == tensors(whole.folder)
    assert (joined.digest, joined.notes) == (whole.digest, whole.notes)
    assert joined.figures.cast_loss == whole.figures.cast_loss
    records = [json.loads((folder / "cuvee.json").read_text()) for folder in (joined.folder, whole.folder)]
    assert records[0]["eight_bits"] == records[1]["eight_bits"] != {}
    assert {check.state for check in verify(joined.folder).checks if check.name == "digest"} == {"passed"}


def test_a_stopped_part_goes_on(models, tmp_path):
    part, out = cuvee.Part(1, 2), tmp_path / "out"
    whole = cuvee.merge(recipe(models), tmp_path / "whole", shard_bytes=40_000)
    stopping = Stopping(out, 2, "journal-1-of-2.jsonl")
    with pytest.raises(KeyboardInterrupt):
        cuvee.merge_part(recipe(models), out, part, shard_bytes=40_000, progress=stopping)
    for each in (part, cuvee.Part(2, 2)):
        cuvee.merge_part(recipe(models), out, each, shard_bytes=40_000)
    assert tensors(cuvee.join(out).folder) == tensors(whole.folder)


def test_a_number_that_is_not_finite_is_refused_though_others_may_pass(models, tmp_path):
    weights = {"model.layers.0.self_attn.q_proj.weight": np.full((128, 128), np.inf, np.float32)}
    write_model(tmp_path / "a", weights, dtype="BF16", config=CONFIG)
    text = f"merge_method: linear\nmodels: [{{model: {tmp_path}/a, parameters: {{weight: 1}}}}]\nout_dtype: fp8\n"
    with pytest.raises(MethodError, match="one scale for its whole block"):
        cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out", allow_nonfinite=True)
    assert not (tmp_path / "out").exists()


def test_the_plan_counts_what_is_written(models, tmp_path):
    plan = cuvee.make_plan(recipe(models))
    made = cuvee.run_plan(plan, tmp_path / "out")
    data = sum(len(content) for _, content in tensors(made.folder).values())
    assert plan.forecast.bytes_written == data


def test_it_is_refused_where_it_cannot_be_written(models, tmp_path):
    narrow = {"model.layers.0.mlp.up_proj.weight": np.ones((100, 100), np.float32)}
    write_model(tmp_path / "narrow", narrow, dtype="BF16", config=CONFIG)
    text = f"merge_method: linear\nmodels: [{{model: {tmp_path}/narrow, parameters: {{weight: 1}}}}]\nout_dtype: fp8\n"
    with pytest.raises(RecipeError, match="no layer has a matrix of whole blocks of 128"):
        cuvee.make_plan(cuvee.recipe_from_text(text))
    with pytest.raises(RecipeError, match="is for one merge"):
        cuvee.merge_together({"a": recipe(models)}, tmp_path / "out")
    first = recipe_text(models, "out_dtype: fp8\nname: first\n")
    second = "merge_method: linear\nmodels: [{model: first, parameters: {weight: 1}}]\n"
    (tmp_path / "stages.yaml").write_text(f"{first}---\n{second}")
    with pytest.raises(RecipeError, match="is for the last recipe"):
        cuvee.merge_stages(tmp_path / "stages.yaml", tmp_path / "out")
    with pytest.raises(RecipeError, match="'align' repairs numbers"):
        merge_aligned(recipe(models), tmp_path / "out")
    with pytest.raises(RecipeError, match="is for folders"):
        Workers(cuvee.make_plan(recipe(models)), cuvee.Options()).run_all(lambda name, start, data: None)
    assert not (tmp_path / "out").exists()
