"""Weights stored as codes and scales, where the numbers are exactly defined: number = (code - zero point) × scale.

fp8 in blocks (`weight_scale_inv`, which multiplies in spite of its name) as transformers, DeepSeek and Qwen have it,
FBGEMM's and ModelOpt's fp8, and compressed-tensors: fp8 and int8 by tensor, row, block or group, packed whole numbers,
NVFP4, MXFP4 and MXFP8; GPT-OSS's MXFP4. Products are those of the scheme's own library, to the last bit:
`BaseCompressor.decompress` of compressed-tensors, `Fp8Dequantize` and `convert_moe_packed_tensors` of transformers.
FBGEMM's and ModelOpt's stay in float32, which their kernels multiply in.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE, NAMES, NUMPY
from cuvee.errors import CheckpointError
from cuvee.foreign.decoded import Decoded, Decoding
from cuvee.foreign.fours import Experts, mxfp4, nvfp4
from cuvee.foreign.grid import Grid, check_scales, grid_of, rows_of, where
from cuvee.foreign.packed import unpacked
from cuvee.foreign.product import product, rounded_to
from cuvee.foreign.scheme_groups import formats_of, pair, weights_of
from cuvee.foreign.schemes import COMPRESSED, MODELOPT, MXFP4, SCALED, Scheme, without_scheme

_CODES = {
    "fp8": ("F8_E4M3", "F8_E5M2"), "fbgemm_fp8": ("F8_E4M3",), COMPRESSED: ("F8_E4M3", "I8"), MODELOPT: ("F8_E4M3",),
    MXFP4: (),
}  # fmt: skip
_FORMATS = (
    "naive-quantized", "float-quantized", "int-quantized", "pack-quantized", "nvfp4-pack-quantized",
    "mxfp4-pack-quantized", "mxfp8-quantized", "mixed-precision", "dense",
)  # fmt: skip
_OF_MODELOPT = ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "NVFP4", "W4A16_NVFP4")
_ACTIVATIONS = (
    "input_scale", "input_scale_ub", "input_global_scale", "activation_scale", "k_scale", "v_scale", "q_scale",
    "input_zero_point", "output_scale", "output_zero_point", "k_zero_point", "v_zero_point", "q_zero_point",
)  # fmt: skip
_PACKED, _GLOBAL, _SECOND, _BLOCKS = "_packed", "_global_scale", "_scale_2", "_blocks"
_UNROUNDED = ("fbgemm_fp8", MODELOPT)


def is_exact(scheme: Scheme) -> bool:
    """Say whether the numbers behind a scheme's codes are exactly defined and known here."""
    if scheme.key == MODELOPT:
        return scheme.settings.get("quant_algo") in _OF_MODELOPT
    if scheme.key == COMPRESSED:
        formats = formats_of(scheme)
        are_known = bool(formats) and formats <= set(_FORMATS)
        return are_known and not _is_changed(scheme.settings)
    return scheme.key in SCALED


def _is_changed(settings: Mapping[str, Any]) -> bool:
    """Say whether weights are stored without their zeros, or turned, besides being codes."""
    sparse, turned = settings.get("sparsity_config"), settings.get("transform_config")
    if isinstance(sparse, dict) and sparse.get("format") not in (None, "dense"):
        return True
    return isinstance(turned, dict) and bool(turned.get("config_groups"))


def dequantised(source: TensorSource, scheme: Scheme) -> Decoded:
    """View a checkpoint of codes as numbers. Raises CheckpointError for codes whose scales do not fit."""
    hidden: set[str] = set()
    decodings = {decoding.spec.name: decoding for decoding in _decodings(source, scheme, hidden)}
    if not decodings:
        message = f"its config says that its weights are quantised ({scheme}), but no tensor holds codes"
        raise CheckpointError(message, where=where(source), hint="if they are numbers, remove 'quantization_config'")
    tensors = source.tensors
    idle = {name for name in tensors if name.rpartition(".")[2] in _ACTIVATIONS}
    understood = {*decodings, *hidden, *idle}
    for name, spec in tensors.items():
        if name not in understood and _is_left(spec):
            message = f"'{name}' is {spec.dtype}, and nothing says what its codes mean"
            raise CheckpointError(message, where=where(source), hint="merge the unquantised model")
    config = without_scheme(source.config)
    return Decoded(
        source,
        decodings,
        hidden=frozenset(hidden | idle),
        config=config,
        meant=dict.fromkeys(decodings, _meant(config)),
        notes=(_note(scheme, len(decodings), len(idle)),),
    )


