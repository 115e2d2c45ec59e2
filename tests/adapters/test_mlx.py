"""Adapters of mlx-lm compute here what mlx-lm computes with them: its logits are in tests/golden/mlx_lm.json."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cuvee
from adapters.conftest import load, torch, transformers
from adapters.made import write_tensors
from adapters.mlx_cases import CASES, TOKENS, adapter_config, adapter_tensors
from cuvee.adapters import open_adapter
from cuvee.engine.combine import How
from cuvee.errors import CheckpointError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "mlx_lm.json").read_text())


def write_case(name: str, folder: Path) -> Path:
    """Write a base and an adapter of mlx-lm."""
    config = {key: value for key, value in CASES[name][0].items() if key != "architectures"}
    kind = config.pop("model_type")
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **config))
    generator = np.random.default_rng(1)
    with torch.no_grad():
        for tensor in sorted(model.state_dict()):
            parameter = dict(model.named_parameters(remove_duplicate=False))[tensor]
            numbers = generator.standard_normal(parameter.shape) * 0.15 + (parameter.ndim == 1)
            parameter.copy_(torch.from_numpy(numbers))
    model.save_pretrained(folder / "base")
    file = folder / "base" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | CASES[name][0]))  # mlx-lm reads the older keys
    write_adapter(folder / "adapter", adapter_tensors(name), adapter_config(name))
    return folder


def write_adapter(folder: Path, tensors: dict[str, np.ndarray], config: dict[str, Any]) -> None:
    write_tensors(folder, tensors, config, file="adapters.safetensors")


@pytest.mark.parametrize("name", CASES)
def test_the_written_model_computes_what_mlx_lm_does(name: str, tmp_path: Path) -> None:
    folder = write_case(name, tmp_path)
    out = cuvee.apply_adapter(folder / "base", folder / "adapter", tmp_path / "out").folder
    tokens = torch.tensor(TOKENS)
    with torch.no_grad():
        before, found = (load(place).eval()(input_ids=tokens).logits[:, -1] for place in (folder / "base", out))
    wanted = torch.tensor(GOLDEN[name])
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5
    assert float((before - wanted).norm() / wanted.norm()) > 1e-2


def test_an_adapter_of_mlx_lm_becomes_one_that_peft_loads(tmp_path: Path) -> None:
    folder = write_case("lora", tmp_path)
    both = [folder / "adapter", folder / "adapter"]
    out = cuvee.combine_adapters(both, [0.5, 0.5], tmp_path / "out", How()).folder
    a, b = (cuvee.apply_adapter(folder / "base", one, tmp_path / one.name / "x").folder for one in (both[0], out))
    first, second = (load(place).state_dict() for place in (a, b))
    assert all(torch.allclose(first[key], second[key], atol=1e-5) for key in first)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"fine_tune_type": "full"}, "whole weights in the order of mlx-lm"),
        ({"fine_tune_type": ["lora"]}, "expected lora or dora"),
        ({"lora_parameters": {"rank": 4, "scale": 2.0, "alpha": 8}}, "has an alpha"),
        ({"lora_parameters": {"rank": 4, "scale": "2"}}, "expected a scale"),
        ({"lora_parameters": {"rank": True, "scale": 2}}, "expected a rank"),
        ({"lora_parameters": [4, 2]}, "expected a rank"),
        ({"lora_parameters": {"rank": 5, "scale": 2.0}}, "its rank is 5 by the config"),
    ],
)
def test_what_the_formula_does_not_cover_is_refused(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", adapter_tensors("lora"), adapter_config("lora") | change)
    with pytest.raises(CheckpointError, match=complaint):
        open_adapter(tmp_path / "a")


@pytest.mark.parametrize(
    ("tensor", "shape", "complaint"),
    [
        ("model.layers.0.mlp.down_proj.weight", (32, 48), "nothing that an adapter of mlx-lm"),
        ("model.layers.0.mlp.experts.gate_proj.lora_a", (4, 4, 32), "names in the base's files are not known"),
        ("model.embed_tokens.m", (64,), "gives each token of an embedding a length"),
    ],
)
def test_tensors_without_a_place_in_peft_are_refused(
    tensor: str, shape: tuple[int, ...], complaint: str, tmp_path: Path
) -> None:
    tensors = adapter_tensors("lora") | {tensor: np.zeros(shape, np.float32)}
    write_adapter(tmp_path / "a", tensors, adapter_config("lora"))
    with pytest.raises(CheckpointError, match=complaint):
        open_adapter(tmp_path / "a")


if __name__ == "__main__":
    for case in CASES:
        write_case(case, Path(sys.argv[1]) / case)
