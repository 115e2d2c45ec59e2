"""Rows of matrices as GGUF's blocks of codes. Here are K-quants, of 256 numbers, which the package `gguf` only reads.

A block of Q4_K or Q5_K has eight parts of 32 numbers, each with a scale and a minimum of six bits; one of Q6_K has
sixteen parts of 16, each with a scale of eight bits. Numbers are `scale * code - minimum`, and `scale * (code - 32)`.
Scale and minimum of a part are those of the least weighted squares among some twenty roundings: what llama.cpp's
quantiser does without an importance matrix (ggml/src/ggml-quants.c: make_qkx2_quants, make_qx_quants). All sums run in
its order and in float32, so the bytes are the same as on a processor without fused multiplications and additions.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BLOCK = 256
"""Numbers of a block."""

_AT_ONCE = 256
"""Blocks that are fitted together: what the loops over roundings touch stays in the processor's cache."""

_NOTHING = np.float32(1e-15)
"""Parts of smaller numbers are zero in Q6_K."""

_SHIFT = np.float32(12582912)
"""1.5 * 2^23: added to a number, it leaves the nearest whole number in the lowest bits."""


class Part(NamedTuple):
    """Numbers of parts, [size, parts], with scale and minimum of each part, and the codes of the best rounding."""

    scales: np.ndarray
    minima: np.ndarray
    codes: np.ndarray


def quantized(rows: np.ndarray, kind: str) -> np.ndarray:
    """Return the bytes of float32 rows, [rows, bytes], in a type of GGUF; a row is whole blocks.

    The package loses the sign of a zero scale to a zero below zero, so there is none: added to 0, it is above.
    """
    import gguf

    if kind not in _K_QUANTS:
        with np.errstate(all="ignore"):
            return np.asarray(gguf.quantize(rows + np.float32(0), gguf.GGMLQuantizationType[kind]))
    blocks = rows.reshape(-1, BLOCK)
    pieces = [_K_QUANTS[kind](blocks[first : first + _AT_ONCE]) for first in range(0, len(blocks), _AT_ONCE)]
    return np.concatenate(pieces).reshape(len(rows), -1)


def q4_k(blocks: np.ndarray) -> np.ndarray:
    """Return blocks of Q4_K, [blocks, 144]: two float16, twelve bytes of scales and minima, then the codes."""
    head, codes = _offset_blocks(blocks, levels=15, first=-1.0, tries=20)
    pairs = codes.reshape(-1, 4, 2, 32)
    return np.concatenate([head, _flat(pairs[:, :, 0] | pairs[:, :, 1] << 4)], axis=1)


def q5_k(blocks: np.ndarray) -> np.ndarray:
    """Return blocks of Q5_K, [blocks, 176]: as Q4_K, with the fifth bits of the codes before the others."""
    head, codes = _offset_blocks(blocks, levels=31, first=-0.5, tries=15)
    high = np.bitwise_or.reduce((codes >> 4).reshape(-1, 8, 32) << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    pairs = codes.reshape(-1, 4, 2, 32) & 15
    return np.concatenate([head, high, _flat(pairs[:, :, 0] | pairs[:, :, 1] << 4)], axis=1)


def q6_k(blocks: np.ndarray) -> np.ndarray:
    """Return blocks of Q6_K, [blocks, 210]: low bits of the codes, high bits, sixteen scales, a float16."""
    parts = np.ascontiguousarray(blocks.reshape(-1, 16).T)
    scales, codes = _signed_fit(parts)
    scales = scales.reshape(-1, 16)
    largest = scales[np.arange(len(scales)), np.abs(scales).argmax(axis=1)]
    is_nothing = np.abs(largest) < _NOTHING
    with np.errstate(all="ignore"):
        inverse = np.float32(-128) / largest
        step = np.where(is_nothing, 0, 1 / inverse).astype(np.float16)
        own = np.minimum(nearest(inverse[:, None] * scales), 127).astype(np.int8)
        own[is_nothing] = 0
        width = (step.astype(np.float32)[:, None] * own).reshape(-1)
        again = nearest(parts / width).clip(-32, 31) + 32
    codes = np.where(width == 0, codes, again).astype(np.uint8).T.reshape(-1, 2, 4, 32)
    codes[is_nothing] = 0
    low, high = codes & 15, codes >> 4
    low = np.concatenate([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], axis=2)
    high = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    return np.concatenate([_flat(low), _flat(high), own.view(np.uint8), step[:, None].view(np.uint8)], axis=1)


_K_QUANTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"Q4_K": q4_k, "Q5_K": q5_k, "Q6_K": q6_k}


def nearest(numbers: np.ndarray) -> np.ndarray:
    """Return the nearest whole numbers, int32; half is even. Beyond 2^22 they are as wrong as llama.cpp's."""
    return ((numbers + _SHIFT).view(np.int32) & 0x7FFFFF) - 0x400000


