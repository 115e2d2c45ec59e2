"""Sub-folders with weights: merged like the model and written where they were, or left out by name, or refused."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import open_checkpoint
from cuvee.engine.extract import Extraction, extract
from cuvee.engine.parts import Part, join, run_part
from cuvee.errors import CheckpointError
from cuvee.hub import Hub
from cuvee.plan import Plan, make_plan
from cuvee.submission.lock import locked_files
from cuvee.testing import random_weights, write_model
from cuvee.upcycle import plan_mixture, read_upcycling
from cuvee.verify import verify

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def network(folder: Path, number: float, names: tuple[str, ...] = ("linear.weight", "linear.bias")) -> Path:
    """Write a small network of one number to a sub-folder, with a config that is its own."""
    weights = {name: np.full((4,) if "bias" in name else (4, 16), number, np.float32) for name in names}
    return write_model(folder, weights, config={"in_features": 16})


def sentence_model(folder: Path, seed: int) -> Path:
    write_model(folder, random_weights(seed))
    (folder / "modules.json").write_text(json.dumps(MODULES))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    network(folder / "2_Dense", seed)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [sentence_model(tmp_path / f"m{seed}", seed) for seed in (1, 2)]


def plan_of(*folders: Path, extra: str = "") -> Plan:
    models = "".join(f"- {{model: {folder}, parameters: {{weight: 0.5}}}}\n" for folder in folders)
    return make_plan(cuvee.recipe_from_text(f"merge_method: linear\nmodels:\n{models}{extra}"))


def merged(out: Path, *folders: Path, extra: str = "") -> Path:
    return cuvee.run_plan(plan_of(*folders, extra=extra), out).folder


def numbers(file: Path) -> Mapping[str, float]:
    with open_checkpoint(file) as model:
        return {name: float(model.read(name).mean()) for name in model.tensors}


def copy_into(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for file in source.glob("*.safetensors"):
        (folder / file.name).write_bytes(file.read_bytes())


def test_dense_layers_are_merged_and_written_to_their_sub_folder(models: list[Path], tmp_path: Path) -> None:
    out = merged(tmp_path / "out", *models)
    assert numbers(out / "2_Dense" / "model.safetensors") == {"linear.weight": 1.5, "linear.bias": 1.5}
    for file in ("modules.json", "1_Pooling/config.json", "2_Dense/config.json"):
        assert (out / file).read_bytes() == (models[0] / file).read_bytes()
    assert not any("_Dense" in name for name in open_checkpoint(out / "model.safetensors").tensors)


def test_the_plan_calls_the_tensors_by_their_sub_folder(models: list[Path]) -> None:
    names = [step.name for step in plan_of(*models).steps]
    assert "2_Dense/linear.weight" in names
    assert "model.norm.weight" in names


def test_an_output_with_sub_folders_passes_all_checks(models: list[Path], tmp_path: Path) -> None:
    verification = verify(merged(tmp_path / "out", *models))
    assert verification.failed == ()
    assert {check.name for check in verification.checks if check.state == "passed"} >= {"digest", "shapes", "norms"}


def test_a_change_in_a_sub_folder_changes_the_digest(models: list[Path], tmp_path: Path) -> None:
    out = merged(tmp_path / "out", *models)
    network(tmp_path / "other", 7)
    (tmp_path / "other" / "model.safetensors").replace(out / "2_Dense" / "model.safetensors")
    assert "digest" in [check.name for check in verify(out).failed]


def test_parts_with_sub_folders_are_joined(models: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        run_part(plan_of(*models), out, Part(number, 2), shard_bytes=100)
    join(out)
    index = json.loads((out / "2_Dense" / "model.safetensors.index.json").read_text())
    assert sorted(index["weight_map"]) == ["linear.bias", "linear.weight"]
    assert set(index["weight_map"].values()) == {file.name for file in (out / "2_Dense").glob("*.safetensors")}
    assert not any("/" in name for name in json.loads((out / "model.safetensors.index.json").read_text())["weight_map"])
    with open_checkpoint(out) as whole, open_checkpoint(merged(tmp_path / "whole", *models)) as expected:
        assert {name: whole.read(name).tobytes() for name in whole.tensors} == {
            name: expected.read(name).tobytes() for name in expected.tensors
        }


def test_layers_are_stacked_beside_dense_layers(models: list[Path], tmp_path: Path) -> None:
    slices = "".join(
        f"- sources: [{{model: {model}, layer_range: [{start}, {start + 1}]}}]\n"
        for start, model in ((0, models[0]), (0, models[1]), (1, models[0]))
    )
    recipe = cuvee.recipe_from_text(f"merge_method: passthrough\nslices:\n{slices}")
    out = cuvee.merge(recipe, tmp_path / "out").folder
    assert numbers(out / "2_Dense" / "model.safetensors") == {"linear.weight": 1, "linear.bias": 1}
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 3


def test_emr_rebuilds_a_model_with_sub_folders(models: list[Path], tmp_path: Path) -> None:
    base = sentence_model(tmp_path / "base", 5)
    text = f"merge_method: emr\nbase_model: {base}\nmodels:\n" + "".join(f"- model: {model}\n" for model in models)
    out = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out").folder
    (mask,) = (out / "emr").glob("1-*.safetensors")
    cuvee.rebuild(out, mask, tmp_path / "again", base=base)
    assert numbers(tmp_path / "again" / "2_Dense" / "model.safetensors").keys() == {"linear.weight", "linear.bias"}


def test_a_model_without_the_dense_layer_is_refused_by_its_name(models: list[Path], tmp_path: Path) -> None:
    plain = write_model(tmp_path / "plain", random_weights(3))
    with pytest.raises(CheckpointError, match="2_Dense/linear"):
        plan_of(models[0], plain)


def test_a_network_that_nothing_names_is_merged_where_all_models_have_it(tmp_path: Path) -> None:
    models = [write_model(tmp_path / f"m{seed}", random_weights(seed)) for seed in (1, 2)]
    for number, model in enumerate(models, 1):
        network(model / "projector", number, names=("fc.weight",))
    out = merged(tmp_path / "out", *models)
    assert numbers(out / "projector" / "model.safetensors") == {"fc.weight": 1.5}
    assert verify(out).failed == ()


def test_a_network_that_not_all_models_have_is_left_out_by_name(tmp_path: Path) -> None:
    models = [write_model(tmp_path / f"m{seed}", random_weights(seed)) for seed in (1, 2)]
    network(models[0] / "projector", 1, names=("fc.weight",))
    plan = plan_of(*models)
    assert any("projector/" in note for note in plan.notes)
    assert not (cuvee.run_plan(plan, tmp_path / "out").folder / "projector").exists()


def test_copies_of_the_model_and_adapters_in_sub_folders_are_left_out_though_all_have_them(tmp_path: Path) -> None:
    models = [write_model(tmp_path / f"m{seed}", random_weights(seed)) for seed in (1, 2)]
    for model in models:
        copy_into(model, model / "checkpoint-500")
        network(model / "adapter", 1, names=("lora_A.weight",))
        (model / "adapter" / "adapter_config.json").write_text("{}")
    plan = plan_of(*models)
    assert not any("/" in step.name for step in plan.steps)
    assert any("adapter/, checkpoint-500/" in note for note in plan.notes)


@pytest.mark.parametrize("own", ["model.safetensors", "pytorch_model.bin"])
def test_a_named_part_whose_weights_are_not_read_is_refused(own: str, models: list[Path]) -> None:
    for model in models:
        (model / "2_Dense" / "model.safetensors").rename(model / "2_Dense" / "pytorch_model.bin")
        (model / "model.safetensors").rename(model / own)
    with pytest.raises(CheckpointError, match=r"the weights of 2_Dense/ are not read: .*pytorch_model\.bin"):
        plan_of(*models)


def test_a_transformer_in_a_sub_folder_is_refused_by_its_name(models: list[Path]) -> None:
    for model in models:
        copy_into(model, model / "0_Transformer")
        (model / "config.json").rename(model / "0_Transformer" / "config.json")
        (model / "model.safetensors").unlink()
        (model / "modules.json").write_text(json.dumps([{**MODULES[0], "path": "0_Transformer"}, *MODULES[1:]]))
    with pytest.raises(CheckpointError, match="has a llama in the sub-folder 0_Transformer/"):
        plan_of(*models)


def test_a_pipeline_of_diffusers_is_refused_and_told_its_parts(tmp_path: Path) -> None:
    for name in ("m1", "m2"):
        network(tmp_path / name / "unet", 1)
        (tmp_path / name / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DModel"]}')
    with pytest.raises(CheckpointError, match=r"pipeline of diffusers, by its model_index\.json"):
        plan_of(tmp_path / "m1", tmp_path / "m2")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("modules.json", '[{"path": "0_StaticEmbedding"}]'),
        ("router_config.json", '{"types": {"0_StaticEmbedding": "sentence_transformers.models.StaticEmbedding"}}'),
    ],
)
def test_a_model_of_named_parts_alone_is_merged(file: str, text: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("m1", "m2")]
    for number, folder in enumerate(folders, 1):
        network(folder / "0_StaticEmbedding", number, names=("embedding.weight",))
        (folder / file).write_text(text)
    out = merged(tmp_path / "out", *folders)
    assert numbers(out / "0_StaticEmbedding" / "model.safetensors") == {"embedding.weight": 1.5}
    assert not (out / "model.safetensors").exists()


def test_a_lock_holds_the_weights_of_sub_folders_that_a_merge_reads(models: list[Path]) -> None:
    copy_into(models[0], models[0] / "checkpoint-500")
    network(models[0] / "projector", 1, names=("fc.weight",))
    locked = locked_files(models[0])
    assert {"model.safetensors", "2_Dense/model.safetensors", "2_Dense/config.json", "modules.json"} <= locked.keys()
    assert "projector/model.safetensors" in locked
    assert "checkpoint-500/model.safetensors" not in locked


def test_a_mixture_and_an_adapter_have_no_place_for_sub_folders(models: list[Path], tmp_path: Path) -> None:
    expected = "has weights in sub-folders, 2_Dense/, for which"
    experts = "".join(f"- source_model: {model}\n" for model in models)
    text = f"base_model: {models[0]}\ngate_mode: random\nexperts:\n{experts}"
    (tmp_path / "mixture.yaml").write_text(text)
    recipe, text = read_upcycling(tmp_path / "mixture.yaml")
    with pytest.raises(CheckpointError, match=f"{expected} a mixture"):
        plan_mixture(recipe, text, folder=tmp_path, hub=Hub())
    base, model = map(open_checkpoint, models)
    with pytest.raises(CheckpointError, match=f"{expected} an adapter"):
        extract(model, base, tmp_path / "adapter", Extraction(), names=("m2", "m1"))


def test_an_adapter_is_added_to_a_base_with_sub_folders(models: list[Path], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", random_weights(1))
    tuned = write_model(tmp_path / "tuned", random_weights(4, base=random_weights(1)))
    with open_checkpoint(tuned) as model, open_checkpoint(base) as plain:
        extract(model, plain, tmp_path / "adapter", Extraction(), names=("tuned", "base"))
    text = f"merge_method: passthrough\nmodels: [{{model: {models[0]}+{tmp_path / 'adapter'}}}]\n"
    out = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out").folder
    assert numbers(out / "2_Dense" / "model.safetensors") == {"linear.weight": 1, "linear.bias": 1}
    assert (out / "model.safetensors").is_file()
