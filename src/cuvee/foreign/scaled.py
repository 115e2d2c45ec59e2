"""Weights stored as codes and scales, where the numbers are exactly defined: number = (code - zero point) × scale.

fp8 in blocks (`weight_scale_inv`, which multiplies in spite of its name), fp8 and int8 of compressed-tensors by tensor,
row or group, and its packed int4 and int8. Products are taken in float32.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE, NAMES, NUMPY
from cuvee.errors import CheckpointError
from cuvee.foreign.decoded import Decoded, Decoding
from cuvee.foreign.schemes import SCALED, Scheme

_CODES = {"fp8": ("F8_E4M3", "F8_E5M2"), "fbgemm_fp8": ("F8_E4M3",), "compressed-tensors": ("F8_E4M3", "I8")}
_FORMATS = ("naive-quantized", "float-quantized", "int-quantized", "pack-quantized", "dense")
_ACTIVATIONS = ("input_scale", "input_scale_ub", "k_scale", "v_scale", "q_scale", "input_zero_point", "output_scale")
_PACKED_BITS = (4, 8)


def is_exact(scheme: Scheme) -> bool:
    """Say whether the numbers behind a scheme's codes are exactly defined and known here."""
    if scheme.key not in SCALED:
        return False
    if scheme.key == "compressed-tensors":
        formats = {scheme.settings.get("format"), *(group.get("format") for group in _groups(scheme))} - {None}
        return bool(formats) and formats <= set(_FORMATS)
    return True


def dequantised(source: TensorSource, scheme: Scheme) -> Decoded:
    """View a checkpoint of codes as numbers. Raises CheckpointError for codes whose scales do not fit."""
    tensors = source.tensors
    hidden: set[str] = set()
    decodings: dict[str, Decoding] = {}
    for name, spec in tensors.items():
        if _is_coded(spec, scheme):
            decodings[name] = _scaled(source, scheme, spec, hidden)
    for name, spec in tensors.items():
        if name.endswith(".weight_packed"):
            plain = name.removesuffix("_packed")
            decodings[plain] = _unpacked(source, scheme, spec, plain, hidden)
            hidden.add(name)
    if not decodings:
        message = f"its config says that its weights are quantised ({scheme}), but no tensor holds codes"
        raise CheckpointError(message, where=_where(source), hint="if they are numbers, remove 'quantization_config'")
    idle = {name for name in tensors if name.rpartition(".")[2] in _ACTIVATIONS}
    understood = {*decodings, *hidden, *idle}
    for name, spec in tensors.items():
        if name not in understood and _is_left(spec):
            message = f"'{name}' is {spec.dtype}, and nothing says what its codes mean"
            raise CheckpointError(message, where=_where(source), hint="merge the unquantised model")
    config = dict(source.config)
    for key in ("quantization_config", "compression_config"):
        config.pop(key, None)
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
    said = config.get("dtype") or config.get("torch_dtype")
    return NAMES.get(str(said), "BF16")


def _is_coded(spec: TensorSpec, scheme: Scheme) -> bool:
    """Say whether a tensor holds codes of the scheme that have a scale beside them."""
    is_matrix = len(spec.shape) >= 2 and not spec.name.endswith("_zero_point")
    return is_matrix and spec.dtype in _CODES[scheme.key]


def _is_left(spec: TensorSpec) -> bool:
    """Say whether a tensor seems to hold codes or scales."""
    if spec.dtype.startswith("F8") or spec.name.endswith(("_scale", "_scale_inv", "weight_g_idx")):
        return True
    return spec.dtype not in MERGEABLE and "weight" in spec.name.rpartition(".")[2]


