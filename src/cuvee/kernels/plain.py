"""The kernels in NumPy: the reference for the compiled kernels, and the fallback without numba."""

from collections.abc import Callable

import numpy as np

from cuvee.kernels.program import Op, Place, Program
from cuvee.kernels.protocol import LANES, ZEROS, Above, Block, Kept

_LOW = 0xFFFFFFFF


def compile_seconds() -> float:
    return 0.0


def finite(raw: np.ndarray) -> bool:
    return bool(np.isfinite(raw).all())


def widen(block: Block, stack: np.ndarray, base: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        stack[:] = block.rows[: block.models]
        if block.subtracts:
            base[:] = block.rows[-1]
            np.subtract(stack, base, out=stack)


def combine(block: Block, coefficients: np.ndarray, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
    kind = block.dtype if block.subtracts else _wide(block.dtype)
    stack = block.stack.astype(kind)
    terms = stack * np.asarray(coefficients, kind)[:, None]
    _finish(block, added(terms), scale, add, out, loss)


def weighted_sum(
    block: Block,
    kept: Kept,
    factor: np.ndarray,
    weight: np.ndarray,
    divisor: float,
    scale: float,
    add: bool,
    out: np.ndarray,
    loss: np.ndarray,
) -> None:
    total = added(_sparse(block, kept, factor) * np.asarray(weight, block.dtype)[:, None])
    _finish(block, total if divisor == 1 else total / block.dtype.type(divisor), scale, add, out, loss)


def elected_sum(
    block: Block,
    kept: Kept,
    factor: np.ndarray,
    weight: np.ndarray,
    weights_vote: bool,
    normalize: bool,
    when_even: float,
    scale: float,
    add: bool,
    out: np.ndarray,
    loss: np.ndarray,
) -> None:
    sparse, weights = _sparse(block, kept, factor), np.asarray(weight, block.dtype)[:, None]
    weighted = sparse * weights
    vote = added(weighted if weights_vote else sparse)
    elected = np.where(vote == 0, block.dtype.type(when_even), np.sign(vote))
    agrees = (weighted * elected) > 0
    zero = np.zeros_like(weighted)
    total = added(np.where(agrees, weighted, zero)) + (vote - vote)  # not a number where a vote is none
    if normalize:
        shares = added(np.where(agrees, np.abs(weights), zero))
        total = total / np.where(shares == 0, np.ones_like(shares), shares)
    _finish(block, total, scale, add, out, loss)


def added(terms: np.ndarray) -> np.ndarray:
    """Add over the models, strictly in their order; numbers of 16 bits in float32, rounded once."""
    wide = terms.astype(_wide(terms.dtype))
    total = wide[0]
    for term in wide[1:]:
        total = total + term
    return np.asarray(total.astype(terms.dtype))


def keep(block: Block, above: Above, out: np.ndarray) -> None:
    for model, row in enumerate(np.abs(block.stack)):
        least = row.dtype.type(above.threshold[model])
        equal = row == least
        out[model] = ~((row < least) | (equal & (np.cumsum(equal) + above.seen[model] > above.accept[model])))
        above.seen[model] += np.count_nonzero(equal)


def keep_at_random(keys: np.ndarray, density: np.ndarray, start: int, out: np.ndarray) -> None:
    draws = np.empty(out.shape[1], np.float32)
    for model, row in enumerate(out):
        uniform((int(keys[model, 0]), int(keys[model, 1])), start, draws)
        row[:] = draws < np.float32(density[model])


def keep_by_rank(block: Block, chance: np.ndarray, keys: np.ndarray, out: np.ndarray) -> None:
    draws = np.empty(block.size, np.float32)
    for model, row in enumerate(np.abs(block.stack).astype(_wide(block.dtype))):
        places = np.empty((block.size // chance.shape[1], chance.shape[1]), np.int32)
        ranks(row.reshape(places.shape), places)
        uniform((int(keys[model, 0]), int(keys[model, 1])), block.start, draws)
        out[model] = draws < chance[model][places.reshape(-1)]


def variances(block: Block, out: np.ndarray) -> None:
    numbers = block.stack.astype(_wide(block.dtype))
    apart = numbers - added(numbers) / numbers.dtype.type(block.models)
    out[:] = added(apart * apart) / numbers.dtype.type(block.models)


def divergences(block: Block, epsilon: float, out: np.ndarray) -> None:
    base, model = block.stack.astype(np.float64).reshape(2, out.size, -1)
    p, q = _softmax(model) + epsilon, _softmax(base) + epsilon
    out[:] = np.maximum(np.sum(p * np.log(p / q), axis=-1), 0)


def _softmax(rows: np.ndarray) -> np.ndarray:
    raised = np.exp(rows - rows.max(axis=-1, keepdims=True))
    shares: np.ndarray = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def take(block: Block, mask: np.ndarray, out: np.ndarray) -> None:
    narrow(np.where(mask, block.stack[1], block.stack[0]), out)


def scaled_distances(block: Block, factors: np.ndarray, out: np.ndarray) -> None:
    base, model = block.stack.astype(np.float64)
    out[:] = (np.abs(model - base).reshape(factors.size, -1) * factors[:, None]).reshape(-1)


def magnitude_sums(block: Block, kept: Kept, sums: np.ndarray) -> None:
    for total, chosen in zip(sums, (Kept(), kept), strict=False):
        for model, row in enumerate(_sparse(block, chosen, np.ones(block.models))):
            total[model] += _lane_sum(np.abs(row).astype(np.float64))


def count_near(block: Block, models: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
    for model, near, count in zip(models, values, counts, strict=True):
        row = np.abs(block.stack[model]).astype(_wide(block.dtype))[None]
        count[:, 0] += (~(row <= near[:, None])).sum(axis=1)
        count[:, 1] += (row == near[:, None]).sum(axis=1)


def gram(block: Block, sums: np.ndarray) -> None:
    _gram(block.stack.astype(np.float64), sums)


def row_grams(block: Block, sums: np.ndarray) -> None:
    wide = block.stack.astype(np.float64)
    for rows, into in zip(np.split(wide, len(sums), axis=1) if len(sums) else [], sums, strict=True):
        _gram(rows, into)


def squares(block: Block, kept: Kept, sums: np.ndarray, *, rounds: bool = False) -> None:
    chosen = _sparse(block, kept, np.ones(block.models))
    numbers = chosen if rounds and chosen.dtype.itemsize == 2 else chosen.astype(np.float64)
    for model, row in enumerate(numbers):
        sums[model] += _lane_sum((row * row).astype(np.float64))


def digit_counts(
    block: Block, models: np.ndarray, prefixes: np.ndarray, shift: int, width: int, counts: np.ndarray
) -> None:
    others = (counts.shape[1] - ZEROS) // 2
    for model, prefix, row in zip(models, prefixes, counts, strict=True):
        wide = np.abs(block.stack[model]).astype(_wide(block.dtype))
        bits = wide.view(f"u{wide.dtype.itemsize}").astype(np.uint64)
        bits = bits[(bits >> np.uint64(shift + width)) == prefix]
        digits = ((bits >> np.uint64(shift)) & np.uint64((1 << width) - 1)).astype(np.int64)
        digits += others * ((bits & np.uint64((1 << shift) - 1)) != 0)
        row += np.bincount(digits, minlength=row.size).astype(row.dtype)


def cast_loss(values: np.ndarray, base: np.ndarray, cast: np.ndarray, loss: np.ndarray) -> None:
    held = np.asarray(values, _wide(values.dtype))
    lost, moved = cast.astype(held.dtype) - held, held - base.astype(held.dtype)
    loss += np.dot(lost, lost), np.dot(moved, moved)


def narrow(values: np.ndarray, out: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        out[:] = values.astype(out.dtype)


def round_to(numbers: np.ndarray, dtype: np.dtype) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        numbers[:] = numbers.astype(dtype)


def add_scaled(base: np.ndarray, delta: np.ndarray, scale: float, out: np.ndarray) -> None:
    out[:] = np.where(delta == 0, base, base + _scaled(delta, scale))


def compute(block: Block, program: Program, place: Place, kept: np.ndarray, total: np.ndarray, out: np.ndarray) -> None:
    registers: dict[int, np.ndarray] = dict(enumerate(_constants(block, program, place)))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for op, x, y, z, into in program.steps.tolist():
            if op in (Op.SUM, Op.SUM_PRODUCTS):
                terms = registers[x].astype(np.float64)
                _add_up(terms if op == Op.SUM else terms * registers[y], program, place, total[z])
            elif op == Op.KEEP:
                kept[:] = registers[x].astype(kept.dtype)
            elif op == Op.WRITE:
                out[:] = registers[x].astype(out.dtype)
            elif op in (Op.LOAD, Op.RESUME):
                registers[into] = (block.rows[x] if op == Op.LOAD else kept).astype(np.float32)
            elif op == Op.CHANGE:
                change = block.rows[x].astype(np.float32) - registers[y]
                registers[into] = change.astype(block.dtype).astype(np.float32)
            else:
                numbers = [registers.get(register, np.empty(0)) for register in (x, y, z)]
                registers[into] = _calculated(op, numbers, block.dtype)


def _constants(block: Block, program: Program, place: Place) -> np.ndarray:
    """Return a number for each constant and entry of a block."""
    constants = program.constants
    if program.scope == "row":
        return np.repeat(constants, place.width, axis=1)
    if program.scope == "column":
        by_matrix = constants.reshape(len(constants), constants.shape[1] // place.width, place.width)
        return by_matrix[:, place.matrices].reshape(len(constants), block.size)
    return np.repeat(constants, block.size, axis=1)


_CALCULATIONS: dict[int, Callable[..., np.ndarray]] = {
    Op.ADD: np.add,
    Op.SUBTRACT: np.subtract,
    Op.MULTIPLY: np.multiply,
    Op.DIVIDE: np.divide,
    Op.ROUND: np.positive,
    Op.ABSOLUTE: np.abs,
    Op.MINIMUM: np.minimum,
    Op.EQUAL: np.equal,
    Op.SELECT: lambda chosen, first, second: np.asarray(np.where(chosen != 0, first, second)),
}
_ARGUMENTS = {Op.ROUND: 1, Op.ABSOLUTE: 1, Op.SELECT: 3}


def _calculated(op: int, numbers: list[np.ndarray], dtype: np.dtype) -> np.ndarray:
    rounds = Op.ROUNDED <= op <= Op.ROUND
    plainly = op - Op.ROUNDED if rounds and op != Op.ROUND else op
    result = _CALCULATIONS[plainly](*numbers[: _ARGUMENTS.get(Op(plainly), 2)])
    return np.asarray(result.astype(dtype) if rounds else result, np.float32)


def _add_up(terms: np.ndarray, program: Program, place: Place, total: np.ndarray) -> None:
    if program.scope == "column":
        by_matrix = total.reshape(-1, place.width)
        for row, matrix in zip(terms.reshape(-1, place.width), place.matrices, strict=True):
            by_matrix[matrix] += row
    else:
        total += lane_sums(terms.reshape(total.size, -1))


def uniform(key: tuple[int, int], start: int, out: np.ndarray) -> None:
    # int64 arithmetic masked to 32 bits: the same lines give the same bits in any array library.
    index = np.arange(start, start + out.size, dtype=np.int64)
    mixed = _mix((index & _LOW) ^ key[0])
    mixed = _mix((mixed + (index >> 32) * 0x9E3779B9 + key[1]) & _LOW)
    out[:] = (mixed >> 8).astype(np.float32) * np.float32(2.0**-24)


def ranks(rows: np.ndarray, out: np.ndarray) -> None:
    order = np.argsort(-rows, axis=-1, kind="stable")
    out[:] = np.argsort(order, axis=-1, kind="stable")


def _wide(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def _scaled(numbers: np.ndarray, scale: float) -> np.ndarray:
    wide = _wide(numbers.dtype)
    return np.asarray((numbers.astype(wide) * wide.type(scale)).astype(numbers.dtype))


def _sparse(block: Block, kept: Kept, factor: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = block.stack * np.asarray(factor, block.dtype)[:, None]
    mask = kept.mask
    if kept.outer.threshold.size:
        mask = np.empty(scaled.shape, np.bool_)
        keep(block, kept.outer, mask)
    if kept.inner.threshold.size:
        left_out = np.empty(scaled.shape, np.bool_)
        keep(block, kept.inner, left_out)
        mask &= ~left_out | np.isnan(block.stack)
    return np.where(mask, scaled, np.zeros_like(scaled)) if mask.size else scaled


def _finish(block: Block, change: np.ndarray, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
    if not add:
        narrow(change, out)
        return
    values = np.empty_like(block.base)
    add_scaled(block.base, change, scale, values)
    narrow(values, out)
    if out.dtype != values.dtype:
        cast_loss(values, block.base, out, loss)


def _gram(rows: np.ndarray, sums: np.ndarray) -> None:
    for i in range(len(rows)):
        for j in range(i + 1):
            sums[i, j] += _lane_sum(rows[i] * rows[j])
            sums[j, i] = sums[i, j]


def lane_sums(terms: np.ndarray) -> np.ndarray:
    """Add float64 terms [..., n] up in lanes, as all sums over a block are."""
    lanes = np.zeros((*terms.shape[:-1], -(-terms.shape[-1] // LANES), LANES))
    lanes.reshape(*terms.shape[:-1], -1)[..., : terms.shape[-1]] = terms
    if not terms.shape[-1]:
        return np.zeros(terms.shape[:-1])
    return np.asarray(np.add.accumulate(np.add.accumulate(lanes, axis=-2)[..., -1, :], axis=-1)[..., -1])


def _lane_sum(terms: np.ndarray) -> float:
    padded = np.zeros(-(-terms.size // LANES) * LANES)
    padded[: terms.size] = terms
    total = 0.0
    for lane in _row_by_row(padded.reshape(-1, LANES)):
        total += lane
    return total


def _row_by_row(rows: np.ndarray) -> list[float]:
    # np.add.accumulate adds strictly in order; np.sum may pair terms up.
    return [float(lane) for lane in np.add.accumulate(rows, axis=0)[-1]] if len(rows) else []


def _mix(bits: np.ndarray) -> np.ndarray:
    """Mix 32 bits (the "lowbias32" constants of C. Wellons' hash-prospector)."""
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x21F0AAAD) & _LOW
    bits = bits ^ (bits >> 15)
    bits = (bits * 0xD35A2D97) & _LOW
    return bits ^ (bits >> 15)
