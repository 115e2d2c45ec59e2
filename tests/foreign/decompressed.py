"""Write `tests/golden/codes.safetensors`: codes as compressed-tensors stores them, and the numbers they stand for.

PYTHONPATH=tests python -m foreign.decompressed        # needs compressed-tensors
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file

GOLDEN = Path(__file__).parents[1] / "golden" / "codes.safetensors"
MODULE = "model.layers.0.mlp.up_proj"

_INT4 = {"num_bits": 4, "type": "int"}
_INT3 = {"num_bits": 3, "type": "int"}
_INT6 = {"num_bits": 6, "type": "int"}
_INT8 = {"num_bits": 8, "type": "int"}
_FP8 = {"num_bits": 8, "type": "float"}
_FP4 = {"num_bits": 4, "type": "float"}
SCHEMES: dict[str, tuple[str, dict[str, Any], torch.dtype]] = {
    "int4 in groups": ("pack-quantized", {**_INT4, "strategy": "group", "group_size": 16}, torch.bfloat16),
    "int4 in groups, with zero points": (
        "pack-quantized",
        {**_INT4, "strategy": "group", "group_size": 32, "symmetric": False},
        torch.bfloat16,
    ),
    "int4 by channel, scales in float16": ("pack-quantized", {**_INT4, "strategy": "channel"}, torch.float16),
    "int8 packed, by channel, with zero points": (
        "pack-quantized",
        {**_INT8, "strategy": "channel", "symmetric": False},
        torch.float32,
    ),
    "int8 by channel": ("int-quantized", {**_INT8, "strategy": "channel"}, torch.bfloat16),
    "int8 by tensor, with a zero point": (
        "int-quantized",
        {**_INT8, "strategy": "tensor", "symmetric": False},
        torch.bfloat16,
    ),
    "fp8 by tensor": ("float-quantized", {**_FP8, "strategy": "tensor"}, torch.float32),
    "fp8 by channel": ("float-quantized", {**_FP8, "strategy": "channel"}, torch.bfloat16),
    "fp8 in blocks": ("float-quantized", {**_FP8, "strategy": "block", "block_structure": [8, 48]}, torch.bfloat16),
    "nvfp4": ("nvfp4-pack-quantized", {**_FP4, "strategy": "tensor_group", "group_size": 16}, torch.float32),
    "nvfp4, whose scale has no axis": (
        "nvfp4-pack-quantized",
        {**_FP4, "strategy": "tensor_group", "group_size": 16},
        torch.float32,
    ),
    "mxfp4": ("mxfp4-pack-quantized", {**_FP4, "strategy": "group", "group_size": 32}, torch.bfloat16),
    "mxfp8": ("mxfp8-quantized", {**_FP8, "strategy": "group", "group_size": 32}, torch.bfloat16),
    "int3 in groups": ("pack-quantized", {**_INT3, "strategy": "group", "group_size": 32}, torch.bfloat16),
    "int6 by channel, with zero points": (
        "pack-quantized",
        {**_INT6, "strategy": "channel", "symmetric": False},
        torch.bfloat16,
    ),
}


class Codes(NamedTuple):
    """Stored tensors of a module, by their own names, the config that says what they are, and their numbers."""

    tensors: dict[str, torch.Tensor]
    config: dict[str, Any]
    numbers: torch.Tensor


def decompressed(name: str, rows: int, columns: int, seed: int) -> Codes:
    """Compress random weights with compressed-tensors, and decompress them with it."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme

    format_, weights, dtype = SCHEMES[name]
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    compressor = BaseCompressor.get_value_from_registry(format_)
    state = dict(_state(name, format_, weights, dtype, rows, columns, seed))
    stored = compressor.compress(state, scheme)
    numbers = compressor.decompress(stored, scheme)["weight"]
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "format": format_}}
    config = {"quant_method": "compressed-tensors", "format": format_, "config_groups": groups}
    return Codes({f"{MODULE}.{key}": tensor for key, tensor in stored.items()}, config, numbers)


def _state(
    name: str, format_: str, weights: dict[str, Any], dtype: torch.dtype, rows: int, columns: int, seed: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """Make weights and scales such that every code comes up, those at the ends too."""
    generator = torch.Generator().manual_seed(seed)
    yield "weight", torch.randn((rows, columns), generator=generator).to(dtype)
    shape = _scales(weights, rows, columns)
    most = float(1 << weights["num_bits"] - 1) if weights["type"] == "int" else 448.0
    scale = (0.5 + torch.rand(shape, generator=generator)) * 2.5 / most
    if format_.startswith("mxfp"):
        exponents = torch.randint(-6, 6, shape, generator=generator)
        yield "weight_scale", (2.0**exponents).to(dtype)
        return
    if format_.startswith("nvfp4"):
        scale = scale.new_tensor(0.1) + torch.rand(shape, generator=generator) * 40
        whole = torch.tensor(73.1).reshape(() if "no axis" in name else (1,))
        yield "weight_global_scale", whole
        scale = scale.to(torch.float8_e4m3fn).to(dtype)
    yield "weight_scale", scale.to(dtype)
    if not weights.get("symmetric", True):
        half = 1 << (weights["num_bits"] - 1)
        yield "weight_zero_point", torch.randint(-half, half, shape, generator=generator).to(torch.int8)


def _scales(weights: dict[str, Any], rows: int, columns: int) -> tuple[int, ...]:
    if weights["strategy"] == "tensor":
        return (1,)
    if weights["strategy"] == "channel":
        return (rows, 1)
    if weights["strategy"] == "block":
        down, across = weights["block_structure"]
        return (-(-rows // down), -(-columns // across))
    return (rows, columns // weights["group_size"])


def write() -> None:
    """Write the golden file, with the configs in its metadata."""
    tensors, configs = {}, {}
    for seed, name in enumerate(SCHEMES):
        codes = decompressed(name, 12, 64, seed)
        configs[name] = codes.config
        tensors |= {f"{name}|{key}": tensor.contiguous() for key, tensor in codes.tensors.items()}
        tensors[f"{name}|numbers"] = codes.numbers.contiguous()
    save_file(tensors, GOLDEN, {"configs": json.dumps(configs)})


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor of any of these types as NumPy has it."""
    from cuvee.checkpoint.dtypes import NUMPY
    from cuvee.foreign.torch_files import _TYPES

    dtype = NUMPY[_TYPES[str(tensor.dtype).removeprefix("torch.")]]
    flat = tensor.reshape(-1).contiguous().view(torch.uint8).numpy().reshape(-1)
    return flat.view(dtype).reshape(tuple(tensor.shape))


if __name__ == "__main__":
    write()
