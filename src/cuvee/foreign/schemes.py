"""Which scheme weights are quantised by, from the config and the names of what is stored beside the codes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import PACKED

_OF_BUFFERS = ("F8_E8M0", *PACKED)
"""Types that are codes in the names of weights and in stacks of experts, and may be those of buffers elsewhere."""

_BY_TENSORS: tuple[tuple[str, str], ...] = (
    (r"\.(absmax|quant_map|nested_absmax|SCB)$|quant_state\.bitsandbytes", "bitsandbytes"),
    (r"\.weight_scale_2$", "NVFP4"),
    (r"_blocks$", "MXFP4"),
    (r"\.g_idx$", "GPTQ"),
    (r"\.q_weight$|\.q_groups$", "EXL2"),
    (r"\.trellis$", "EXL3"),
    (r"\.W_q$", "HQQ"),
    (r"\.codebooks?$", "AQLM"),
    (r"\.Qidxs$", "QuIP#"),
    (r"\.qzeros$", "AWQ or GPTQ"),
    (r"\.weight_packed$", "compressed-tensors"),
    (r"\.biases$", "MLX"),
)
"""Names that only one scheme has, the more telling first."""

_NAMES = {
    "bitsandbytes": "bitsandbytes", "gptq": "GPTQ", "awq": "AWQ", "aqlm": "AQLM", "hqq": "HQQ", "eetq": "EETQ",
    "quip": "QuIP#", "exl2": "EXL2", "exl3": "EXL3", "mxfp4": "MXFP4", "vptq": "VPTQ", "higgs": "HIGGS",
    "quanto": "Quanto", "torchao": "torchao", "spqr": "SpQR", "bitnet": "BitNet", "modelopt": "ModelOpt",
    "fp8": "fp8", "fbgemm_fp8": "FBGEMM fp8", "compressed-tensors": "compressed-tensors",
}  # fmt: skip
"""What people call the schemes; any other name is shown as the config has it."""

SCALED = ("fp8", "fbgemm_fp8", "compressed-tensors")
"""Schemes whose numbers are exactly defined: codes times scales."""


@dataclass(frozen=True)
class Scheme:
    """A scheme: its key in configs, what people call it, the config's settings, and the tensor that gave it away."""

    key: str
    name: str
    settings: Mapping[str, Any]
    tensor: str | None = None

    def __str__(self) -> str:
        return f"{self.name}, by '{self.tensor}'" if self.tensor else self.name


def scheme_of(source: TensorSource) -> Scheme | None:
    """Recognise how weights are quantised; None for plain numbers."""
    config = source.config
    said = config.get("quantization_config") or config.get("compression_config") or config.get("quantization")
    if said:
        return _by_config(said, source)
    for pattern, name in _BY_TENSORS:
        found = next((tensor for tensor in source.tensors if re.search(pattern, tensor)), None)
        if found is not None and (name != "MLX" or _is_packed(found, source.tensors)):
            return Scheme("", name, {}, found)
    codes = next((spec for spec in source.tensors.values() if _is_code(spec)), None)
    return Scheme("", f"{codes.dtype} of unknown meaning", {}, codes.name) if codes else None


def _by_config(said: Any, source: TensorSource) -> Scheme:
    settings: Mapping[str, Any] = said if isinstance(said, dict) else {}
    key = str(settings.get("quant_method", said if isinstance(said, str) else "unknown")).lower()
    if key == "unknown" and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        key = "bitsandbytes"
    if key == "unknown" and "group_size" in settings and any(name.endswith(".scales") for name in source.tensors):
        return Scheme("mlx", "MLX", settings)
    return Scheme(key, _NAMES.get(key, key), settings)


def _is_packed(name: str, tensors: Mapping[str, TensorSpec]) -> bool:
    weight = tensors.get(name.removesuffix("biases") + "weight")
    return weight is not None and weight.dtype == "U32"


def _is_code(spec: TensorSpec) -> bool:
    last = spec.name.rpartition(".")[2]
    if spec.dtype in _OF_BUFFERS:
        return "weight" in last or len(spec.shape) >= 3
    return spec.dtype.startswith("F8") or (spec.dtype in ("I8", "U8", "I32", "U32") and "weight" in last)
