"""Floats of four bits (E2M1), two to a byte, the earlier in the lower half: NVFP4 and MXFP4.

compressed-tensors has groups of 16 with a scale in fp8 and one scale for the tensor to divide by (NVFP4), or groups of
32 with a power of two (MXFP4); ModelOpt's NVFP4 multiplies by the tensor's scale. GPT-OSS has MXFP4 in blocks of 16
bytes, of matrices that lie the other way round.
"""

import math
from collections.abc import Callable

import ml_dtypes
import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.errors import CheckpointError
from cuvee.foreign.decoded import Decoding
from cuvee.foreign.grid import Grid, check_scales, grid_of, rows_of, where
from cuvee.foreign.product import product

_NUMBERS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
_BLOCK = 32
_BLOCK_BYTES = 16
_OFFSET = 127


def nvfp4(
    source: TensorSource, spec: TensorSpec, plain: str, *, whole: str, divides: bool, hidden: set[str]
) -> Decoding:
    """View fp4 codes in groups with fp8 scales, and one scale for all, as the tensor `plain`.

    `whole` names the scale of the tensor, which the scales of groups are divided by, or multiplied with.
    """
    scale = f"{plain}_scale"
    hidden |= {spec.name, scale, whole} - {plain}
    check_scales(source, scale, "F8_E4M3")
    check_scales(source, whole)
    if source.tensors[whole].elements != 1:
        raise CheckpointError(f"expected one number in '{whole}'", where=where(source))
    shape = _shape(source, spec)
    groups = grid_of(source, scale, shape)
    one = rows_of(source, whole, 1)
    has_axis = bool(source.tensors[whole].shape)

    def scales(first: int, last: int) -> np.ndarray:
        factor = one(0, 1).astype(np.float32)
        if not divides:
            return groups.read(first, last) * factor
        quotients = groups.read(first, last) / factor
        # torch keeps the type of the tensor beside a number without axes: bfloat16, which the library uses here.
        return quotients if has_axis else quotients.astype(ml_dtypes.bfloat16).astype(np.float32)

    grid = Grid(scales, groups.shape, groups.rows, groups.columns)
    return product(spec, plain, shape, "BF16" if divides else "F32", _codes(source, spec), grid)


def mxfp4(source: TensorSource, spec: TensorSpec, plain: str, hidden: set[str]) -> Decoding:
    """View fp4 codes in groups whose scales are powers of two as the tensor `plain`."""
    scale = f"{plain}_scale"
    hidden |= {spec.name, scale}
    stored = source.tensors.get(scale)
    if stored is None or stored.dtype not in ("U8", "F8_E8M0"):
        message = f"expected exponents of one byte in '{scale}', the scales of '{spec.name}'"
        raise CheckpointError(message, where=where(source))
    shape = _shape(source, spec)
    return product(spec, plain, shape, "BF16", _codes(source, spec), grid_of(source, scale, shape))


def _shape(source: TensorSource, spec: TensorSpec) -> tuple[int, int]:
    if spec.dtype != "U8" or len(spec.shape) != 2:
        raise CheckpointError(f"'{spec.name}' does not hold rows of fp4 codes, two to a byte", where=where(source))
    return spec.shape[0], spec.shape[1] * 2


def _codes(source: TensorSource, spec: TensorSpec) -> Callable[[int, int], np.ndarray]:
    read = rows_of(source, spec.name, spec.shape[1])
    return lambda low, high: numbers_of(read(low, high))


def numbers_of(pairs: np.ndarray) -> np.ndarray:
    """Return the numbers in rows of bytes, two of each byte."""
    return _NUMBERS[np.stack((pairs & 15, pairs >> 4), axis=-1).reshape(len(pairs), -1)]


class Experts:
    """The codes of experts in GPT-OSS's blocks, read expert by expert. The last one read is kept.

    Its matrices lie the other way round than the model has them: a row of the model has a code of each stored row.
    """

    def __init__(self, source: TensorSource) -> None:
        self.source = source
        self._last: tuple[str, int, np.ndarray, np.ndarray] | None = None

    def stack(self, spec: TensorSpec, hidden: set[str]) -> Decoding:
        """View blocks as the stack of matrices that transformers has. Raises CheckpointError for other shapes."""
        plain = spec.name.removesuffix("_blocks")
        name = f"{plain}_scales"
        hidden |= {spec.name, name}
        scales = self.source.tensors.get(name)
        is_blocks = spec.dtype == "U8" and len(spec.shape) == 4 and spec.shape[3] == _BLOCK_BYTES
        if scales is None or not is_blocks or scales.dtype != "U8" or scales.shape != spec.shape[:3]:
            found = f"{list(spec.shape)} and {list(scales.shape) if scales else 'none'}"
            message = (
                f"expected bytes [experts, rows, blocks, 16] in '{spec.name}' and [experts, rows, blocks] in '{name}'"
            )
            raise CheckpointError(f"{message}; found {found}", where=where(self.source))
        experts, columns, blocks, _ = spec.shape
        rows = blocks * _BLOCK

        def decode(first: int, last: int) -> np.ndarray:
            out, at = np.empty(last - first, np.float32), first
            while at < last:
                expert = at // (rows * columns)
                start = expert * rows * columns
                end = min(last, start + rows * columns)
                out[at - first : end - first] = self._part(spec, name, expert, at - start, end - start)
                at = end
            return out

        return Decoding(TensorSpec(plain, "BF16", (experts, rows, columns), spec.file, 0), decode)

    def _part(self, spec: TensorSpec, scales: str, expert: int, first: int, last: int) -> np.ndarray:
        """Return numbers of one expert's matrix, from one place up to another."""
        codes, exponents = self._expert(spec, scales, expert)
        columns = codes.shape[0]
        low, high = first // columns, -(-last // columns)
        pairs = codes[:, low // 2 : -(-high // 2)]
        numbers = numbers_of(pairs)[:, low % 2 :][:, : high - low]
        powers = exponents[:, np.arange(low, high) // _BLOCK]
        with np.errstate(over="ignore"):
            matrix: np.ndarray = np.ldexp(numbers, powers).T
        return matrix.reshape(-1)[first - low * columns : last - low * columns]

    def _expert(self, spec: TensorSpec, scales: str, expert: int) -> tuple[np.ndarray, np.ndarray]:
        last = self._last
        if last is not None and last[:2] == (spec.name, expert):
            return last[2], last[3]
        columns, nbytes = spec.shape[1], math.prod(spec.shape[2:])
        codes = rows_of(self.source, spec.name, nbytes)(expert * columns, (expert + 1) * columns)
        powers = rows_of(self.source, scales, spec.shape[2])(expert * columns, (expert + 1) * columns)
        exponents = powers.astype(np.int32) - _OFFSET
        self._last = spec.name, expert, codes, exponents
        return codes, exponents
