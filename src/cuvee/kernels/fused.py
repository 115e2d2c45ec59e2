"""The kernels compiled by numba: one pass each, no temporary arrays, no lock held.

numba never fuses a multiplication with an addition unless told to, so the bits equal those of `plain`. Compiled once
and cached: beside this file, or in the user's cache folder where that is read-only, or nowhere if neither can be
written.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # makes NumPy know "bfloat16" by name
import numba
import numpy as np

from cuvee.kernels import LANES, plain

TILE = 256
"""Elements for which a kernel keeps running sums; they stay in the first-level cache."""

_BF16_EXPONENT = np.uint16(0x7F80)
_U16 = np.uint32(16)


_OPTIONS = {"nogil": True, "error_model": "numpy"}
"""Threads run at once. A division by zero gives infinity, as in NumPy: a check for it would stop vectorisation."""


def _compiled(function: Any, **options: Any) -> Any:
    try:
        return numba.njit(cache=True, **_OPTIONS, **options)(function)
    except RuntimeError:  # numba found no folder that it may write its cache to
        return numba.njit(**_OPTIONS, **options)(function)


def _reordered(function: Any) -> Any:
    """Compile sums whose order does not matter, because they are only shown."""
    return _compiled(function, fastmath={"reassoc"})


@_compiled
def _widen_bf16(raw: Any, out: Any) -> Any:
    worst = np.uint16(0)
    for i in range(raw.size):
        worst = max(worst, raw[i] & _BF16_EXPONENT)
        out[i] = np.uint32(raw[i]) << _U16
    return worst


@_compiled
def _widen_rows_bf16(rows: Any, first: Any, stack: Any, base: Any) -> Any:
    models, n = stack.shape
    worst = np.uint16(0)
    subtracted = base.size > 0
    if subtracted:
        row = rows[models, first : first + n]
        for i in range(n):
            worst = max(worst, row[i] & _BF16_EXPONENT)
            base[i] = np.uint32(np.uint32(row[i]) << _U16).view(np.float32)
    for model in range(models):
        row, out = rows[model, first : first + n], stack[model]
        if subtracted:
            for i in range(n):
                worst = max(worst, row[i] & _BF16_EXPONENT)
                out[i] = np.uint32(np.uint32(row[i]) << _U16).view(np.float32) - base[i]
        else:
            for i in range(n):
                worst = max(worst, row[i] & _BF16_EXPONENT)
                out[i] = np.uint32(np.uint32(row[i]) << _U16).view(np.float32)
    return worst


@_reordered
def _loss_bf16(values: Any, base: Any, cast: Any, sums: Any) -> None:
    for start in range(0, values.size, TILE):
        end = min(values.size, start + TILE)
        lost = moved = np.float32(0)
        for i in range(start, end):
            gone = np.uint32(np.uint32(cast[i]) << _U16).view(np.float32) - values[i]
            change = values[i] - base[i]
            lost += gone * gone
            moved += change * change
        sums[0] += lost
        sums[1] += moved


@_compiled
def _narrow_bf16(bits: Any, out: Any) -> Any:
    worst = np.uint16(0)
    for i in range(bits.size):
        u = bits[i]
        even = np.uint32(u >> _U16) & np.uint32(1)
        rounded = np.uint16(np.uint32(u + np.uint32(0x7FFF) + even) >> _U16)
        # a NaN must stay one: the carry could turn it into zero
        quiet = np.uint16(np.uint32(u >> _U16) | np.uint32(0x40))
        nan = (u & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        result = quiet if nan else rounded
        out[i] = result
        worst = max(worst, result & _BF16_EXPONENT)
    return worst


@_compiled
def _all_finite(values: Any) -> Any:
    bad = 0
    for i in range(values.size):
        bad += not np.isfinite(values[i])
    return bad == 0


@_compiled
def _gram(stack: Any, first: Any, last: Any, out: Any) -> None:
    models = stack.shape[0]
    lanes = np.empty(LANES, np.float64)
    whole = last - (last - first) % LANES
    for i in range(models):
        for j in range(i + 1):
            lanes[:] = 0.0
            for start in range(first, whole, LANES):
                for lane in range(LANES):
                    lanes[lane] += np.float64(stack[i, start + lane]) * np.float64(stack[j, start + lane])
            for k in range(whole, last):
                lanes[k - whole] += np.float64(stack[i, k]) * np.float64(stack[j, k])
            total = 0.0
            for lane in range(LANES):
                total += lanes[lane]
            out[i, j] += total
            out[j, i] = out[i, j]


@_compiled
def _row_grams(stack: Any, out: Any) -> None:
    rows = out.shape[0]
    length = stack.shape[1] // max(rows, 1)
    for row in range(rows):
        _gram(stack, row * length, (row + 1) * length, out[row])


@_compiled
def _absolute_sums(stack: Any, out: Any) -> None:
    models, n = stack.shape
    lanes = np.empty(LANES, np.float64)
    whole = n - n % LANES
    for i in range(models):
        lanes[:] = 0.0
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                lanes[lane] += np.float64(abs(stack[i, start + lane]))
        for k in range(whole, n):
            lanes[k - whole] += np.float64(abs(stack[i, k]))
        total = 0.0
        for lane in range(LANES):
            total += lanes[lane]
        out[i] += total


@_compiled
def _digit_counts(bits: Any, prefix: Any, shift: Any, width: Any, mask: Any, counts: Any) -> None:
    low = (np.uint64(1) << width) - np.uint64(1)
    for i in range(bits.size):
        magnitude = np.uint64(bits[i]) & mask
        if (magnitude >> (shift + width)) == prefix:
            counts[np.int64((magnitude >> shift) & low)] += 1


@_compiled
def _nth_equal(row: Any, magnitude: Any, n: Any) -> Any:
    seen = 0
    for i in range(row.size):
        seen += abs(row[i]) == magnitude
    if n < 1 or seen < n:
        return -1, seen
    left = n
    for i in range(row.size):
        left -= abs(row[i]) == magnitude
        if left == 0:
            return i, seen
    return -1, seen


@_compiled
def _ranks(bits: Any, out: Any) -> None:
    # a sort by four digits of eight bits, the lowest first, of the inverted bits: the largest lead, in their order
    rows, n = bits.shape
    order, other = np.empty(n, np.int32), np.empty(n, np.int32)
    places = np.empty(256, np.int64)
    for r in range(rows):
        for i in range(n):
            order[i] = i
        for digit in range(4):
            shift = np.uint32(8 * digit)
            places[:] = 0
            for i in range(n):
                places[np.int64((~bits[r, i] >> shift) & np.uint32(255))] += 1
            total = np.int64(0)
            for d in range(256):
                total += places[d]
                places[d] = total - places[d]
            for i in range(n):
                bucket = np.int64((~bits[r, order[i]] >> shift) & np.uint32(255))
                other[places[bucket]] = order[i]
                places[bucket] += 1
            order, other = other, order
        for i in range(n):
            out[r, order[i]] = i


@_compiled
def _combine(stack: Any, coefficients: Any, out: Any) -> None:
    models, n = stack.shape
    for i in range(n):
        out[i] = stack[0, i] * coefficients[0]
    for model in range(1, models):
        coefficient = coefficients[model]
        for i in range(n):
            out[i] += stack[model, i] * coefficient


@_compiled
def _add_scaled(base: Any, delta: Any, scale: Any, out: Any) -> None:
    for i in range(base.size):
        moved = base[i] + scale * delta[i]
        out[i] = base[i] if delta[i] == 0 else moved


@_compiled
def _mix(bits: Any) -> Any:
    bits = np.uint32(bits ^ (bits >> np.uint32(16)))
    bits = np.uint32(bits * np.uint32(0x21F0AAAD))
    bits = np.uint32(bits ^ (bits >> np.uint32(15)))
    bits = np.uint32(bits * np.uint32(0xD35A2D97))
    return np.uint32(bits ^ (bits >> np.uint32(15)))


@_compiled
def _uniform(first: Any, second: Any, start: Any, out: Any) -> None:
    for i in range(out.size):
        index = np.uint64(start + i)
        low = np.uint32(index & np.uint64(0xFFFFFFFF))
        high = np.uint32(index >> np.uint64(32))
        mixed = _mix(np.uint32(low ^ first))
        mixed = _mix(np.uint32(mixed + np.uint32(high * np.uint32(0x9E3779B9)) + second))
        out[i] = np.float32(mixed >> np.uint32(8)) * np.float32(2.0**-24)


@_compiled
def _keep_above(stack: Any, threshold: Any, last_equal: Any, start: Any, out: Any) -> None:
    models, n = stack.shape
    for model in range(models):
        least = threshold[model]
        last = last_equal[model] - start
        for i in range(n):
            magnitude = abs(stack[model, i])
            dropped = (magnitude < least) | ((magnitude == least) & (i > last))
            out[model, i] = not dropped  # what is not a number is kept, and seen in the result


@_compiled
def _sparse(stack: Any, keep: Any, scale: Any, out: Any) -> None:
    models, n = stack.shape
    zero = scale[0] - scale[0]
    for model in range(models):
        factor = scale[model]
        for i in range(n):
            out[model, i] = stack[model, i] * factor if keep[model, i] else zero


@_compiled
def _weighted_sum(stack: Any, weight: Any, divisor: Any, out: Any) -> None:
    models, n = stack.shape
    for i in range(n):
        out[i] = stack[0, i] * weight[0]
    for model in range(1, models):
        factor = weight[model]
        for i in range(n):
            out[i] += stack[model, i] * factor
    if divisor != 1:
        for i in range(n):
            out[i] /= divisor


@_compiled
def _elected_sum(stack: Any, weight: Any, votes: Any, normalize: Any, when_even: Any, one: Any, out: Any) -> None:
    # Rows are sliced and results chosen between two values at hand: only so are the loops vectorised, 30 times faster.
    models, n = stack.shape
    zero = one - one
    sign = np.empty(TILE, stack.dtype)
    total = np.empty(TILE, stack.dtype)
    divisor = np.empty(TILE, stack.dtype)
    for start in range(0, n, TILE):
        size = min(TILE, n - start)
        row, factor = stack[0, start : start + size], votes[0]
        for i in range(size):
            sign[i] = row[i] * factor
        for model in range(1, models):
            row, factor = stack[model, start : start + size], votes[model]
            for i in range(size):
                sign[i] = sign[i] + row[i] * factor
        for i in range(size):
            total[i] = sign[i] - sign[i]  # zero, or not a number where a vote is none
            not_positive = -one if sign[i] < zero else when_even
            sign[i] = one if sign[i] > zero else not_positive
            divisor[i] = zero
        for model in range(models):
            row, factor = stack[model, start : start + size], weight[model]
            for i in range(size):
                term = row[i] * factor
                agrees = term * sign[i] > zero
                counted = term if agrees else zero
                share = abs(factor) if agrees else zero
                total[i] = total[i] + counted
                divisor[i] = divisor[i] + share
        result = out[start : start + size]
        for i in range(size):
            by = divisor[i] if normalize and divisor[i] != zero else one
            result[i] = total[i] / by


def widen(raw: np.ndarray, out: np.ndarray) -> bool:
    if raw.dtype.name == "bfloat16" and out.dtype == np.float32:
        return bool(_widen_bf16(raw.view(np.uint16), out.view(np.uint32)) != _BF16_EXPONENT)
    with np.errstate(over="ignore", invalid="ignore"):
        out[:] = raw
    return bool(_all_finite(out))


def widen_rows(rows: np.ndarray, first: int, stack: np.ndarray, base: np.ndarray) -> bool:
    if rows.dtype.name == "bfloat16" and stack.dtype == np.float32:
        return bool(_widen_rows_bf16(rows.view(np.uint16), first, stack, base) != _BF16_EXPONENT)
    return plain.widen_rows(rows, first, stack, base)


def cast_loss(values: np.ndarray, base: np.ndarray, cast: np.ndarray, sums: np.ndarray) -> None:
    if cast.dtype.name == "bfloat16" and values.dtype == np.float32:
        _loss_bf16(values, base, cast.view(np.uint16), sums)
    else:
        plain.cast_loss(values, base, cast, sums)


def narrow(values: np.ndarray, out: np.ndarray) -> bool:
    if out.dtype.name == "bfloat16" and values.dtype == np.float32:
        return bool(_narrow_bf16(values.view(np.uint32), out.view(np.uint16)) != _BF16_EXPONENT)
    return plain.narrow(values, out)


def gram(stack: np.ndarray, out: np.ndarray) -> None:
    _gram(stack, np.int64(0), np.int64(stack.shape[1]), out)


def row_grams(stack: np.ndarray, out: np.ndarray) -> None:
    _row_grams(stack, out)


def absolute_sums(stack: np.ndarray, out: np.ndarray) -> None:
    _absolute_sums(stack, out)


def digit_counts(row: np.ndarray, prefix: int, shift: int, width: int, counts: np.ndarray) -> None:
    unsigned, mask = (np.uint32, 0x7FFFFFFF) if row.dtype.itemsize == 4 else (np.uint64, 0x7FFFFFFFFFFFFFFF)
    u64 = np.uint64
    _digit_counts(row.view(unsigned), u64(prefix), u64(shift), u64(width), u64(mask), counts)


def nth_equal(row: np.ndarray, magnitude: float, n: int) -> tuple[int, int]:
    place, seen = _nth_equal(row, row.dtype.type(magnitude), n)
    return int(place), int(seen)


def ranks(rows: np.ndarray, out: np.ndarray) -> None:
    """As `cuvee.ops.order.ranks`, for float32 numbers that are not negative."""
    _ranks(rows.view(np.uint32), out)


def combine(stack: np.ndarray, coefficients: np.ndarray, out: np.ndarray) -> None:
    _combine(stack, coefficients.astype(stack.dtype), out)


def add_scaled(base: np.ndarray, delta: np.ndarray, scale: float, out: np.ndarray) -> None:
    _add_scaled(base, delta, base.dtype.type(scale), out)


def uniform(key: tuple[int, int], start: int, out: np.ndarray) -> None:
    _uniform(np.uint32(key[0]), np.uint32(key[1]), np.int64(start), out)


def keep_above(stack: np.ndarray, threshold: np.ndarray, last_equal: np.ndarray, start: int, out: np.ndarray) -> None:
    """Fill `out` [models, n]: magnitudes above the model's threshold, and equal ones up to the index `last_equal`."""
    _keep_above(stack, threshold.astype(stack.dtype), last_equal, np.int64(start), out)


