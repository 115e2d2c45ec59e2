"""Task vectors of a tile: a piece of a block small enough for the first-level cache."""

from typing import Any

import numpy as np

from cuvee.kernels.fused.numbers import compiled, load, rounded


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
    weight: Any, mask: Any, out: Any,
) -> None:  # fmt: skip
    """Load weight x factor x a model's task vector, zero where it is not kept. `mask` [2, tile] is room for masks."""
    load_model(rows, model, first, last, subtracts, base, kind, out)
    keep_of_tile(model, first, last, kind, kept, factor, weight, mask, out)


@compiled
def keep_of_tile(
    model: Any, first: Any, last: Any, kind: Any, kept: Any, factor: Any, weight: Any, mask: Any, out: Any
) -> None:
    """Multiply a loaded task vector by factor and weight, or by zero where it is not kept."""
    masks, (least, accept, seen), (most, accept_inner, seen_inner) = kept
    size = last - first
    if masks.size:
        _scale(out, masks[model, first:last], kind, factor, weight)
    elif least.size:
        chosen = mask[0, :size]
        keep_in_tile(out, least[model], accept[model], seen, model, chosen)
        if most.size:
            left_out = mask[1, :size]
            keep_in_tile(out, most[model], accept_inner[model], seen_inner, model, left_out)
            for i in range(size):
                # what is not a number is never left out: it is to be seen in the result
                chosen[i] = chosen[i] & ((not left_out[i]) | (out[i] != out[i]))
        _scale(out, chosen, kind, factor, weight)
    elif factor != np.float32(1) or weight != np.float32(1):
        for i in range(size):
            out[i] = rounded(kind, rounded(kind, out[i] * factor) * weight)


@compiled
def _scale(tile: Any, mask: Any, kind: Any, factor: Any, weight: Any) -> None:
    if factor == np.float32(1) and weight == np.float32(1):
        for i in range(mask.size):
            tile[i] = tile[i] if mask[i] else np.float32(0)
        return
    for i in range(mask.size):
        kept = tile[i] if mask[i] else np.float32(0)
        tile[i] = rounded(kind, rounded(kind, kept * factor) * weight)


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