def _note(scheme: Scheme, tensors: int, idle: int) -> str:
    scales = f"; {idle} scales of activations are left out" if idle else ""
    return f"{tensors} tensors are {scheme.name} codes and scales, read as the numbers that they stand for{scales}"


def _meant(config: Mapping[str, Any]) -> str:
    """Return the type that the config says the model is of; bfloat16 where it does not say."""
    dtype = config.get("dtype") or config.get("torch_dtype")
    return NAMES.get(str(dtype), "BF16")


def _is_left(spec: TensorSpec) -> bool:
    """Say whether a tensor seems to hold codes or scales."""
    if spec.dtype.startswith("F8") or spec.name.endswith(("_scale", "_scale_inv", "_scale_2", "weight_g_idx")):
        return True
    return spec.dtype not in MERGEABLE and "weight" in spec.name.rpartition(".")[2]


def _decodings(source: TensorSource, scheme: Scheme, hidden: set[str]) -> Iterable[Decoding]:
    """Find the tensors that are codes, by name and type; the names of codes and scales are added to `hidden`."""
    experts = Experts(source)
    for name, spec in source.tensors.items():
        if scheme.key == MXFP4 and name.endswith(_BLOCKS):
            yield experts.stack(spec, hidden)
        elif scheme.key == COMPRESSED and name.endswith(f".weight{_PACKED}"):
            yield _of_packed(source, scheme, spec, hidden)
        elif scheme.key == MODELOPT and f"{name}{_SECOND}" in source.tensors:
            yield nvfp4(source, spec, name, whole=f"{name}{_SECOND}", divides=False, hidden=hidden)
        elif _is_coded(spec, scheme):
            yield _scaled(source, scheme, spec, hidden)


def _of_packed(source: TensorSource, scheme: Scheme, spec: TensorSpec, hidden: set[str]) -> Decoding:
    plain = spec.name.removesuffix(_PACKED)
    if spec.dtype != "U8":
        return unpacked(source, scheme, spec, plain, hidden)
    if f"{plain}{_GLOBAL}" in source.tensors:
        return nvfp4(source, spec, plain, whole=f"{plain}{_GLOBAL}", divides=True, hidden=hidden)
    return mxfp4(source, spec, plain, hidden)


def _is_coded(spec: TensorSpec, scheme: Scheme) -> bool:
    """Say whether a tensor holds codes of the scheme that have a scale beside them, one number to a byte."""
    is_matrix = len(spec.shape) >= 2 and not spec.name.endswith(("_zero_point", "_scale"))
    return is_matrix and spec.dtype in _CODES[scheme.key]


def _scaled(source: TensorSource, scheme: Scheme, spec: TensorSpec, hidden: set[str]) -> Decoding:
    names = (f"{spec.name}_scale_inv", f"{spec.name}_scale")
    name = next((name for name in names if name in source.tensors), None)
    if name is None:
        raise CheckpointError(f"'{spec.name}' holds {spec.dtype} codes without a scale", where=where(source))
    hidden.add(name)
    check_scales(source, name, "U8", "F8_E8M0")
    grid = grid_of(source, name, spec.shape, _block(source, scheme, spec.name))
    zero = _zero_point(source, spec.name, grid, hidden)
    read = rows_of(source, spec.name, spec.shape[-1])
    table = np.arange(256, dtype=np.uint8).view(NUMPY[spec.dtype]).astype(np.float32)
    dtype = "F32" if scheme.key in _UNROUNDED else rounded_to(source.tensors[name].dtype)
    return product(
        spec, spec.name, spec.shape, dtype, lambda low, high: table[read(low, high).view(np.uint8)], grid, zero
    )


def _zero_point(source: TensorSource, name: str, grid: Grid, hidden: set[str]) -> Grid | None:
    zero = f"{name}_zero_point"
    if zero not in source.tensors:
        return None
    hidden.add(zero)
    if source.tensors[zero].elements != grid.shape[0] * grid.shape[1]:
        raise CheckpointError(f"'{zero}' does not fit the scales", where=where(source))
    read = rows_of(source, zero, grid.shape[1])
    return Grid(lambda first, last: read(first, last).astype(np.float32), grid.shape, grid.rows, grid.columns)


def _block(source: TensorSource, scheme: Scheme, name: str) -> tuple[int, int] | None:
    """Return the rows and columns that share a scale, where the config says it."""
    block = pair(scheme.settings.get("weight_block_size"))
    if block is None and scheme.key == COMPRESSED:
        block = pair(weights_of(scheme, name, where(source)).get("block_structure"))
    return block
