"""Factors of stacks of experts lie as the PEFT laid them that wrote them; where nothing tells, they are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapters.conftest import Made, load, logits, relative_error
from adapters.test_adapted import merged
from cuvee.adapters import Adapted, open_adapter
from cuvee.adapters.adapted import PIECE
from cuvee.checkpoint import MemoryCheckpoint, TensorSpec, open_checkpoint
from cuvee.errors import CheckpointError
from cuvee.structure.fused import stack_axes

ALONE = "square matrices alone, square qwen3-moe"
RANK, EXPERTS = 4, 4


def rewritten(made: Made, out: Path, version: str | None, *, swapped: bool) -> Made:
    """Write an adapter as another release of PEFT would have, with the two factors of each expert swapped or not."""
    shutil.copytree(made.adapter, out)
    config = json.loads((out / "adapter_config.json").read_text())
    config["peft_version"] = version
    (out / "adapter_config.json").write_text(json.dumps(config))
    if swapped:
        swap(out / "adapter_model.safetensors")
    return Made(made.base, out, made.logits)


def swap(file: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(file)
    for name in [name for name in tensors if name.endswith("experts.lora_A.weight")]:
        other = name.replace("lora_A", "lora_B")
        first = tensors[name].reshape(EXPERTS, RANK, -1)
        second = tensors[other].reshape(-1, RANK, EXPERTS)
        tensors[name] = np.ascontiguousarray(second.transpose(2, 1, 0)).reshape(EXPERTS * RANK, -1)
        tensors[other] = np.ascontiguousarray(first.transpose(2, 1, 0)).reshape(-1, RANK * EXPERTS)
    save_file(tensors, file)


@pytest.mark.parametrize(("version", "swapped"), [("0.18.1", True), ("0.19.0", True), ("0.19.1", False)])
def test_the_release_says_how_factors_of_square_matrices_lie(
    version: str, swapped: bool, adapters: Callable[..., Made], tmp_path: Path
) -> None:
    made = rewritten(adapters(ALONE), tmp_path / "a", version, swapped=swapped)
    assert relative_error(logits(load(merged(made, tmp_path / "out"))), made.logits) < 1e-5


def test_without_a_release_square_matrices_are_refused(adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = rewritten(adapters(ALONE), tmp_path / "a", None, swapped=False)
    with pytest.raises(CheckpointError, match="by outputs or by inputs") as caught:
        Adapted(open_checkpoint(made.base), open_adapter(made.adapter))
    assert "peft_version" in str(caught.value)


def test_an_unknown_family_of_square_stacks_is_refused(adapters: Callable[..., Made]) -> None:
    made = adapters("square matrices alone, square gpt-oss")
    with open_checkpoint(made.base) as opened:
        stacks = {name: opened.read(name) for name in opened.tensors if not name.endswith("gate_up_proj")}
        unknown = MemoryCheckpoint(stacks, opened.config | {"model_type": "new"})
        with pytest.raises(CheckpointError, match="by outputs or by inputs"):
            Adapted(unknown, open_adapter(made.adapter))


def test_a_stack_is_forecast_to_hold_its_factors_a_few_times(adapters: Callable[..., Made]) -> None:
    made = adapters("parameters")
    with open_checkpoint(made.base) as base:
        adapted = Adapted(base, open_adapter(made.adapter))
        name = "model.layers.0.mlp.experts.gate_up_proj"
        _, width, columns = base.tensors[name].shape
        factors = EXPERTS * RANK * (width + columns) * 4
        assert factors < adapted.held_bytes(name) - 24 * PIECE < 5 * factors


@pytest.mark.parametrize(
    ("shapes", "kind", "expected"),
    [
        ({"gate_up_proj": (4, 32, 64), "down_proj": (4, 32, 32)}, "new", [True, True]),
        ({"gate_up_proj": (4, 64, 32), "down_proj": (4, 32, 32)}, "new", [False, False]),
        ({"gate_up_proj": (4, 32, 32), "down_proj": (4, 16, 32)}, "new", [True, True]),
        ({"input_linear.weight": (4, 48, 32), "output_linear.weight": (4, 32, 24)}, "new", [False, False]),
        ({"down_proj": (4, 32, 32)}, "new", [None]),
        ({"down_proj": (4, 32, 32)}, "gpt_oss", [True]),
    ],
)
def test_a_square_stack_has_the_axes_of_its_sibling(
    shapes: dict[str, tuple[int, ...]], kind: str, expected: list[bool | None]
) -> None:
    specs = [TensorSpec(f"layers.0.mlp.experts.{name}", "F32", shape, Path(), 0) for name, shape in shapes.items()]
    axes = stack_axes(specs, {"hidden_size": 32, "model_type": kind})
    assert list(axes.values()) == expected
