"""Compiled choices of entries: by magnitude, at random, by rank."""

from typing import Any

import numpy as np

from cuvee.kernels.fused.numbers import MAGNITUDE, bits, compiled
from cuvee.kernels.fused.tiles import keep_in_tile, load_base, load_model
from cuvee.kernels.fused.words import BUCKETS, TILE
from cuvee.kernels.protocol import ZEROS


@compiled
def leading_digits(
    rows: Any, models: Any, subtracts: Any, kind: Any, shift: Any, counts: Any, room: Any, places: Any
) -> None:
    n, others = rows.shape[1], np.uint32((counts.shape[1] - ZEROS) // 2)
    tile, base = room[0], room[1]
    low = np.uint32(np.uint32(np.uint32(1) << shift) - np.uint32(1))
    for first in range(0, n, TILE):
        last = min(n, first + TILE)
        load_base(rows, first, last, subtracts, base)
        for which in range(models.size):
            load_model(rows, models[which], first, last, subtracts, base, kind, tile)
            for i in range(last - first):
                magnitude = np.uint32(bits(tile[i]) & MAGNITUDE)
                digit = np.uint32(magnitude >> shift)
                place = digit if np.uint32(magnitude & low) == np.uint32(0) else np.uint32(digit + others)
                zero = np.uint32(np.uint32(2) * others + np.uint32(np.uint32(i) % np.uint32(ZEROS)))
                places[i] = zero if magnitude == np.uint32(0) else place
            count = counts[which]
            for i in range(last - first):
                count[places[i]] += 1


@compiled
def further_digits(
    rows: Any, models: Any, subtracts: Any, kind: Any, prefixes: Any, shift: Any, width: Any, counts: Any, room: Any
) -> None:
    n, others = rows.shape[1], np.uint32((counts.shape[1] - ZEROS) // 2)
    tile, base = room[0], room[1]
    low = np.uint32(np.uint32(np.uint32(1) << shift) - np.uint32(1))
    above, digits = np.uint32(shift + width), np.uint32(others - np.uint32(1))
    for first in range(0, n, TILE):
        last = min(n, first + TILE)
        load_base(rows, first, last, subtracts, base)
        for which in range(models.size):
            load_model(rows, models[which], first, last, subtracts, base, kind, tile)
            count, prefix = counts[which], prefixes[which]
            for i in range(last - first):
                magnitude = np.uint32(bits(tile[i]) & MAGNITUDE)
                if np.uint32(magnitude >> above) == prefix:
                    digit = np.uint32(np.uint32(magnitude >> shift) & digits)
                    count[digit if np.uint32(magnitude & low) == np.uint32(0) else np.uint32(digit + others)] += 1


@compiled
def count_near(rows: Any, models: Any, subtracts: Any, kind: Any, values: Any, counts: Any, room: Any) -> None:
    n = rows.shape[1]
    tile, base = room[0], room[1]
    for first in range(0, n, TILE):
        last = min(n, first + TILE)
        load_base(rows, first, last, subtracts, base)
        for which in range(models.size):
            load_model(rows, models[which], first, last, subtracts, base, kind, tile)
            for j in range(values.shape[1]):
                value = values[which, j]
                above = equal = np.uint32(0)
                for i in range(last - first):
                    above = np.uint32(above + np.uint32(not (abs(tile[i]) <= value)))
                    equal = np.uint32(equal + np.uint32(abs(tile[i]) == value))
                counts[which, j, 0] += above
                counts[which, j, 1] += equal


@compiled
def keep(
    rows: Any, models: Any, subtracts: Any, kind: Any, threshold: Any, accept: Any, seen: Any, out: Any, room: Any
) -> None:
    n = rows.shape[1]
    tile, base = room[0], room[1]
    for first in range(0, n, TILE):
        last = min(n, first + TILE)
        load_base(rows, first, last, subtracts, base)
        for model in range(models):
            load_model(rows, model, first, last, subtracts, base, kind, tile)
            keep_in_tile(tile, threshold[model], accept[model], seen, model, out[model, first:last])


@compiled
def _mix(word: Any) -> Any:
    word = np.uint32(word ^ np.uint32(word >> np.uint32(16)))
    word = np.uint32(word * np.uint32(0x21F0AAAD))
    word = np.uint32(word ^ np.uint32(word >> np.uint32(15)))
    word = np.uint32(word * np.uint32(0xD35A2D97))
    return np.uint32(word ^ np.uint32(word >> np.uint32(15)))


@compiled
def _draw(first: Any, second: Any, index: Any) -> Any:
    """Return 24 random bits."""
    low = np.uint32(np.uint64(index) & np.uint64(0xFFFFFFFF))
    high = np.uint32(np.uint64(index) >> np.uint64(32))
    mixed = _mix(np.uint32(low ^ first))
    mixed = _mix(np.uint32(mixed + np.uint32(np.uint32(high * np.uint32(0x9E3779B9)) + second)))
    return np.uint32(mixed >> np.uint32(8))


@compiled
def uniform(first: Any, second: Any, start: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = np.float32(_draw(first, second, start + i)) * np.float32(2.0**-24)


@compiled
def keep_at_random(keys: Any, density: Any, start: Any, out: Any) -> None:
    # the lower half of the index counts up within a piece, the upper half stands still: only so is this vectorised
    for model in range(out.shape[0]):
        first, second, likely, row = keys[model, 0], keys[model, 1], density[model], out[model]
        position = np.int64(0)
        while position < row.size:
            low = np.uint64(start + position) & np.uint64(0xFFFFFFFF)
            high = np.uint32(np.uint64(start + position) >> np.uint64(32))
            size = min(np.int64(row.size - position), np.int64(np.uint64(0x100000000) - low))
            added = np.uint32(np.uint32(high * np.uint32(0x9E3779B9)) + second)
            piece, begin = row[position : position + size], np.uint32(low)
            for i in range(size):
                mixed = _mix(np.uint32(np.uint32(begin + np.uint32(i)) ^ first))
                mixed = _mix(np.uint32(mixed + added))
                piece[i] = np.float32(np.int32(np.uint32(mixed >> np.uint32(8)))) * np.float32(2.0**-24) < likely
            position += size


FEW = 128
"""Entries of a row up to which each is compared with all others."""

MIXED = np.uint32(0xFFFFFFFF)
"""Says that a bucket holds different magnitudes."""


@compiled
def keep_by_rank(
    rows: Any, models: Any, subtracts: Any, kind: Any, chance: Any, keys: Any, start: Any, out: Any,
    room: Any, words: Any, buckets: Any, starts: Any, only: Any,
) -> None:  # fmt: skip
    """`room` is [3, row length] float32, `words` and `buckets` one of uint32 and int32, the rest for each bucket."""
    n, length = rows.shape[1], chance.shape[1]
    row, base, draws, places, turns = room[0], room[1], room[2], starts[0], starts[1]
    for first in range(0, n, length):
        load_base(rows, first, first + length, subtracts, base)
        for model in range(models):
            load_model(rows, model, first, first + length, subtracts, base, kind, row)
            uniform(keys[model, 0], keys[model, 1], start + first, draws)
            most = np.uint32(0)
            for i in range(length):
                words[i] = np.uint32(bits(row[i]) & MAGNITUDE)
                most = max(most, words[i])
            keep, likely = out[model, first : first + length], chance[model]
            if length <= FEW:
                for i in range(length):
                    keep[i] = draws[i] < likely[_place(words[:i], words[i + 1 :], words[i])]
                continue
            lowest = np.int32(np.int32(most >> np.uint32(16)) - np.int32(BUCKETS - 1))
            for i in range(length):
                # the largest are in bucket 0, zeros have the last for themselves
                bucket = np.int32(BUCKETS - 1) - max(
                    np.int32(np.int32(words[i] >> np.uint32(16)) - lowest), np.int32(0)
                )
                buckets[i] = np.int32(BUCKETS) if words[i] == np.uint32(0) else np.int32(bucket)
            _fill(buckets, words, places, only)
            for i in range(places.size):
                turns[i] = places[i]
            for i in range(length):
                bucket, draw = buckets[i], draws[i]
                if only[bucket] == words[i]:
                    keep[i] = draw < likely[turns[bucket]]
                    turns[bucket] += np.int32(1)
                elif draw < likely[places[bucket + 1] - 1]:
                    keep[i] = True
                elif draw >= likely[places[bucket]]:
                    keep[i] = False
                else:
                    keep[i] = draw < likely[_place(words[:i], words[i + 1 :], words[i])]


@compiled
def _fill(buckets: Any, words: Any, places: Any, only: Any) -> None:
    """Write the place of each bucket's first entry, and the word that is alone in it."""
    places[:] = 0
    only[:] = 0
    for i in range(words.size):
        bucket, word = buckets[i], words[i]
        places[bucket + 1] += np.int32(1)
        only[bucket] = word if only[bucket] == np.uint32(0) or only[bucket] == word else MIXED
    for bucket in range(BUCKETS + 1):
        places[bucket + 1] += places[bucket]


@compiled
def _place(before: Any, after: Any, word: Any) -> Any:
    """Return a word's rank among those before and after it, the largest first, of equals the first."""
    place = np.uint32(0)
    for i in range(before.size):
        place = np.uint32(place + np.uint32(before[i] >= word))
    for i in range(after.size):
        place = np.uint32(place + np.uint32(after[i] > word))
    return np.int64(place)


@compiled
def ranks(words: Any, out: Any, orders: Any, places: Any) -> None:
    """`orders` is [2, n] int32, `places` [256] int64."""
    # a sort by four digits of eight bits, the lowest first, of the inverted bits: the largest lead, in their order
    rows, n = words.shape
    order, other = orders[0], orders[1]
    for r in range(rows):
        for i in range(n):
            order[i] = i
        for digit in range(4):
            shift = np.uint32(8 * digit)
            places[:] = 0
            for i in range(n):
                places[np.int64((~words[r, i] >> shift) & np.uint32(255))] += 1
            total = np.int64(0)
            for d in range(256):
                total += places[d]
                places[d] = total - places[d]
            for i in range(n):
                bucket = np.int64((~words[r, order[i]] >> shift) & np.uint32(255))
                other[places[bucket]] = order[i]
                places[bucket] += 1
            order, other = other, order
        for i in range(n):
            out[r, order[i]] = i