@dataclass(frozen=True)
class _Grid:
    """A number for each block of a matrix, `rows` by `columns` elements large; read when the first is needed."""

    numbers: Callable[[], np.ndarray]
    shape: tuple[int, int]
    rows: int
    columns: int

    def over(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.asarray(self.numbers()[rows // self.rows, columns // self.columns])


def _scaled(source: TensorSource, scheme: Scheme, spec: TensorSpec, hidden: set[str]) -> Decoding:
    names = (f"{spec.name}_scale_inv", f"{spec.name}_scale")
    name = next((name for name in names if name in source.tensors), None)
    if name is None:
        raise CheckpointError(f"'{spec.name}' holds {spec.dtype} codes without a scale", where=_where(source))
    hidden.add(name)
    grid = _grid(source, scheme, spec.shape, name)
    zero = _zero_point(source, spec.name, grid, hidden)
    table = np.arange(256, dtype=np.uint8).view(NUMPY[spec.dtype]).astype(np.float32)

    def decode(first: int, last: int) -> np.ndarray:
        codes = np.empty(last - first, np.uint8)
        source.read_into(spec.name, first, [codes])
        return _times(table[codes], np.arange(first, last), spec.shape[-1], grid, zero)

    return Decoding(TensorSpec(spec.name, "F32", spec.shape, spec.file, 0), decode)


def _times(numbers: np.ndarray, at: np.ndarray, width: int, grid: _Grid, zero: _Grid | None) -> np.ndarray:
    """Return (numbers - zero points) × scales of the elements at these places of a matrix of that width."""
    rows, columns = np.divmod(at, width)
    if zero is not None:
        numbers = numbers - zero.over(rows, columns)
    return np.asarray(numbers * grid.over(rows, columns))


def _zero_point(source: TensorSource, name: str, grid: _Grid, hidden: set[str]) -> _Grid | None:
    zero = f"{name}_zero_point"
    if zero not in source.tensors:
        return None
    hidden.add(zero)
    if source.tensors[zero].elements != math.prod(grid.shape):
        raise CheckpointError(f"'{zero}' does not fit the scales", where=_where(source))
    return replace(grid, numbers=_once(lambda: _read(source, zero).astype(np.float32).reshape(grid.shape)))


def _grid(source: TensorSource, scheme: Scheme, shape: tuple[int, ...], name: str) -> _Grid:
    """Find the scales of a matrix, or of a stack of matrices as one tall matrix."""
    spec = source.tensors.get(name)
    if spec is None or spec.dtype not in MERGEABLE:
        found = f"it is {spec.dtype}" if spec else "there is none"
        raise CheckpointError(f"expected scales of a type such as F32 in '{name}'; {found}", where=_where(source))
    stack, rows, columns = math.prod(shape[:-2]), shape[-2], shape[-1]
    if spec.elements == 1:
        whole = (1, 1)
        return _Grid(_once(lambda: _floats(source, name, whole)), whole, max(stack * rows, 1), max(columns, 1))
    given = spec.shape[-2:] if len(spec.shape) == len(shape) else (spec.elements, 1)
    down, across = _block(scheme, rows, columns, given)
    fits = (math.ceil(rows / down), math.ceil(columns / across)) == given and spec.elements == stack * math.prod(given)
    if not fits or (stack > 1 and rows % down):
        message = f"'{name}' has shape {list(spec.shape)}, which does not fit a weight of shape {list(shape)}"
        raise CheckpointError(message, where=_where(source))
    tall = (stack * given[0], given[1])
    return _Grid(_once(lambda: _floats(source, name, tall)), tall, down, across)


def _once(make: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    return cache(make)


def _floats(source: TensorSource, name: str, shape: tuple[int, int]) -> np.ndarray:
    return _read(source, name).astype(np.float32).reshape(shape)


def _block(scheme: Scheme, rows: int, columns: int, scales: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns that share a scale: as the config says, or as the scales fit."""
    blocks = [scheme.settings.get("weight_block_size")]
    blocks += [_weights(group).get("block_structure") for group in _groups(scheme)]
    block = next((block for block in blocks if isinstance(block, list) and len(block) == 2), None)
    is_by_row = scales == (rows, 1)
    if block is not None and not is_by_row and all(map(_is_positive, block)):
        return block[0], block[1]
    return max(1, rows // max(scales[0], 1)), max(1, columns // max(scales[1], 1))


def _is_positive(number: Any) -> bool:
    return type(number) is int and number > 0


def _first_number(key: str, scheme: Scheme) -> int:
    """Return a whole number that the first group of a scheme that has the key states, 0 if there is none."""
    for group in _groups(scheme):
        number = _weights(group).get(key)
        if type(number) is int:
            return number
    return 0


def _unpacked(source: TensorSource, scheme: Scheme, spec: TensorSpec, plain: str, hidden: set[str]) -> Decoding:
    """Decode codes of 4 or 8 bits packed into 32-bit words along the rows, the lowest bits first."""
    hidden |= {f"{plain}_shape", f"{plain}_scale"}
    bits, size = _first_number("num_bits", scheme), _first_number("group_size", scheme)
    scales = source.tensors.get(f"{plain}_scale")
    is_packed = bits in _PACKED_BITS and len(spec.shape) == 2 and spec.dtype == "I32"
    if not is_packed or scales is None:
        message = f"'{spec.name}' does not hold 4-bit or 8-bit codes with scales, in 32-bit words"
        raise CheckpointError(message, where=_where(source))
    width = scales.shape[-1] * size if size > 0 else spec.shape[1] * 32 // bits
    shape, words = (spec.shape[0], width), spec.shape[1]
    if math.ceil(width * bits / 32) != words:
        message = f"'{spec.name}' of shape {list(spec.shape)} does not hold {bits}-bit codes of shape {list(shape)}"
        raise CheckpointError(message, where=_where(source))
    grid = _grid(source, scheme, shape, f"{plain}_scale")
    zero = _packed_zero_point(source, plain, grid, bits, hidden)

    @cache
    def check() -> None:
        said = _read(source, f"{plain}_shape").reshape(-1).tolist()
        if said != list(shape):
            message = f"'{plain}_shape' says {said}; its codes and scales are of {list(shape)}"
            raise CheckpointError(message, where=_where(source))

    def decode(first: int, last: int) -> np.ndarray:
        check()
        low, high = first // width, -(-last // width)
        raw = np.empty((high - low) * words * 4, np.uint8)
        source.read_into(spec.name, low * words * 4, [raw])
        codes = _codes(raw.reshape(high - low, -1), bits)[:, :width].reshape(-1)
        numbers = codes[first - low * width : last - low * width].astype(np.float32)
        return _times(numbers, np.arange(first, last), width, grid, zero)

    return Decoding(TensorSpec(plain, "F32", shape, spec.file, 0), decode)


def _packed_zero_point(source: TensorSource, plain: str, grid: _Grid, bits: int, hidden: set[str]) -> _Grid | None:
    """Zero points are packed down the columns: those of row i lie in word i * bits / 32."""
    name = f"{plain}_zero_point"
    spec = source.tensors.get(name)
    if spec is None:
        return None
    hidden.add(name)
    if spec.dtype != "I32" or spec.shape != (math.ceil(grid.shape[0] * bits / 32), grid.shape[1]):
        raise CheckpointError(f"'{name}' does not fit the scales", where=_where(source))

    def unpack() -> np.ndarray:
        packed = np.ascontiguousarray(_read(source, name).T).view(np.uint8)
        return _codes(packed, bits).T[: grid.shape[0]].astype(np.float32)

    return replace(grid, numbers=_once(unpack))


def _codes(packed: np.ndarray, bits: int) -> np.ndarray:
    """Return the signed codes in rows of bytes: they are stored with half their range added."""
    if bits == 8:
        return packed.astype(np.int16) - 128
    return np.stack((packed & 15, packed >> 4), axis=-1).reshape(len(packed), -1).astype(np.int16) - 8


def _weights(group: Mapping[str, Any]) -> Mapping[str, Any]:
    said = group.get("weights")
    return said if isinstance(said, dict) else {}


def _groups(scheme: Scheme) -> list[Mapping[str, Any]]:
    groups = scheme.settings.get("config_groups")
    if not isinstance(groups, dict):
        return []
    return [group for group in groups.values() if isinstance(group, dict)]


def _read(source: TensorSource, name: str) -> np.ndarray:
    """Read a small tensor: scales, zero points, shapes."""
    spec = source.tensors.get(name)
    if spec is None:
        raise CheckpointError(f"has no '{name}', which its codes need", where=_where(source))
    raw = np.empty(spec.nbytes, np.uint8)
    source.read_into(name, 0, [raw])
    return raw.view(NUMPY[spec.dtype]).reshape(spec.shape)


def _where(source: TensorSource) -> str | None:
    return str(source.place) if source.place is not None else None
