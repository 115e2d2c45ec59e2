"""The compiled ends of a merge: task vectors in, the merged tensor's words out, in one pass over a block.

Rows are sliced before the inner loops, and results chosen between two values at hand: only so are the loops vectorised,
up to 30 times faster.
"""

from typing import Any

import numpy as np

from cuvee.kernels.fused.numbers import compiled, load, reordered, rounded, settle, store
from cuvee.kernels.fused.tiles import load_base, load_kept
from cuvee.kernels.fused.words import TILE


@compiled
def combine(
    rows: Any, models: Any, subtracts: Any, kind: Any, coefficients: Any, scale: Any, add: Any, out: Any, loss: Any,
    room: Any,
) -> None:  # fmt: skip
    """`room` is [2, TILE] float32, here and in the functions below with more rows."""
    base, total = room[0], room[1]
    for first in range(0, out.size, TILE):
        last = min(out.size, first + TILE)
        load_base(rows, first, last, subtracts, base)
        total[:] = np.float32(-0.0)  # which added to a number leaves it as it is
        for model in range(models):
            row, coefficient = rows[model, first:last], coefficients[model]
            if subtracts:
                for i in range(row.size):
                    total[i] += rounded(kind, rounded(kind, load(row[i]) - base[i]) * coefficient)
            else:
                for i in range(row.size):
                    total[i] += load(row[i]) * coefficient
        finish(total, base, scale, add, kind, out[first:last], loss)


@compiled
def weighted_sum(
    rows: Any, models: Any, subtracts: Any, kind: Any, kept: Any, factor: Any, weight: Any, divisor: Any,
    scale: Any, add: Any, out: Any, loss: Any, room: Any,
) -> None:  # fmt: skip
    base, total, delta, term = room[0], room[1], room[2], room[3]
    for first in range(0, out.size, TILE):
        last = min(out.size, first + TILE)
        load_base(rows, first, last, subtracts, base)
        total[:] = np.float32(-0.0)  # which added to a number leaves it as it is
        for model in range(models):
            load_kept(rows, model, first, last, subtracts, base, kind, kept, factor[model], weight[model], delta, term)
            for i in range(last - first):
                total[i] += term[i]
        if divisor != np.float32(1):
            for i in range(last - first):
                total[i] = rounded(kind, total[i]) / divisor
        finish(total, base, scale, add, kind, out[first:last], loss)


@compiled
def elected_sum(
    rows: Any, models: Any, subtracts: Any, kind: Any, kept: Any, factor: Any, weight: Any, weights_vote: Any,
    normalize: Any, when_even: Any, scale: Any, add: Any, out: Any, loss: Any, room: Any,
) -> None:  # fmt: skip
    zero, one = np.float32(0), np.float32(1)
    base, total, sign, divisor, delta, terms = room[0], room[1], room[2], room[3], room[4], room[5:]
    for first in range(0, out.size, TILE):
        last = min(out.size, first + TILE)
        size = last - first
        load_base(rows, first, last, subtracts, base)
        sign[:] = 0
        for model in range(models):
            term, by = terms[model], weight[model]
            votes = by if weights_vote else one
            load_kept(rows, model, first, last, subtracts, base, kind, kept, factor[model], votes, delta, term)
            for i in range(size):
                sign[i] += term[i]
            if not weights_vote:
                for i in range(size):
                    term[i] = rounded(kind, term[i] * by)
        if models == 3:
            _elect_three(terms, weight, kind, normalize, when_even, sign[:size], total)
            finish(total, base, scale, add, kind, out[first:last], loss)
            continue
        for i in range(size):
            vote = rounded(kind, sign[i])
            total[i] = vote - vote  # zero, or not a number where a vote is none
            sign[i] = _elected(vote, when_even)
            divisor[i] = zero
        for model in range(models):
            term, share = terms[model], abs(weight[model])
            for i in range(size):
                agreeing = term[i] * sign[i]
                counted = agreeing if agreeing > zero else zero
                counted_share = share if agreeing > zero else zero
                total[i] += counted
                divisor[i] += counted_share
        if normalize:
            for i in range(size):
                by = rounded(kind, divisor[i]) if divisor[i] != zero else one
                total[i] = rounded(kind, total[i]) / by
        for i in range(size):
            total[i] *= sign[i]
        finish(total, base, scale, add, kind, out[first:last], loss)


