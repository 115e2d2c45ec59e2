"""Compiled choices of entries: by magnitude, at random, by rank."""

from typing import Any

import numpy as np

from cuvee.kernels.fused.numbers import MAGNITUDE, bits, compiled
from cuvee.kernels.fused.tiles import keep_in_tile, load_base, load_model
from cuvee.kernels.fused.vectors import list_marked
from cuvee.kernels.fused.words import BUCKET_SHIFT, BUCKETS, LISTED, STREAMS, TILE
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
    rows: Any, models: Any, subtracts: Any, kind: Any, prefixes: Any, shift: Any, width: Any, counts: Any, room: Any,
    marks: Any, places: Any,
) -> None:  # fmt: skip
    """`marks` is [TILE], `places` [TILE + LISTED], both uint32."""
    n, others = rows.shape[1], np.uint32((counts.shape[1] - ZEROS) // 2)
    tile, base = room[0], room[1]
    low = np.uint32(np.uint32(np.uint32(1) << shift) - np.uint32(1))
    above, digits = np.uint32(shift + width), np.uint32(others - np.uint32(1))
    for first in range(0, n, TILE):
        last = min(n, first + TILE)
        load_base(rows, first, last, subtracts, base)
        for which in range(models.size):
            if which == 0 or models[which] != models[which - 1]:
                load_model(rows, models[which], first, last, subtracts, base, kind, tile)
            count, prefix = counts[which], prefixes[which]
            for i in range(last - first):
                magnitude = np.uint32(bits(tile[i]) & MAGNITUDE)
                marks[i] = np.uint32(np.uint32(magnitude >> above) == prefix)
            for j in range(_list(marks[: last - first], 0, places)):
                magnitude = np.uint32(bits(tile[places[j]]) & MAGNITUDE)
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
            if which == 0 or models[which] != models[which - 1]:
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
def uniform(first: Any, second: Any, start: Any, out: Any) -> None:
    # the lower half of the index counts up within a piece, the upper half stands still: only so is this vectorised
    position = np.int64(0)
    while position < out.size:
        low = np.uint64(start + position) & np.uint64(0xFFFFFFFF)
        high = np.uint32(np.uint64(start + position) >> np.uint64(32))
        size = min(np.int64(out.size - position), np.int64(np.uint64(0x100000000) - low))
        added = np.uint32(np.uint32(high * np.uint32(0x9E3779B9)) + second)
        piece, begin = out[position : position + size], np.uint32(low)
        for i in range(size):
            mixed = _mix(np.uint32(np.uint32(begin + np.uint32(i)) ^ first))
            mixed = _mix(np.uint32(mixed + added))
            piece[i] = np.float32(np.int32(np.uint32(mixed >> np.uint32(8)))) * np.float32(2.0**-24)
        position += size


@compiled
def keep_at_random(keys: Any, density: Any, start: Any, out: Any, room: Any) -> None:
    """`room` is [TILE] float32."""
    for model in range(out.shape[0]):
        likely = density[model]
        for begin in range(0, out.shape[1], TILE):
            row = out[model, begin : begin + TILE]
            draws = room[: row.size]
            uniform(keys[model, 0], keys[model, 1], start + begin, draws)
            for i in range(row.size):
                row[i] = draws[i] < likely


FEW = 128
"""Entries of a row up to which each is compared with all others."""

DOUBTS = 256
"""Entries in doubt up to which each is compared with the row; of more the row is sorted."""

EVERYTHING = np.float32(2)
"""More than any draw."""


@compiled
def keep_by_rank(
    rows: Any, models: Any, subtracts: Any, kind: Any, chance: Any, keys: Any, start: Any, out: Any,
    room: Any, words: Any, lists: Any, counts: Any, least: Any, digits: Any,
) -> None:  # fmt: skip
    """`room` is [3, row length] float32, `words` [2, the same] uint32, `lists` [4, the same and LISTED more] uint32.

    For each bucket, and one more, there are `counts` [STREAMS + 2, ..] uint32 and `least` float32; `digits` is [256].
    """
    length = chance.shape[1]
    row, base, draws = room[0], room[1], room[2]
    for first in range(0, rows.shape[1], length):
        load_base(rows, first, first + length, subtracts, base)
        for model in range(models):
            load_model(rows, model, first, first + length, subtracts, base, kind, row)
            uniform(keys[model, 0], keys[model, 1], start + first, draws)
            for i in range(length):
                words[0, i] = np.uint32(bits(row[i]) & MAGNITUDE)
            keep, likely = out[model, first : first + length], chance[model]
            if length <= FEW:
                _compare(words[0], draws, likely, keep)
                continue
            doubts = _keep_by_bucket(words, draws, likely, lists, counts, least, keep)
            if doubts <= DOUBTS:
                for j in range(doubts):
                    i = lists[0, j]
                    place = _place(words[0, :i], words[0, i + 1 :], words[0, i])
                    keep[i] = draws[i] < likely[place]
            else:
                _sort(words[0], lists[1], lists[2], digits)
                for i in range(length):
                    keep[lists[1, i]] = draws[lists[1, i]] < likely[i]


@compiled
def _compare(words: Any, draws: Any, likely: Any, keep: Any) -> None:
    for i in range(words.size):
        keep[i] = draws[i] < likely[_place(words[:i], words[i + 1 :], words[i])]


@compiled
def _keep_by_bucket(words: Any, draws: Any, likely: Any, lists: Any, counts: Any, least: Any, keep: Any) -> Any:
    """Decide what can be known from the counts of buckets; list the entries in doubt in `lists[0]`, return how many.

    In a bucket of equal magnitudes the rank follows from the turn of the entry. In others only its bounds are known.
    """
    length = words.shape[1]
    magnitudes, marks, buckets, turns = words[0], words[1], lists[2], lists[3]
    _put_into_buckets(magnitudes, buckets, marks)
    unlike = _list(marks, 0, lists[1])
    part = length // STREAMS
    _count(buckets, turns, counts, part)
    begins, after = counts[STREAMS], counts[STREAMS + 1]
    _add_up(counts, begins, after)
    least[:] = EVERYTHING
    for j in range(unlike):
        bucket = buckets[lists[1, j]]
        least[bucket] = likely[np.uint32(after[bucket] - np.uint32(1))]
    sure, possible = likely[length - 1], likely[0]
    for i in range(length):
        keep[i] = draws[i] < sure
        marks[i] = np.uint32(np.uint32(draws[i] >= sure) & np.uint32(draws[i] < possible))
    doubts = np.uint64(0)
    for stream in range(STREAMS):
        begin = stream * part
        end = begin + part if stream < STREAMS - 1 else length
        starts = counts[stream]
        for j in range(_list(marks[begin:end], begin, lists[1])):
            i = lists[1, j]
            bucket, draw = buckets[i], draws[i]
            keep[i] = draw < likely[np.uint32(starts[bucket] + turns[i])]
            lists[0, doubts] = i
            doubts += np.uint64(np.uint32(draw >= least[bucket]) & np.uint32(draw < likely[begins[bucket]]))
    return np.int64(doubts)


@compiled
def _put_into_buckets(magnitudes: Any, buckets: Any, marks: Any) -> None:
    """Write the bucket of each magnitude: the largest are in bucket 0, zeros have the last for themselves.

    Marked are those whose bucket may hold different entries.
    """
    most = np.uint32(0)
    for i in range(magnitudes.size):
        most = max(most, magnitudes[i])
    top = np.int32(most >> np.uint32(BUCKET_SHIFT))
    low = np.uint32((1 << BUCKET_SHIFT) - 1)
    for i in range(magnitudes.size):
        word = magnitudes[i]
        bucket = min(np.int32(top - np.int32(word >> np.uint32(BUCKET_SHIFT))), np.int32(BUCKETS - 1))
        buckets[i] = np.uint32(BUCKETS) if word == np.uint32(0) else np.uint32(bucket)
        is_last = np.uint32(0x80000000) if bucket == np.int32(BUCKETS - 1) else np.uint32(0)
        marks[i] = np.uint32(0) if word == np.uint32(0) else np.uint32(np.uint32(word & low) | is_last)


@compiled
def _list(marks: Any, first: Any, places: Any) -> Any:
    """List the places of the marks, counted from `first`; return how many."""
    rounds = np.int64(marks.size // LISTED)
    count = list_marked(marks, np.int32(first), rounds, places)
    for i in range(rounds * LISTED, marks.size):
        places[count] = np.uint32(first + i)
        count += np.int64(marks[i] != np.uint32(0))
    return count


@compiled
def _count(buckets: Any, turns: Any, counts: Any, part: Any) -> None:
    """Count the entries of each part of a row in each bucket, and write how many came before an entry."""
    counts[:STREAMS] = 0
    first, second, third, fourth = counts[0], counts[1], counts[2], counts[3]
    size, one = np.uint64(part), np.uint32(1)
    for i in range(size):
        a, b, c, d = buckets[i], buckets[size + i], buckets[size * np.uint64(2) + i], buckets[size * np.uint64(3) + i]
        turns[i] = first[a]
        first[a] += one
        turns[size + i] = second[b]
        second[b] += one
        turns[size * np.uint64(2) + i] = third[c]
        third[c] += one
        turns[size * np.uint64(3) + i] = fourth[d]
        fourth[d] += one
    for i in range(STREAMS * part, buckets.size - LISTED):
        d = buckets[i]
        turns[i] = fourth[d]
        fourth[d] += one


@compiled
def _add_up(counts: Any, begins: Any, after: Any) -> None:
    """Make of the counts the ranks with which the buckets begin, in each part, and in all of the row."""
    size = begins.size
    for bucket in range(size):
        first_half = np.uint32(counts[0, bucket] + counts[1, bucket])
        after[bucket] = np.uint32(first_half + np.uint32(counts[2, bucket] + counts[3, bucket]))
    rank = np.uint32(0)
    for bucket in range(size):
        begins[bucket] = rank
        rank = np.uint32(rank + after[bucket])
    for bucket in range(size):
        begin = begins[bucket]
        after[bucket] = np.uint32(after[bucket] + begin)
        for stream in range(STREAMS):
            count = counts[stream, bucket]
            counts[stream, bucket] = begin
            begin = np.uint32(begin + count)


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
    for r in range(words.shape[0]):
        _sort(words[r], orders[0], orders[1], places)
        for i in range(words.shape[1]):
            out[r, orders[0, i]] = i


@compiled
def _sort(words: Any, order: Any, other: Any, places: Any) -> None:
    """Write the places of the words in `order`, the largest first, of equals the first."""
    # a sort by four digits of eight bits, the lowest first, of the inverted bits: the largest lead, in their order
    n = words.size
    for i in range(n):
        order[i] = i
    for digit in range(4):
        shift = np.uint32(8 * digit)
        places[:] = 0
        for i in range(n):
            places[np.int64((~words[i] >> shift) & np.uint32(255))] += 1
        total = np.int64(0)
        for d in range(256):
            total += places[d]
            places[d] = total - places[d]
        for i in range(n):
            bucket = np.int64((~words[order[i]] >> shift) & np.uint32(255))
            other[places[bucket]] = order[i]
            places[bucket] += 1
        order, other = other, order
