"""Adapters kept inside a checkpoint: their factors are never averaged, for they act through products only."""

import json
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out
from cuvee.errors import CheckpointError

from .conftest import mean_of

LAYER = "model.layers.0.self_attn.qkv_proj"
FACTORS = [
    f"{LAYER}.lora_A.vision.weight",
    f"{LAYER}.lora_B.speech.weight",
    f"{LAYER}.lora_A.weight",
    f"{LAYER}.lora_magnitude_vector.default.weight",
    "model.embed_tokens.lora_embedding_A.default",
    f"{LAYER}.hada_w1_a.default",
    f"{LAYER}.lokr_w2_b.default",
    f"{LAYER}.ia3_l.default",
    f"{LAYER}.vera_lambda_d.default",
]


def write(folder: Path, factor: str, number: float, content: float) -> Path:
    """Write a weight of one `number`, and beside it a factor of another, the `content`."""
    tensors = {f"{LAYER}.base_layer.weight": number, factor: content}
    specs = [OutputTensor(name, "F32", (4, 4)) for name in tensors]
    with CheckpointWriter(folder, lay_out(specs, 1 << 30)) as writer:
        for name, value in tensors.items():
            writer.write(name, 0, np.full(16, value, np.float32))
        writer.write_file("config.json", json.dumps({"hidden_size": 4}))
        writer.finish()
    return folder


@pytest.mark.parametrize("factor", FACTORS)
def test_equal_factors_are_copied_and_the_weights_beside_them_merged(factor: str, tmp_path: Path) -> None:
    plan = mean_of(write(tmp_path / "a", factor, 1, 7), write(tmp_path / "b", factor, 3, 7))
    assert any("factors of an adapter" in note for note in plan.notes)
    out = cuvee.run_plan(plan, tmp_path / "out").folder
    with open_checkpoint(out) as written:
        assert (written.read(factor) == 7).all()
        assert (written.read(f"{LAYER}.base_layer.weight") == 2).all()


@pytest.mark.parametrize("factor", FACTORS)
def test_factors_that_differ_are_refused_by_name(factor: str, tmp_path: Path) -> None:
    plan = mean_of(write(tmp_path / "a", factor, 1, 7), write(tmp_path / "b", factor, 3, 8))
    with pytest.raises(CheckpointError, match="is a factor of an adapter inside the checkpoint") as caught:
        cuvee.run_plan(plan, tmp_path / "out")
    assert factor in str(caught.value)
    assert "merge_and_unload" in str(caught.value.hint)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_other_names_are_no_factors(tmp_path: Path) -> None:
    name = "model.layers.0.flora_A_proj.weight"
    plan = mean_of(write(tmp_path / "a", name, 1, 7), write(tmp_path / "b", name, 3, 9))
    with open_checkpoint(cuvee.run_plan(plan, tmp_path / "out").folder) as written:
        assert (written.read(name) == 8).all()
