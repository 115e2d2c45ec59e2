"""Compiled sums over a block, in float64 and in fixed lanes, and other kernels that read it once."""

from typing import Any

import numpy as np

from cuvee.kernels.fused.numbers import compiled, contracted, infinite, magnitude, rounded, store
from cuvee.kernels.fused.tiles import keep_of_tile, load_base, load_kept, load_model
from cuvee.kernels.fused.vectors import add_lanes, add_products
from cuvee.kernels.fused.words import TILE
from cuvee.kernels.protocol import LANES


@compiled
def finite(raw: Any, found: Any) -> None:
    worst = magnitude(raw[0])
    for i in range(raw.size):
        worst = max(worst, magnitude(raw[i]))
    found[0] = worst < infinite(raw[0])


@compiled
def widen(rows: Any, models: Any, subtracts: Any, kind: Any, stack: Any, base: Any) -> None:
    n = rows.shape[1]
    load_base(rows, 0, n, subtracts, base)
    for model in range(models):
        load_model(rows, model, 0, n, subtracts, base, kind, stack[model])


@compiled
def gram(
    rows: Any, models: Any, subtracts: Any, kind: Any, begin: Any, end: Any, sums: Any, room: Any, lanes: Any
) -> None:
    """`room` is [models + 1, TILE] float32, `lanes` [models, models, LANES] float64."""
    base, tile = room[0], room[1:]
    lanes[:] = 0.0
    for first in range(begin, end, TILE):
        last = min(end, first + TILE)
        load_base(rows, first, last, subtracts, base)
        for model in range(models):
            load_model(rows, model, first, last, subtracts, base, kind, tile[model])
        _all_products(tile, models, last - first, lanes)
    for i in range(models):
        for j in range(i + 1):
            sums[i, j] += _total(lanes[i, j])
            sums[j, i] = sums[i, j]


@compiled
def row_grams(rows: Any, models: Any, subtracts: Any, kind: Any, sums: Any, room: Any, lanes: Any) -> None:
    length = rows.shape[1] // max(sums.shape[0], 1)
    for row in range(sums.shape[0]):
        gram(rows, models, subtracts, kind, row * length, (row + 1) * length, sums[row], room, lanes)


@compiled
def squares(
    rows: Any, models: Any, subtracts: Any, kind: Any, kept: Any, rounds: Any, sums: Any, room: Any, lanes: Any
) -> None:
    """`lanes` is [models, LANES] float64, zero."""
    n, one = rows.shape[1], np.float32(1)
    tile, base, delta = room[0], room[1], room[2]
    for first in range(0, n, TILE):
        last = min(n, first + TILE)
        load_base(rows, first, last, subtracts, base)
        for model in range(models):
            load_kept(rows, model, first, last, subtracts, base, kind, kept, one, one, delta, tile)
            if rounds:
                for i in range(last - first):
                    tile[i] = rounded(kind, tile[i] * tile[i])
                add_up(tile, last - first, lanes[model])
            else:
                add_squares(tile, last - first, lanes[model])
    for model in range(models):
        sums[model] += _total(lanes[model])


@compiled
def magnitude_sums(
    rows: Any, models: Any, subtracts: Any, kind: Any, kept: Any, sums: Any, room: Any, lanes: Any
) -> None:
    """`lanes` is [2, models, LANES] float64, zero."""
    n, one = rows.shape[1], np.float32(1)
    tile, base, rest, of_all, of_kept = room[0], room[1], room[2], lanes[0], lanes[1]
    for first in range(0, n, TILE):
        last = min(n, first + TILE)
        load_base(rows, first, last, subtracts, base)
        for model in range(models):
            load_model(rows, model, first, last, subtracts, base, kind, tile)
            for i in range(last - first):
                tile[i] = abs(tile[i])
            add_up(tile, last - first, of_all[model])
            if len(sums) > 1:
                keep_of_tile(model, first, last, kind, kept, one, one, tile, rest)
                add_up(rest, last - first, of_kept[model])
    for model in range(models):
        sums[0, model] += _total(of_all[model])
        if len(sums) > 1:
            sums[1, model] += _total(of_kept[model])


@compiled
def variances(rows: Any, models: Any, subtracts: Any, kind: Any, out: Any, room: Any) -> None:
    """`room` is [models + 2, TILE] float32."""
    base, total, tiles = room[0], room[1], room[2:]
    count = np.float32(models)
    for first in range(0, out.size, TILE):
        last = min(out.size, first + TILE)
        into = out[first:last]
        load_base(rows, first, last, subtracts, base)
        total[:] = np.float32(-0.0)  # which added to a number leaves it as it is
        for model in range(models):
            tile = tiles[model]
            load_model(rows, model, first, last, subtracts, base, kind, tile)
            for i in range(into.size):
                total[i] += tile[i]
        for i in range(into.size):
            base[i] = total[i] / count
            total[i] = 0
        for model in range(models):
            tile = tiles[model]
            for i in range(into.size):
                apart = tile[i] - base[i]
                total[i] += apart * apart
        for i in range(into.size):
            into[i] = store(into[i], total[i] / count)


@compiled
def _all_products(tiles: Any, models: Any, size: Any, lanes: Any) -> None:
    rounds = size // LANES
    if models == 2:
        add_products(tiles, 2, rounds, lanes)
    elif models == 3:
        add_products(tiles, 3, rounds, lanes)
    elif models == 4:
        add_products(tiles, 4, rounds, lanes)
    else:
        rounds = 0
    for i in range(models):
        for j in range(i + 1):
            _products(tiles[i, rounds * LANES :], tiles[j, rounds * LANES :], size - rounds * LANES, lanes[i, j])


@contracted
def _products(a: Any, b: Any, size: Any, lanes: Any) -> None:
    # the product of two float32 numbers is exact in float64
    whole = size - size % LANES
    for start in range(0, whole, LANES):
        left, right = a[start : start + LANES], b[start : start + LANES]
        for lane in range(LANES):
            lanes[lane] += np.float64(left[lane]) * np.float64(right[lane])
    for i in range(whole, size):
        lanes[i - whole] += np.float64(a[i]) * np.float64(b[i])


@compiled
def add_up(a: Any, size: Any, lanes: Any) -> None:
    """Add the first numbers of a tile to lanes."""
    rounds = size // LANES
    add_lanes(a, a, 0, rounds, lanes)
    for i in range(rounds * LANES, size):
        lanes[i - rounds * LANES] += np.float64(a[i])


@contracted
def add_squares(a: Any, size: Any, lanes: Any) -> None:
    """Add the squares of the first numbers of a tile to lanes."""
    rounds = size // LANES
    add_lanes(a, a, 1, rounds, lanes)
    for i in range(rounds * LANES, size):
        lanes[i - rounds * LANES] += np.float64(a[i]) * np.float64(a[i])


@compiled
def _total(lanes: Any) -> Any:
    total = 0.0
    for lane in range(LANES):
        total += lanes[lane]
    return total