def _offset_blocks(blocks: np.ndarray, levels: int, first: float, tries: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes before the codes, [blocks, 16], and a code for each number, [blocks, 256]."""
    parts = np.ascontiguousarray(blocks.reshape(-1, 32).T)
    fit = _offset_fit(parts, levels, first, tries)
    scale_codes, scale_step = _six_bits(fit.scales)
    minimum_codes, minimum_step = _six_bits(fit.minima)
    width = (scale_step.astype(np.float32) * scale_codes).reshape(-1)
    minima = (minimum_step.astype(np.float32) * minimum_codes).reshape(-1)
    with np.errstate(all="ignore"):
        again = nearest((parts + minima) / width).clip(0, levels)
    codes = np.where(width == 0, fit.codes, again).astype(np.uint8)
    steps = np.concatenate([scale_step, minimum_step], axis=1).view(np.uint8)
    return np.concatenate([steps, _packed(scale_codes, minimum_codes)], axis=1), codes.T.reshape(-1, BLOCK)


def _six_bits(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of eight numbers of each block, uint8, and their step, float16."""
    numbers = numbers.reshape(-1, 8)
    largest = np.maximum(numbers.max(axis=1, keepdims=True), 0)
    with np.errstate(all="ignore"):
        inverse = np.where(largest > 0, np.float32(63) / largest, np.float32(0))
        codes = np.minimum(nearest(inverse * numbers).astype(np.uint8), 63)
    return codes, (largest / np.float32(63)).astype(np.float16)


def _packed(scales: np.ndarray, minima: np.ndarray) -> np.ndarray:
    """Pack eight scales and eight minima of six bits into twelve bytes: the last four of each lend two bits."""
    first = scales[:, :4] | scales[:, 4:] >> 4 << 6
    second = minima[:, :4] | minima[:, 4:] >> 4 << 6
    third = scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4
    return np.concatenate([first, second, third], axis=1)


def _offset_fit(parts: np.ndarray, levels: int, first: float, tries: int) -> Part:
    """Fit `scale * code - minimum` to numbers, [32, parts], with codes up to `levels` and minima of zero or more."""
    size = np.sqrt(_summed(parts * parts) / np.float32(32))
    weights = size + np.abs(parts)
    weight, total = _summed(weights), _summed(weights * parts)
    lowest, highest = np.minimum(parts.min(axis=0), 0), parts.max(axis=0)
    is_flat = highest == lowest
    top = np.float32(levels)
    with np.errstate(all="ignore"):
        inverse = top / (highest - lowest)
        scales = 1 / inverse
        codes = nearest(inverse * (parts - lowest)).clip(0, levels).astype(np.float32)
        least = _summed(weights * (scales * codes + lowest - parts) ** 2)
        best = codes
        for attempt in range(tries + 1):
            reach = np.float32(first) + np.float32(0.1) * np.float32(attempt) + top
            codes = nearest(reach / (highest - lowest) * (parts - lowest)).clip(0, levels).astype(np.float32)
            weighted = weights * codes
            ones, squares, products = _summed(weighted), _summed(weighted * codes), _summed(weighted * parts)
            determinant = weight * squares - ones * ones
            slope = (weight * products - total * ones) / determinant
            start = (squares * total - ones * products) / determinant
            is_above = start > 0
            slope = np.where(is_above, products / squares, slope)
            start = np.where(is_above, np.float32(0), start)
            error = _summed(weights * (slope * codes + start - parts) ** 2)
            is_better = (determinant > 0) & (error < least)
            best = np.where(is_better, codes, best)
            least = np.where(is_better, error, least)
            scales = np.where(is_better, slope, scales)
            lowest = np.where(is_better, start, lowest)
    best[:, is_flat] = 0
    return Part(np.where(is_flat, np.float32(0), scales), -lowest, best)


def _signed_fit(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit `scale * (code - 32)` to numbers, [16, parts]; return the scales and the codes."""
    magnitudes = np.abs(parts)
    largest = parts[magnitudes.argmax(axis=0), np.arange(parts.shape[1])]
    is_nothing = np.abs(largest) < _NOTHING
    weights = parts * parts
    with np.errstate(all="ignore"):
        inverse = np.float32(-32) / largest
        products, squares = _sums(parts, weights, inverse)
        scales = np.where(squares != 0, products / squares, np.float32(0))
        best, best_inverse = scales * products, inverse
        for attempt in (*range(-9, 0), *range(1, 10)):
            inverse = -(np.float32(32) + np.float32(0.1) * np.float32(attempt)) / largest
            products, squares = _sums(parts, weights, inverse)
            is_better = (squares > 0) & (products * products > best * squares)
            scales = np.where(is_better, products / squares, scales)
            best = np.where(is_better, scales * products, best)
            best_inverse = np.where(is_better, inverse, best_inverse)
        codes = nearest(best_inverse * parts).clip(-32, 31) + 32
    codes[:, is_nothing] = 0
    return np.where(is_nothing, np.float32(0), scales), codes


def _sums(parts: np.ndarray, weights: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    codes = nearest(inverse * parts).clip(-32, 31).astype(np.float32)
    return _summed(weights * parts * codes), _summed(weights * codes * codes)


def _summed(terms: np.ndarray) -> np.ndarray:
    """Add rows one after the other, as a loop does: NumPy's own sums may be in another order."""
    total: np.ndarray = terms[0].copy()
    for row in terms[1:]:
        total += row
    return total


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1)
