"""Task vectors of a tile: a piece of a block small enough for the first-level cache."""

from typing import Any

import numpy as np

from cuvee.kernels.fused.numbers import bits, compiled, load, rounded
from cuvee.kernels.protocol import EVERY


@compiled
def load_base(rows: Any, first: Any, last: Any, subtracts: Any, base: Any) -> None:
    if not subtracts:
        return
    row = rows[rows.shape[0] - 1, first:last]
    for i in range(row.size):
        base[i] = load(row[i])


@compiled
def load_model(rows: Any, model: Any, first: Any, last: Any, subtracts: Any, base: Any, kind: Any, out: Any) -> None:
    row = rows[model, first:last]
    if subtracts:
        for i in range(row.size):
            out[i] = rounded(kind, load(row[i]) - base[i])
    else:
        for i in range(row.size):
            out[i] = load(row[i])


@compiled
def load_kept(
    rows: Any, model: Any, first: Any, last: Any, subtracts: Any, base: Any, kind: Any, kept: Any, factor: Any,
    weight: Any, delta: Any, out: Any,
) -> None:  # fmt: skip
    """Load weight x factor x a model's task vector, zero where it is not kept. `delta` [tile] is room."""
    masks, (least, _, _), _ = kept
    if least.size:
        load_model(rows, model, first, last, subtracts, base, kind, delta)
        keep_of_tile(model, first, last, kind, kept, factor, weight, delta, out)
        return
    row, zero = rows[model, first:last], np.float32(0)
    if masks.size:
        mask = masks[model if masks.shape[0] > 1 else 0, first:last]
        for i in range(row.size):
            number = rounded(kind, load(row[i]) - base[i]) if subtracts else load(row[i])
            kept_number = number if mask[i] else zero
            out[i] = rounded(kind, rounded(kind, kept_number * factor) * weight)
    else:
        for i in range(row.size):
            number = rounded(kind, load(row[i]) - base[i]) if subtracts else load(row[i])
            out[i] = rounded(kind, rounded(kind, number * factor) * weight)


@compiled
def keep_of_tile(
    model: Any, first: Any, last: Any, kind: Any, kept: Any, factor: Any, weight: Any, delta: Any, out: Any
) -> None:
    """Multiply a task vector, which is lost, by factor and weight, or by zero where it is not kept."""
    masks, (least, accept, seen), (most, accept_inner, seen_inner) = kept
    tile, zero = delta[: last - first], np.float32(0)
    if masks.size:
        mask = masks[model if masks.shape[0] > 1 else 0, first:last]
        for i in range(mask.size):
            out[i] = tile[i] if mask[i] else zero
    else:
        low, high = zero, np.float32(np.nan)  # no magnitude is below or above
        if least.size:
            low, high = _bounds(tile, model, least, accept, seen, most, accept_inner, seen_inner)
        # what is not a number is always kept: it is to be seen in the result
        for i in range(tile.size):
            size = abs(tile[i])
            above = zero if size < low else tile[i]
            out[i] = zero if size >= high else above
    if factor != np.float32(1) or weight != np.float32(1):
        for i in range(tile.size):
            out[i] = rounded(kind, rounded(kind, out[i] * factor) * weight)


@compiled
def _bounds(
    tile: Any, model: Any, least: Any, accept: Any, seen: Any, most: Any, accept_inner: Any, seen_inner: Any
) -> Any:
    """Return the magnitude up from which numbers are kept, and that up from which they are not.

    Where some of those that equal a threshold are kept and others not, the others are set to zero.
    """
    low, high = least[model], np.float32(np.nan)
    equal, left = _equal(tile, low), accept[model] - seen[model]
    seen[model] += equal
    if most.size:
        equal_inner, left_inner = _equal(tile, most[model]), accept_inner[model] - seen_inner[model]
        seen_inner[model] += equal_inner
    if left < equal:
        if left > 0 or low == np.inf:
            _drop_equal(tile, low, left, EVERY)
        else:
            low = _next(low)
    if most.size:
        high = most[model] if most[model] == most[model] else np.float32(0)  # above what is no number lies everything
        if 0 < left_inner < equal_inner:
            _drop_equal(tile, high, 0, left_inner)
        if left_inner < equal_inner:
            high = _next(high)
    return low, high


@compiled
def _next(magnitude: Any) -> Any:
    """Return the next larger magnitude: after infinity something that nothing is above."""
    return np.uint32(bits(magnitude) + np.uint32(1)).view(np.float32)


@compiled
def _equal(tile: Any, value: Any) -> Any:
    """Return how many magnitudes equal a value."""
    equal = np.uint32(0)
    for i in range(tile.size):
        equal = np.uint32(equal + np.uint32(abs(tile[i]) == value))
    return np.int64(equal)


@compiled
def _drop_equal(tile: Any, value: Any, begin: Any, end: Any) -> None:
    """Set to zero, of the entries whose magnitude equals a value, those from number `begin` up to `end`."""
    place = np.int64(0)
    for i in range(tile.size):
        is_equal = abs(tile[i]) == value
        tile[i] = np.float32(0) if is_equal & (begin <= place) & (place < end) else tile[i]
        place += is_equal


@compiled
def keep_in_tile(tile: Any, least: Any, accept: Any, seen: Any, model: Any, mask: Any) -> None:
    equal = np.uint32(0)
    for i in range(mask.size):
        equal = np.uint32(equal + np.uint32(abs(tile[i]) == least))
    left = accept - seen[model]
    seen[model] += equal
    if left >= equal:
        for i in range(mask.size):
            mask[i] = not (abs(tile[i]) < least)
        return
    for i in range(mask.size):
        mask[i] = not (abs(tile[i]) <= least)
    for i in range(mask.size if left > 0 else 0):
        is_equal = abs(tile[i]) == least
        mask[i] = mask[i] | (is_equal & (left > 0))
        left -= is_equal
