"""Folders that are not a whole checkpoint: one clear error each, that names the file and the tensor."""

import json
from pathlib import Path

import numpy as np
import pytest

from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.naming import FileNames
from cuvee.errors import CheckpointError
from cuvee.testing import write_model

WEIGHTS = {"a": np.ones(4, np.float32), "b": np.ones(3, np.float32)}
INDEX, SINGLE = FileNames().index, FileNames().single
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return write_model(tmp_path / "single", WEIGHTS)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_model(tmp_path / "sharded", WEIGHTS, shard_bytes=16)


def change_index(folder: Path, **weight_map: str) -> None:
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    index["weight_map"] |= weight_map
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def complaint(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_nothing_there(tmp_path):
    assert complaint(tmp_path / "missing") == f"{tmp_path / 'missing'}: no such folder or file"


def test_a_folder_without_weights(tmp_path):
    assert "expected model.safetensors or model.safetensors.index.json, found neither" in complaint(tmp_path)


def test_a_folder_with_pickled_weights_only(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert "it holds pytorch_model.bin; convert it to safetensors" in complaint(tmp_path)


def test_shards_without_an_index(sharded):
    (sharded / INDEX).unlink()
    assert f"it holds {FIRST}, {SECOND} and no index" in complaint(sharded)


def test_both_a_single_file_and_an_index(single, sharded):
    (single / INDEX).write_bytes((sharded / INDEX).read_bytes())
    assert "found both model.safetensors and model.safetensors.index.json" in complaint(single)


def test_a_truncated_file_names_the_tensor_that_is_cut(single):
    data = (single / SINGLE).read_bytes()
    (single / SINGLE).write_bytes(data[:-1])
    assert "truncated in 'b'" in complaint(single)
    (single / SINGLE).write_bytes(data[:-13])
    assert "truncated in 'a'" in complaint(single)


def test_a_file_cut_within_its_header(single):
    data = (single / SINGLE).read_bytes()
    for length in (0, 7, 8, 100):
        (single / SINGLE).write_bytes(data[:length])
        assert f"the file has {length} bytes, fewer than its header says" in complaint(single)


def test_every_bad_shard_is_told_at_once(sharded):
    for shard in (FIRST, SECOND):
        (sharded / shard).write_bytes(b"x")
    assert FIRST in complaint(sharded)
    assert SECOND in complaint(sharded)


def test_a_missing_shard(sharded):
    (sharded / SECOND).unlink()
    assert f"missing {SECOND}, named by {INDEX}" in complaint(sharded)


@pytest.mark.parametrize("shard", ["../single/model.safetensors", "/etc/passwd", "..", ".", "", "sub/x.safetensors"])
def test_an_index_may_not_name_a_file_elsewhere(single, sharded, shard):
    change_index(sharded, b=shard)
    assert f"the weight_map has 'b' in {shard!r}; expected a file of the same folder" in complaint(sharded)


def test_a_tensor_of_the_index_that_no_shard_has(sharded):
    change_index(sharded, c=SECOND)
    assert complaint(sharded) == f"{sharded / INDEX}: 'c' is not in {SECOND}, where the index has it"


def test_a_tensor_that_the_index_has_in_another_shard(sharded):
    change_index(sharded, b=FIRST, a=SECOND)
    assert "'a' is not in" in complaint(sharded)
    assert "'b' is not in" in complaint(sharded)


def test_a_tensor_of_a_shard_that_the_index_lacks(sharded):
    index = json.loads((sharded / INDEX).read_text(encoding="utf-8"))
    (sharded / "extra.safetensors").write_bytes((sharded / SECOND).read_bytes())
    index["weight_map"] = {"a": FIRST, "b": "extra.safetensors"}
    (sharded / INDEX).write_text(json.dumps(index), encoding="utf-8")
    open_checkpoint(sharded)
    two = write_model(sharded.parent / "two", {"b": WEIGHTS["b"], "c": WEIGHTS["a"]})
    (sharded / "extra.safetensors").write_bytes((two / SINGLE).read_bytes())
    assert complaint(sharded) == f"{sharded / 'extra.safetensors'}: 'c' is not in {INDEX}"


def test_a_tensor_in_two_shards(sharded):
    (sharded / SECOND).write_bytes((sharded / FIRST).read_bytes())
    assert complaint(sharded) == f"{sharded / SECOND}: 'a' is also in {FIRST}"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}', "\x00", "[" * 100_000])
def test_an_index_without_a_weight_map(sharded, text):
    (sharded / INDEX).write_text(text, encoding="utf-8")
    assert "weight_map" in complaint(sharded)


@pytest.mark.parametrize("text", ["", "{", "3", "[]", "[" * 100_000])
def test_a_config_that_is_not_a_json_object(single, text):
    (single / "config.json").write_text(text, encoding="utf-8")
    assert "JSON" in complaint(single)


def test_a_file_without_tensors(tmp_path):
    (tmp_path / SINGLE).write_bytes((2).to_bytes(8, "little") + b"{}")
    assert complaint(tmp_path) == f"{tmp_path}: holds no tensor"


def test_a_file_that_changes_after_it_was_opened_is_noticed(single):
    checkpoint = open_checkpoint(single)
    with (single / SINGLE).open("ab") as opened:
        opened.write(b"more")
    with pytest.raises(CheckpointError, match="the file has changed"):
        checkpoint.read("a")


def test_a_file_that_is_cut_while_it_is_read_is_noticed(single):
    checkpoint = open_checkpoint(single)
    checkpoint.read("a")
    with (single / SINGLE).open("r+b") as opened:
        opened.truncate(4100)
    with pytest.raises(CheckpointError, match="the file ended while it was read"):
        checkpoint.read("b")


def test_a_file_that_vanishes_after_it_was_opened_is_noticed(single):
    checkpoint = open_checkpoint(single)
    (single / SINGLE).unlink()
    with pytest.raises(CheckpointError, match="cannot read the file: No such file"):
        checkpoint.read("a")
