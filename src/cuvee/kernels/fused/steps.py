"""The compiled form of programs: each step is a loop over a tile, which stays in the first-level cache."""

from typing import Any

import numpy as np

from cuvee.kernels.fused.numbers import compiled, contracted, load, rounded, store
from cuvee.kernels.fused.sums import add_squares, add_up
from cuvee.kernels.fused.vectors import add_lanes
from cuvee.kernels.fused.words import TILE
from cuvee.kernels.program import Op
from cuvee.kernels.protocol import LANES

ADD, SUBTRACT, MULTIPLY, DIVIDE = int(Op.ADD), int(Op.SUBTRACT), int(Op.MULTIPLY), int(Op.DIVIDE)
ROUNDED, ROUND, LOAD, RESUME = int(Op.ROUNDED), int(Op.ROUND), int(Op.LOAD), int(Op.RESUME)
ABSOLUTE, MINIMUM, EQUAL, SELECT = int(Op.ABSOLUTE), int(Op.MINIMUM), int(Op.EQUAL), int(Op.SELECT)
SUM, SUM_PRODUCTS, KEEP, WRITE = int(Op.SUM), int(Op.SUM_PRODUCTS), int(Op.KEEP), int(Op.WRITE)
CHANGE = int(Op.CHANGE)

OF_TENSOR, OF_ROW, OF_COLUMN = 0, 1, 2


@compiled
def compute(
    rows: Any, kind: Any, steps: Any, constants: Any, scope: Any, width: Any, matrices: Any, kept: Any, sums: Any,
    out: Any, room: Any, lanes: Any,
) -> None:  # fmt: skip
    """Run `steps` over `rows` [inputs, n], in lengths of `width`; `room` is [registers, TILE] float32.

    `sums` is [sums, 1, or rows, or matrices x columns], `lanes` [sums, LANES] float64, zero.
    """
    for row in range(rows.shape[1] // width):
        begin, end = row * width, (row + 1) * width
        if row == 0 or scope == OF_ROW:
            for constant in range(constants.shape[0]):
                number = constants[constant, row if scope == OF_ROW else 0]
                room[constant, :] = number
        for first in range(begin, end, TILE):
            last = min(end, first + TILE)
            column = first - begin
            if scope == OF_COLUMN:
                column += matrices[row] * width
                for constant in range(constants.shape[0]):
                    _copy(constants[constant, column : column + last - first], room[constant])
            _run(rows, kind, steps, first, last, scope, column, kept, sums, out, room, lanes)
        if scope == OF_ROW:
            _settle(lanes, sums, row)
    if scope == OF_TENSOR:
        _settle(lanes, sums, 0)


@compiled
def _copy(numbers: Any, into: Any) -> None:
    for i in range(numbers.size):
        into[i] = numbers[i]


@compiled
def _settle(lanes: Any, sums: Any, place: Any) -> None:
    for which in range(lanes.shape[0]):
        total = 0.0
        for lane in range(LANES):
            total += lanes[which, lane]
            lanes[which, lane] = 0.0
        sums[which, place] += total


@compiled
def _run(
    rows: Any, kind: Any, steps: Any, first: Any, last: Any, scope: Any, column: Any, kept: Any, sums: Any, out: Any,
    room: Any, lanes: Any,
) -> None:  # fmt: skip
    size = last - first
    for step in range(steps.shape[0]):
        op, x, y, z = steps[step, 0], steps[step, 1], steps[step, 2], steps[step, 3]
        into = room[steps[step, 4], :size]
        if op == LOAD:
            row = rows[x, first:last]
            for i in range(row.size):
                into[i] = load(row[i])
        elif op == CHANGE:
            row, b = rows[x, first:last], room[y]
            for i in range(row.size):
                into[i] = rounded(kind, load(row[i]) - b[i])
        elif op == RESUME:
            row = kept[first:last]
            for i in range(row.size):
                into[i] = load(row[i])
        elif op == KEEP:
            row, a = kept[first:last], room[x]
            for i in range(row.size):
                row[i] = store(kind, a[i])
        elif op == WRITE:
            target, a = out[first:last], room[x]
            for i in range(target.size):
                target[i] = store(out[0], a[i])
        elif op in (SUM, SUM_PRODUCTS):
            if scope == OF_COLUMN:
                total = sums[z, column : column + size]
                _add(room[x], room[y], op == SUM, total)
            elif op == SUM:
                add_up(room[x], size, lanes[z])
            elif x == y:
                add_squares(room[x], size, lanes[z])
            else:
                _sum_products(room[x], room[y], size, lanes[z])
        else:
            _calculate(op, kind, room[x], room[y], room[z], into)


@compiled
def _calculate(op: Any, kind: Any, a: Any, b: Any, c: Any, into: Any) -> None:
    zero, one = np.float32(0), np.float32(1)
    if op == SUBTRACT + ROUNDED:
        for i in range(into.size):
            into[i] = rounded(kind, a[i] - b[i])
    elif op == MULTIPLY + ROUNDED:
        for i in range(into.size):
            into[i] = rounded(kind, a[i] * b[i])
    elif op == ADD + ROUNDED:
        for i in range(into.size):
            into[i] = rounded(kind, a[i] + b[i])
    elif op == DIVIDE + ROUNDED:
        for i in range(into.size):
            into[i] = rounded(kind, a[i] / b[i])
    elif op == SUBTRACT:
        for i in range(into.size):
            into[i] = a[i] - b[i]
    elif op == MULTIPLY:
        for i in range(into.size):
            into[i] = a[i] * b[i]
    elif op == ADD:
        for i in range(into.size):
            into[i] = a[i] + b[i]
    elif op == DIVIDE:
        for i in range(into.size):
            into[i] = a[i] / b[i]
    elif op == ROUND:
        for i in range(into.size):
            into[i] = rounded(kind, a[i])
    elif op == ABSOLUTE:
        for i in range(into.size):
            into[i] = abs(a[i])
    elif op == MINIMUM:
        for i in range(into.size):
            least = b[i] if b[i] < a[i] else a[i]
            into[i] = b[i] if b[i] != b[i] else least  # what is not a number stays so
    elif op == EQUAL:
        for i in range(into.size):
            into[i] = one if a[i] == b[i] else zero
    elif op == SELECT:
        for i in range(into.size):
            into[i] = b[i] if a[i] != zero else c[i]


@compiled
def _add(a: Any, b: Any, plainly: Any, total: Any) -> None:
    if plainly:
        for i in range(total.size):
            total[i] += np.float64(a[i])
    else:
        for i in range(total.size):
            total[i] += np.float64(a[i]) * np.float64(b[i])


@contracted
def _sum_products(a: Any, b: Any, size: Any, lanes: Any) -> None:
    # the product of two float32 numbers is exact in float64
    rounds = size // LANES
    add_lanes(a, b, 2, rounds, lanes)
    for i in range(rounds * LANES, size):
        lanes[i - rounds * LANES] += np.float64(a[i]) * np.float64(b[i])
