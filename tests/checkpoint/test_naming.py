"""Which files of a folder are its weights, and how an output's files are called."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.naming import FileNames, layout_of, start_of_weights
from cuvee.errors import CheckpointError
from cuvee.testing import write_model

TRANSFORMERS = {"model_type": "llama"}
DIFFUSERS = {"_class_name": "UNet2DModel"}
SHARDED = "model.safetensors.index.json"
UNET = "diffusion_pytorch_model"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def start(*files: str, config: dict[str, Any] | None = None) -> str:
    return start_of_weights(files, config or {}, "here")


@pytest.mark.parametrize(
    ("files", "opened"),
    [
        (["model.safetensors"], "model.safetensors"),
        ([*SHARDS, SHARDED], SHARDED),
        (["model.fp16.safetensors"], "model.fp16.safetensors"),
        (["model.fp16.safetensors", "model.safetensors"], "model.safetensors"),
        (["model.fp16.safetensors", *SHARDS, SHARDED], SHARDED),
        (["model.safetensors.index.fp16.json"], "model.safetensors.index.fp16.json"),
        ([f"{UNET}.safetensors"], f"{UNET}.safetensors"),
        ([f"{UNET}.safetensors.index.json", f"{UNET}-00001-of-00001.safetensors"], f"{UNET}.safetensors.index.json"),
        ([f"{UNET}.fp16.safetensors", f"{UNET}.bf16.safetensors", f"{UNET}.safetensors"], f"{UNET}.safetensors"),
        (["open_clip_model.safetensors"], "open_clip_model.safetensors"),
        (["model.safetensors", "consolidated.safetensors", "adapter_model.safetensors"], "model.safetensors"),
        (["pytorch_model.bin.index.json", "model.safetensors"], "model.safetensors"),
    ],
)
def test_a_plain_name_goes_before_its_variants_and_a_known_one_before_others(files: list[str], opened: str) -> None:
    assert start(*files) == opened
    assert start(*reversed(files)) == opened


def test_the_config_decides_between_the_names_of_two_libraries() -> None:
    both = ("model.safetensors", f"{UNET}.safetensors")
    assert start(*both, config=TRANSFORMERS) == both[0]
    assert start(*both, config=DIFFUSERS) == both[1]


def test_a_file_that_the_config_names_is_opened() -> None:
    config = {**TRANSFORMERS, "transformers_weights": "other.safetensors"}
    assert start("model.safetensors", "other.safetensors", config=config) == "other.safetensors"
    assert start("model.safetensors", config=config) == "model.safetensors"
    assert start("model.safetensors", config={"transformers_weights": []}) == "model.safetensors"


@pytest.mark.parametrize(
    "files",
    [
        ["model.safetensors", SHARDED],
        ["model.fp16.safetensors", "model.bf16.safetensors"],
        ["model.fp16.safetensors", "model.safetensors.index.fp16.json"],
        [f"{UNET}.safetensors", f"{UNET}.safetensors.index.json"],
    ],
)
def test_two_that_are_equally_good_are_refused(files: list[str]) -> None:
    with pytest.raises(CheckpointError, match=f"here: found both {'|'.join(files)} and .*; which one counts"):
        start(*files)


def test_two_of_unknown_names_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"it holds a\.safetensors, b\.safetensors and no index"):
        start("a.safetensors", "b.safetensors")


@pytest.mark.parametrize(
    ("files", "config", "names"),
    [
        (["model.safetensors"], TRANSFORMERS, FileNames()),
        (SHARDS, TRANSFORMERS, FileNames()),
        (["weights.safetensors"], TRANSFORMERS, FileNames()),
        (["open_clip_model.safetensors"], {}, FileNames("open_clip_model")),
        (["a.safetensors", "b.safetensors"], {}, FileNames()),
        (["model-Q4.gguf"], TRANSFORMERS, FileNames()),
        ([f"{UNET}.safetensors"], DIFFUSERS, FileNames(UNET)),
        ([f"{UNET}-00001-of-00002.safetensors"], DIFFUSERS, FileNames(UNET)),
        (["model.fp16.safetensors"], TRANSFORMERS, FileNames("model", "fp16")),
        ([f"{UNET}.fp16-00001-of-00002.safetensors"], DIFFUSERS, FileNames(UNET, "fp16")),
        ([f"{UNET}-00001-of-00002.fp16.safetensors"], DIFFUSERS, FileNames(UNET, "fp16")),
        (["model.non_ema.safetensors"], {}, FileNames("model", "non_ema")),
        (["model.bf16.safetensors"], TRANSFORMERS, FileNames()),
    ],
)
def test_an_output_is_called_as_its_library_expects(files: list[str], config: dict[str, Any], names: FileNames) -> None:
    assert layout_of(files, config, "F16") == {"": names}


def test_a_variant_is_written_where_transformers_and_diffusers_look_for_it() -> None:
    names = FileNames("model", "fp16")
    assert names.single == "model.fp16.safetensors"
    assert names.shard(1, 2) == "model.fp16-00001-of-00002.safetensors"
    assert names.index == "model.safetensors.index.fp16.json"


def test_shards_are_read_by_an_index_of_any_name(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {"a": np.ones(4, np.float32), "b": np.zeros(3, np.float32)}, shard_bytes=16)
    (folder / SHARDED).rename(folder / "net.safetensors.index.json")
    with open_checkpoint(folder) as model:
        assert model.read("a").tolist() == [1, 1, 1, 1]
        assert list(model.files()) == list(SHARDS)


def test_an_index_of_any_name_is_named_by_what_is_wrong_with_it(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {"a": np.ones(4, np.float32)})
    (folder / "model.safetensors").rename(folder / "net-1.safetensors")
    index = {"weight_map": {"a": "net-1.safetensors", "b": "net-2.safetensors"}}
    (folder / "net.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"missing net-2\.safetensors, named by net\.safetensors\.index\.json"):
        open_checkpoint(folder)