@compiled
def _elected(vote: Any, when_even: Any) -> Any:
    not_positive = np.float32(-1) if vote < np.float32(0) else when_even
    return np.float32(1) if vote > np.float32(0) else not_positive


@compiled
def _elect_three(terms: Any, weight: Any, kind: Any, normalize: Any, when_even: Any, sign: Any, total: Any) -> None:
    """Do what `elected_sum` does after the vote, of three models: numbers stay in registers from step to step."""
    a, b, c, zero, one = terms[0], terms[1], terms[2], np.float32(0), np.float32(1)
    share_a, share_b, share_c = abs(weight[0]), abs(weight[1]), abs(weight[2])
    for i in range(sign.size):
        vote = rounded(kind, sign[i])
        elected = _elected(vote, when_even)
        first, second, third = a[i] * elected, b[i] * elected, c[i] * elected
        agreeing = vote - vote + (first if first > zero else zero)
        agreeing = agreeing + (second if second > zero else zero) + (third if third > zero else zero)
        shares = (share_a if first > zero else zero) + (share_b if second > zero else zero)
        shares = shares + (share_c if third > zero else zero)
        by = rounded(kind, shares) if normalize and shares != zero else one
        total[i] = rounded(kind, agreeing) / by * elected


@compiled
def take(rows: Any, mask: Any, out: Any) -> None:
    first, second = rows[0], rows[1]
    for i in range(mask.size):
        number, other = load(first[i]), load(second[i])
        out[i] = store(out[0], other if mask[i] else number)


@compiled
def finish(total: Any, base: Any, scale: Any, add: Any, kind: Any, out: Any, loss: Any) -> None:
    into = out[0]
    if not add:
        for i in range(out.size):
            out[i] = settle(kind, into, rounded(kind, total[i]))
        return
    if scale == np.float32(1):
        for i in range(out.size):
            change = rounded(kind, total[i])
            moved = rounded(kind, base[i] + change)
            total[i] = base[i] if change == np.float32(0) else moved
    else:
        for i in range(out.size):
            change = rounded(kind, total[i])
            moved = rounded(kind, base[i] + rounded(kind, scale * change))
            total[i] = base[i] if change == np.float32(0) else moved
    for i in range(out.size):
        out[i] = settle(kind, into, total[i])
    if loss.size:
        cast_loss(total[: out.size], base, out, loss)


@reordered
def cast_loss(values: Any, base: Any, cast: Any, loss: Any) -> None:
    for first in range(0, values.size, TILE):
        last = min(values.size, first + TILE)
        number, before, word = values[first:last], base[first:last], cast[first:last]
        lost = moved = np.float32(0)
        for i in range(number.size):
            gone = load(word[i]) - number[i]
            change = number[i] - before[i]
            lost += gone * gone
            moved += change * change
        loss[0] += lost
        loss[1] += moved


@compiled
def narrow(values: Any, out: Any) -> None:
    for i in range(values.size):
        out[i] = store(out[i], values[i])


@compiled
def round_to(numbers: Any, kind: Any) -> None:
    for i in range(numbers.size):
        numbers[i] = load(store(kind, numbers[i]))


@compiled
def add_scaled(base: Any, delta: Any, scale: Any, kind: Any, out: Any) -> None:
    for i in range(base.size):
        moved = rounded(kind, base[i] + rounded(kind, scale * delta[i]))
        out[i] = base[i] if delta[i] == 0 else moved
