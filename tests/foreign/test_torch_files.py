"""PyTorch's own files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cuvee  # noqa: E402  # after the skip
from cuvee.checkpoint import open_checkpoint  # noqa: E402
from cuvee.errors import CheckpointError  # noqa: E402
from cuvee.foreign import open_files  # noqa: E402
from cuvee.testing import TINY_LLAMA, random_weights, write_model  # noqa: E402


def tensors(seed: int = 0) -> dict[str, Any]:
    return {name: torch.from_numpy(array) for name, array in random_weights(seed).items()}


def write(folder: Path, content: Any, name: str = "pytorch_model.bin", **options: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / name, **options)
    (folder / "config.json").write_text(json.dumps(TINY_LLAMA))
    return folder


def read(source: Any, name: str, step: int = 0) -> np.ndarray:
    """Read a tensor's bytes, whole or in pieces of so many numbers."""
    spec = source.tensors[name]
    raw = np.empty(spec.nbytes, np.uint8)
    size = spec.nbytes // max(spec.elements, 1)
    for start in range(0, spec.nbytes, step * size or max(spec.nbytes, 1)):
        source.read_into(name, start, [raw[start : start + step * size] if step else raw])
    return raw


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("view", ["plain", "transposed", "strided"])
def test_every_type_and_layout_is_read_in_pieces(tmp_path, dtype, view):
    plain = (torch.arange(60).reshape(6, 10) % 7).to(getattr(torch, dtype))
    tensor = {"plain": plain, "transposed": plain.T, "strided": plain[::2, 1::3]}[view]
    source = open_files(write(tmp_path / "m", {"x": tensor}))
    expected = tensor.contiguous().view(torch.uint8).numpy().reshape(-1)
    assert source.tensors["x"].shape == tuple(tensor.shape)
    for step in (0, 1, 4):
        assert np.array_equal(read(source, "x", step), expected)


def test_a_merge_of_torch_files_is_that_of_safetensors(tmp_path):
    for i in range(2):
        write(tmp_path / f"bin{i}", tensors(i))
        write_model(tmp_path / f"st{i}", random_weights(i))
    text = "merge_method: linear\nmodels: [{{model: {0}0}}, {{model: {0}1}}]\nparameters: {{weight: 1}}\n"
    results = [
        cuvee.merge(cuvee.recipe_from_text(text.format(tmp_path / kind)), tmp_path / f"out-{kind}").digest
        for kind in ("bin", "st")
    ]
    assert results[0] == results[1]
    assert open_checkpoint(tmp_path / "out-bin").config["architectures"] == TINY_LLAMA["architectures"]


def test_shards_are_read_by_their_index(tmp_path):
    whole = tensors()
    names = list(whole)
    parts = {"a.bin": names[:5], "b.bin": names[5:]}
    for file, listed in parts.items():
        write(tmp_path / "m", {name: whole[name] for name in listed}, file)
    weight_map = {name: file for file, listed in parts.items() for name in listed}
    (tmp_path / "m" / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert list(open_files(tmp_path / "m").tensors) == names
    (tmp_path / "m" / "b.bin").unlink()
    with pytest.raises(CheckpointError, match=r"b\.bin: the file is missing"):
        open_files(tmp_path / "m")


def test_names_of_one_tensor_count_once_and_the_embedding_stays(tmp_path):
    whole = tensors()
    whole = {"lm_head.weight": whole["model.embed_tokens.weight"]} | {n: t for n, t in whole.items() if "head" not in n}
    source = open_files(write(tmp_path / "m", whole))
    assert source.aliases == {"lm_head.weight": "model.embed_tokens.weight"}
    assert set(source.tensors) == set(whole) - {"lm_head.weight"}
    assert source.notes == ("1 tensors share the storage of others and count once",)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_tensors_nested_under_a_known_word_are_found(tmp_path, key):
    source = open_files(write(tmp_path / "m", {key: tensors(), "epoch": 3}))
    assert set(source.tensors) == set(random_weights(0))


@pytest.mark.parametrize("name", ["model.pt", "weights.pth", "odd.bin"])
def test_a_file_can_be_named_itself(tmp_path, name):
    write(tmp_path / "m", tensors(), name)
    source = open_files(tmp_path / "m" / name)
    assert set(source.tensors) == set(random_weights(0))
    assert source.config == TINY_LLAMA


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([torch.ones(2)], "expected tensors by name, found list"),
        ({"x": 3}, "expected tensors by name, found int under 'x'"),
        ({}, "holds no tensor"),
        ({"x": torch.ones(2, dtype=torch.complex128)}, "'x' is complex128, which cannot be merged"),
        ({"x": torch.eye(2).to_sparse()}, "'x' is not a plain tensor"),
    ],
)
def test_what_is_not_tensors_by_name_is_an_error(tmp_path, content, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        open_files(write(tmp_path / "m", content))


def test_files_of_before_torch_1_6_are_refused(tmp_path):
    folder = write(tmp_path / "m", tensors(), _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="cannot be read tensor by tensor"):
        open_files(folder)


def test_safetensors_go_before_torch_files(tmp_path):
    write_model(tmp_path / "m", random_weights(1))
    write(tmp_path / "m", {"x": torch.ones(1)})
    assert "x" not in open_files(tmp_path / "m").tensors