def sparse(stack: np.ndarray, keep: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
    """As `cuvee.ops.task_vectors.sparse`."""
    _sparse(stack, keep, np.asarray(scale, stack.dtype), out)


def weighted_sum(stack: np.ndarray, weight: np.ndarray, divisor: float, out: np.ndarray) -> None:
    """As `cuvee.ops.task_vectors.weighted_sum`; a divisor of 1 divides nothing."""
    _weighted_sum(stack, np.asarray(weight, stack.dtype), stack.dtype.type(divisor), out)


def elected_sum(
    stack: np.ndarray, weight: np.ndarray, votes: np.ndarray, normalize: bool, when_even: float, out: np.ndarray
) -> None:
    """As `cuvee.ops.task_vectors.elected_sum`; `votes` is what each model's entries are multiplied by to vote."""
    kind = stack.dtype
    _elected_sum(
        stack, np.asarray(weight, kind), np.asarray(votes, kind), normalize, kind.type(when_even), kind.type(1), out
    )


def compiled() -> bool:
    """Say whether an earlier process left the kernels in the cache, or this one has them."""
    folder = Path(_elected_sum.stats.cache_path or "")
    return bool(_elected_sum.signatures) or any(folder.glob(f"{Path(__file__).stem}.{_elected_sum.__name__}-*.nbi"))


def warm_up(done: Callable[[int], None]) -> None:
    """Compile, or take from the cache, every kernel for float32 numbers, one by one."""
    stack = np.ones((2, LANES), np.float32)
    half, row, two = np.ones(LANES, "bfloat16"), stack[0].copy(), np.ones(2)
    keep = np.ones(stack.shape, np.bool_)
    for call in (
        lambda: widen(half, row),
        lambda: narrow(row, half),
        lambda: widen_rows(np.ones((3, LANES), "bfloat16"), 0, stack, row),
        lambda: cast_loss(row, row, half, np.zeros(2)),
        lambda: widen(row, row),
        lambda: gram(stack, np.zeros((2, 2))),
        lambda: row_grams(stack, np.zeros((1, 2, 2))),
        lambda: absolute_sums(stack, np.zeros(2)),
        lambda: digit_counts(row, 0, 16, 15, np.zeros(1 << 15, np.int64)),
        lambda: nth_equal(row, 1.0, 1),
        lambda: ranks(stack, np.empty(stack.shape, np.int32)),
        lambda: combine(stack, two, row),
        lambda: add_scaled(row, row, 1.0, row),
        lambda: uniform((1, 2), 0, row),
        lambda: keep_above(stack, two, np.zeros(2, np.int64), 0, keep),
        lambda: sparse(stack, keep, two, stack),
        lambda: weighted_sum(stack, two, 1.0, row),
        lambda: elected_sum(stack, two, two, True, 1.0, row),
    ):
        call()
        done(1)


KERNELS = 18
"""How often `warm_up` says that it is done with one."""
