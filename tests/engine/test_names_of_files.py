"""Weights under other names than transformers': they are read, and the output has the names that they have."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.naming import FileNames
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out
from cuvee.engine.parts import Part, join, run_part
from cuvee.plan import Plan, make_plan
from cuvee.testing import random_weights, write_model
from cuvee.verify import verify

UNET = {"_class_name": "UNet2DModel", "_diffusers_version": "0.42.1"}
DIFFUSERS = "diffusion_pytorch_model"
TYPES = {"F32": np.float32, "F16": np.float16}


def shard_bytes_of(folder: Path) -> int:
    """One tensor a file, if the folder's name says so."""
    return 1 if folder.name == "sharded" else 1 << 30


def write(folder: Path, names: FileNames, number: float, config: Mapping[str, Any], dtype: str = "F32") -> Path:
    """Write two tensors of one number."""
    tensors = [OutputTensor("conv_in.weight", dtype, (8, 4)), OutputTensor("conv_out.weight", dtype, (4, 8))]
    with CheckpointWriter(folder, lay_out(tensors, shard_bytes_of(folder), {"": names})) as writer:
        for tensor in tensors:
            writer.write(tensor.name, 0, np.full(tensor.elements, number, TYPES[dtype]))
        writer.write_file("config.json", json.dumps(config))
        writer.finish()
    return folder


def plan_of(*folders: Path, extra: str = "") -> Plan:
    models = "".join(f"- {{model: {folder}, parameters: {{weight: 0.5}}}}\n" for folder in folders)
    return make_plan(cuvee.recipe_from_text(f"merge_method: linear\nmodels:\n{models}{extra}"))


def weights_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if "safetensors" in file.name)


@pytest.mark.parametrize(
    ("names", "config"),
    [
        (FileNames(DIFFUSERS), UNET),
        (FileNames(DIFFUSERS, "fp16"), UNET),
        (FileNames("model", "fp16"), {}),
        (FileNames("open_clip_model"), {"model_cfg": {}}),
    ],
)
@pytest.mark.parametrize("name", ["single", "sharded"])
def test_an_output_has_the_names_of_its_models(names: FileNames, config: Any, name: str, tmp_path: Path) -> None:
    models = [write(tmp_path / str(i) / name, names, i, config, "F16" if names.variant else "F32") for i in (1, 2)]
    out = cuvee.run_plan(plan_of(*models), tmp_path / "out", shard_bytes=shard_bytes_of(models[0])).folder
    assert weights_in(out) == weights_in(models[0])
    assert "_class_name" not in config or json.loads((out / "config.json").read_text()) == config
    with open_checkpoint(out) as written:
        assert {float(written.read(tensor).mean()) for tensor in written.tensors} == {1.5}
    assert verify(out).failed == ()


def test_a_variant_is_no_longer_called_after_a_type_that_it_has_not(tmp_path: Path) -> None:
    models = [write(tmp_path / str(i), FileNames(DIFFUSERS, "fp16"), i, UNET, "F16") for i in (1, 2)]
    out = cuvee.run_plan(plan_of(*models, extra="dtype: bfloat16\n"), tmp_path / "out").folder
    assert weights_in(out) == [f"{DIFFUSERS}.safetensors"]


def test_the_plain_weights_are_read_and_the_others_named_as_left_out(tmp_path: Path) -> None:
    models = [write(tmp_path / str(i), FileNames(), i, {}) for i in (1, 2)]
    other = write(tmp_path / "sharded", FileNames("model", "fp16"), 9, {}, "F16")
    for file in weights_in(other):
        (other / file).rename(models[0] / file)
    plan = plan_of(*models)
    (note,) = [note for note in plan.notes if "left out" in note]
    assert "model.fp16-00001-of-00002.safetensors, model.fp16-00002-of-00002.safetensors" in note
    out = cuvee.run_plan(plan, tmp_path / "out").folder
    assert weights_in(out) == ["model.safetensors"]
    assert open_checkpoint(out).read("conv_in.weight").mean() == 1.5


def test_parts_are_joined_under_the_names_of_the_models(tmp_path: Path) -> None:
    models = [write(tmp_path / str(i) / "sharded", FileNames(DIFFUSERS), i, UNET) for i in (1, 2)]
    out = tmp_path / "out"
    for number in (1, 2):
        run_part(plan_of(*models), out, Part(number, 2), shard_bytes=1)
    join(out)
    assert weights_in(out) == weights_in(models[0])
    assert sorted(open_checkpoint(out).tensors) == ["conv_in.weight", "conv_out.weight"]


def test_a_config_that_names_the_file_of_its_weights_does_not_name_it_in_the_output(tmp_path: Path) -> None:
    config = {"model_type": "mistral", "transformers_weights": "consolidated.safetensors"}
    models = [write(tmp_path / str(i), FileNames("consolidated"), i, config) for i in (1, 2)]
    (models[0] / "model.safetensors").write_bytes(b"another form")
    out = cuvee.run_plan(plan_of(*models), tmp_path / "out").folder
    assert weights_in(out) == ["model.safetensors"]
    assert json.loads((out / "config.json").read_text())["transformers_weights"] is None


def test_transformers_loads_a_variant_that_was_merged(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    models = [write_model(tmp_path / str(seed), random_weights(seed), dtype="F16") for seed in (1, 2)]
    for model in models:
        (model / "model.safetensors").rename(model / "model.fp16.safetensors")
    out = cuvee.run_plan(plan_of(*models), tmp_path / "out").folder
    (loads,) = [check for check in verify(out).checks if check.name == "loads"]
    assert loads.state == "passed"
