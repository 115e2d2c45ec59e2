"""Adapters written without PEFT, and read back as dense matrices by their definition."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out_file

PREFIX = "base_model.model."


def write_adapter(
    folder: Path,
    ranks: Mapping[str, int],
    *,
    seed: int,
    shape: tuple[int, int] | Mapping[str, tuple[int, int]],
    alpha: float,
    dtype: str = "F32",
    **config: object,
) -> Path:
    """Write an adapter of random factors for modules of given ranks."""
    generator = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for module, rank in ranks.items():
        out, into = shape[module] if isinstance(shape, Mapping) else shape
        tensors[f"{PREFIX}{module}.lora_A.weight"] = generator.standard_normal((rank, into), np.float32) * 0.1
        tensors[f"{PREFIX}{module}.lora_B.weight"] = generator.standard_normal((out, rank), np.float32) * 0.1
    first = next(iter(ranks.values()))
    known = {
        "peft_type": "LORA", "r": first, "lora_alpha": alpha, "target_modules": list(ranks),
        "rank_pattern": {m: r for m, r in ranks.items() if r != first},
    }  # fmt: skip
    return write_tensors(folder, tensors, {**known, **config}, dtype)


def write_tensors(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    config: object,
    dtype: str = "F32",
    file: str = "adapter_model.safetensors",
) -> Path:
    """Write tensors and a config as an adapter's folder."""
    listed = [OutputTensor(name, dtype, array.shape) for name, array in tensors.items()]
    with CheckpointWriter(folder, [lay_out_file(file, listed)]) as writer:
        for name, array in tensors.items():
            writer.write(name, 0, np.ascontiguousarray(array.astype(NUMPY[dtype])).reshape(-1))
        writer.write_file("adapter_config.json", json.dumps(config))
        writer.finish()
    return folder


class Factors:
    """The stored factors of a module."""

    @staticmethod
    def read(folder: Path, module: str) -> tuple[np.ndarray, np.ndarray]:
        with open_checkpoint(folder / "adapter_model.safetensors") as opened:
            a, b = (opened.read(f"{PREFIX}{module}.lora_{side}.weight").astype(np.float64) for side in "AB")
        return a, b


def read_changes(folder: Path) -> dict[str, np.ndarray]:
    """Return alpha / r B A of each module, with the ranks and alphas that the config names in full."""
    config = json.loads((folder / "adapter_config.json").read_text())
    with open_checkpoint(folder / "adapter_model.safetensors") as opened:
        modules = [n.removeprefix(PREFIX).partition(".lora_A")[0] for n in opened.tensors if ".lora_A" in n]
    found = {}
    for module in modules:
        a, b = Factors.read(folder, module)
        rank = config.get("rank_pattern", {}).get(module, config["r"])
        alpha = config.get("alpha_pattern", {}).get(module, config["lora_alpha"])
        assert len(a) == rank
        found[module] = alpha / rank * b @ a
    return found
