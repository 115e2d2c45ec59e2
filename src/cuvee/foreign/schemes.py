"""The scheme by which weights are quantised, from the config and the names of tensors beside the codes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import PACKED
from cuvee.errors import CheckpointError

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

COMPRESSED, MODELOPT, MXFP4 = "compressed-tensors", "modelopt", "mxfp4"

_KEYS = ("quantization_config", "compression_config", "quantization")
_STRIPPED = _KEYS[:2]

SCALED = ("fp8", "fbgemm_fp8", COMPRESSED, MODELOPT, MXFP4)
"""Schemes whose numbers are exactly defined, in all their forms or in some: codes times scales."""


_WAYS = {
    "bitsandbytes": "or load it with transformers and bitsandbytes, call `model.dequantize()` and save that",
    "awq": "or convert it to compressed-tensors, with its `AutoAWQConverter`: that is read here",
}
"""How numbers can be had of the codes of some schemes, by the key of a scheme."""


@dataclass(frozen=True)
class Scheme:
    """A scheme: its key in configs, its usual name, the config's settings, and the tensor that gave it away."""

    key: str
    name: str
    settings: Mapping[str, Any]
    tensor: str | None = None

    def __str__(self) -> str:
        form = self.settings.get("quant_algo") or self.settings.get("format")
        name = f"{self.name} {form}" if isinstance(form, str) else self.name
        return f"{name}, by '{self.tensor}'" if self.tensor else name

    @property
    def way_out(self) -> str:
        """What to do about a model whose codes cannot be read."""
        way = _WAYS.get(self.key or self.name)
        hint = "merge the unquantised model and quantise the result"
        return f"{hint}; {way}" if way else hint


def scheme_of(source: TensorSource) -> Scheme | None:
    """Recognise how weights are quantised; None for plain numbers."""
    written = _written_settings(source)
    if written is not None:
        return _by_config(written, source)
    modelopt = _of_modelopt(source)
    if modelopt is not None:
        return Scheme(MODELOPT, _NAMES[MODELOPT], modelopt)
    for pattern, name in _BY_TENSORS:
        tensor = next(filter(re.compile(pattern).search, source.tensors), None)
        if tensor is None:
            continue
        if name != "MLX" or _is_packed(tensor, source.tensors):
            return Scheme("", name, {}, tensor)
    codes = next(filter(_is_code, source.tensors.values()), None)
    if codes is None:
        return None
    return Scheme("", f"{codes.dtype} of unknown meaning", {}, codes.name)


def without_scheme(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config that says nothing of codes, nor does the config of a part in it."""
    plain = {}
    for key, value in config.items():
        if key in _STRIPPED:
            continue
        if isinstance(value, dict):
            value = {inner: said for inner, said in value.items() if inner not in _STRIPPED}
        plain[key] = value
    return plain


def _written_settings(source: TensorSource) -> Any:
    """Return what the config says of codes, itself or in the config of a part, such as the language part.

    Raises CheckpointError if it says two different things.
    """
    found = [source.config[key] for key in _KEYS if source.config.get(key)][:1]
    parts = [value for value in source.config.values() if isinstance(value, dict)]
    found += [part[_KEYS[0]] for part in parts if part.get(_KEYS[0])]
    if any(settings != found[0] for settings in found):
        message = "the config has two different 'quantization_config'"
        where = None if source.place is None else str(source.place)
        raise CheckpointError(message, where=where, hint="merge the unquantised model")
    return found[0] if found else None


def _by_config(written: Any, source: TensorSource) -> Scheme:
    settings: Mapping[str, Any] = written if isinstance(written, dict) else {}
    usual = written if isinstance(written, str) else "unknown"
    key = str(settings.get("quant_method", usual)).lower()
    if key != "unknown":
        return Scheme(key, _NAMES.get(key, key), settings)
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return Scheme("bitsandbytes", _NAMES.get("bitsandbytes", "bitsandbytes"), settings)
    if "group_size" in settings and _has_tensor(source, ".scales"):
        return Scheme("mlx", "MLX", settings)
    return Scheme(key, _NAMES.get(key, key), settings)


def _has_tensor(source: TensorSource, ending: str) -> bool:
    return any(name.endswith(ending) for name in source.tensors)


def _of_modelopt(source: TensorSource) -> Mapping[str, Any] | None:
    """Return the settings that older versions of ModelOpt write beside the config, in a file of their own."""
    if source.place is None or not _has_tensor(source, ".weight_scale"):
        return None
    try:
        written = json.loads((source.place / "hf_quant_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    settings = written.get("quantization") if isinstance(written, dict) else None
    return settings if isinstance(settings, dict) else None


def _is_packed(name: str, tensors: Mapping[str, TensorSpec]) -> bool:
    weight = tensors.get(name.removesuffix("biases") + "weight")
    return weight is not None and weight.dtype == "U32"


def _is_code(spec: TensorSpec) -> bool:
    last = spec.name.rpartition(".")[2]
    if spec.dtype in _OF_BUFFERS:
        return "weight" in last or len(spec.shape) >= 3
    if spec.dtype.startswith("F8"):
        return True
    return spec.dtype in ("I8", "U8", "I32", "U32") and "weight" in last
