"""The kernels in NumPy: what the compiled ones are tested against, and what runs without numba."""

import numpy as np

from cuvee.kernels import LANES

_LOW = 0xFFFFFFFF


def widen(raw: np.ndarray, out: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        out[:] = raw
    return bool(np.isfinite(out).all())


def widen_rows(rows: np.ndarray, first: int, stack: np.ndarray, base: np.ndarray) -> bool:
    models, n = stack.shape
    part = rows[:, first : first + n]
    finite = min([widen(part[model], stack[model]) for model in range(models)])
    if base.size:
        finite &= widen(part[models], base)
        with np.errstate(invalid="ignore"):
            np.subtract(stack, base, out=stack)
    return finite


def cast_loss(values: np.ndarray, base: np.ndarray, cast: np.ndarray, sums: np.ndarray) -> None:
    lost, moved = cast.astype(values.dtype) - values, values - base
    sums += np.dot(lost, lost), np.dot(moved, moved)


def narrow(values: np.ndarray, out: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        out[:] = values.astype(out.dtype)
    return bool(np.isfinite(out.astype(values.dtype)).all())


def gram(stack: np.ndarray, out: np.ndarray) -> None:
    wide = stack.astype(np.float64)
    for i in range(len(stack)):
        for j in range(i + 1):
            out[i, j] += _lane_sum(wide[i] * wide[j])
            out[j, i] = out[i, j]


def row_grams(stack: np.ndarray, out: np.ndarray) -> None:
    for row, sums in zip(np.split(stack, len(out), axis=1) if len(out) else [], out, strict=True):
        gram(row, sums)


def absolute_sums(stack: np.ndarray, out: np.ndarray) -> None:
    for i, row in enumerate(stack):
        out[i] += _lane_sum(np.abs(row).astype(np.float64))


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


def digit_counts(row: np.ndarray, prefix: int, shift: int, width: int, counts: np.ndarray) -> None:
    bits = _magnitude_bits(row)
    digits = bits[(bits >> np.uint64(shift + width)) == prefix] >> np.uint64(shift)
    digits &= np.uint64((1 << width) - 1)
    counts += np.bincount(digits.astype(np.int64), minlength=counts.size)


def _magnitude_bits(row: np.ndarray) -> np.ndarray:
    unsigned = np.uint32 if row.dtype.itemsize == 4 else np.uint64
    bits: np.ndarray = np.abs(row).view(unsigned).astype(np.uint64)
    return bits


def nth_equal(row: np.ndarray, magnitude: float, n: int) -> tuple[int, int]:
    places = np.flatnonzero(np.abs(row) == row.dtype.type(magnitude))
    return (int(places[n - 1]) if 0 < n <= places.size else -1), int(places.size)


def combine(stack: np.ndarray, coefficients: np.ndarray, out: np.ndarray) -> None:
    np.multiply(stack[0], stack.dtype.type(coefficients[0]), out=out)
    for row, coefficient in zip(stack[1:], coefficients[1:], strict=True):
        out += row * stack.dtype.type(coefficient)


def add_scaled(base: np.ndarray, delta: np.ndarray, scale: float, out: np.ndarray) -> None:
    out[:] = np.where(delta == 0, base, base + base.dtype.type(scale) * delta)


def uniform(key: tuple[int, int], start: int, out: np.ndarray) -> None:
    # int64 arithmetic masked to 32 bits: the same lines give the same bits in any array library.
    index = np.arange(start, start + out.size, dtype=np.int64)
    mixed = _mix((index & _LOW) ^ key[0])
    mixed = _mix((mixed + (index >> 32) * 0x9E3779B9 + key[1]) & _LOW)
    out[:] = (mixed >> 8).astype(np.float32) * np.float32(2.0**-24)


def _mix(bits: np.ndarray) -> np.ndarray:
    """Mix 32 bits (the "lowbias32" constants of C. Wellons' hash-prospector)."""
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x21F0AAAD) & _LOW
    bits = bits ^ (bits >> 15)
    bits = (bits * 0xD35A2D97) & _LOW
    return bits ^ (bits >> 15)
