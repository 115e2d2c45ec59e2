"""Buffers of every type of the format are shown, and copied where all models have the same."""

import json
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.dtypes import MERGEABLE, NUMPY, PACKED, kind_of
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out
from cuvee.errors import CheckpointError
from cuvee.structure.summary import summary
from cuvee.verify import verify

from .conftest import mean_of

SHAPE = (4, 8)
OTHERS = sorted(set(NUMPY) - set(MERGEABLE))
OF_WEIGHTS = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
OF_BUFFERS = [dtype for dtype in OTHERS if dtype not in OF_WEIGHTS]


def write(folder: Path, dtype: str, content: int, number: float = 1, name: str = "rope.table") -> Path:
    """Write a matrix of one number, and a buffer all of whose bytes are `content`."""
    buffer, weight = OutputTensor(name, dtype, SHAPE), OutputTensor("proj.weight", "F32", (4, 4))
    with CheckpointWriter(folder, lay_out([buffer, weight], 1 << 30)) as writer:
        writer.write(buffer.name, 0, np.full(buffer.nbytes, content, np.uint8))
        writer.write(weight.name, 0, np.full(16, number, np.float32))
        writer.write_file("config.json", json.dumps({"hidden_size": 4}))
        writer.finish()
    return folder


@pytest.mark.parametrize("dtype", OF_BUFFERS)
def test_a_buffer_that_all_models_have_alike_is_copied_and_what_is_no_integer_is_told(
    dtype: str, tmp_path: Path
) -> None:
    models = [write(tmp_path / f"m{number}", dtype, 1, number) for number in (1, 2)]
    plan = mean_of(*models)
    notes = [note for note in plan.notes if f"{dtype}, {kind_of(dtype)}, is copied" in note]
    assert len(notes) == (0 if kind_of(dtype) == "integers" else 1)
    out = cuvee.run_plan(plan, tmp_path / "out").folder
    with open_checkpoint(out) as written:
        spec = written.tensors["rope.table"]
        assert (spec.dtype, spec.shape) == (dtype, SHAPE)
        assert set(written.read("rope.table").reshape(-1).view(np.uint8).tolist()) == {1}
        assert written.read("proj.weight").mean() == 1.5
    assert verify(out).failed == ()


@pytest.mark.parametrize("dtype", OF_BUFFERS)
def test_a_buffer_in_which_models_differ_is_refused_as_what_it_is(dtype: str, tmp_path: Path) -> None:
    models = [write(tmp_path / f"m{content}", dtype, content) for content in (0, 1)]
    expected = rf"'rope\.table' holds {dtype}, {kind_of(dtype)}, which cannot be merged, and the inputs differ in it"
    with pytest.raises(CheckpointError, match=expected):
        cuvee.run_plan(mean_of(*models), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [*OF_WEIGHTS, "F8_E8M0", *PACKED])
def test_codes_of_weights_are_refused_before_anything_is_read(dtype: str, tmp_path: Path) -> None:
    models = [write(tmp_path / f"m{number}", dtype, 1, number, name="fc.weight") for number in (1, 2)]
    with pytest.raises(CheckpointError, match=f"quantised \\({dtype} of unknown meaning, by 'fc.weight'\\): codes"):
        mean_of(*models)


@pytest.mark.parametrize("dtype", OTHERS)
def test_a_buffer_of_any_type_is_shown(dtype: str, tmp_path: Path) -> None:
    with open_checkpoint(write(tmp_path / "m", dtype, 1)) as model:
        (row,) = [row for row in summary(model).rows if row.name == "rope.table"]
    assert (row.dtype, row.shape, row.role) == (dtype, SHAPE, "buffer")


def test_torch_writes_the_types_that_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensors = {
        "complex": torch.full((2, 3), 1 + 2j, dtype=torch.complex64),
        "scales": torch.full((4, 2), 127, dtype=torch.uint8).view(torch.float8_e8m0fnu),
        "packed": torch.full((4, 2), 0x21, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as model:
        assert {name: spec.shape for name, spec in model.tensors.items()} == {
            "complex": (2, 3),
            "scales": (4, 2),
            "packed": (4, 4),
        }
        assert model.read("complex").tolist() == [[1 + 2j] * 3] * 2
        assert model.read("scales").astype(np.float32).tolist() == [[1.0] * 2] * 4
        assert model.read("packed").tolist() == [0x21] * 8


def test_numbers_that_do_not_fill_whole_bytes_are_refused(tmp_path: Path) -> None:
    entry = {"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}
    text = json.dumps(entry).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0\0")
    with pytest.raises(CheckpointError, match=r"shape \[3\] of F4 does not fill whole bytes"):
        open_checkpoint(tmp_path)
