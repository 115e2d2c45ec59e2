"""Compiled distances between the softmax of rows, in float64.

The exponential and the logarithm are made of arithmetic that compilers turn into vectors; the libraries' own take one
number at a time. Their errors are a few units in the last place.
"""

from typing import Any

import numpy as np

from cuvee.kernels.fused.numbers import compiled, load, magnitude, store

_LOG2E = 1.4426950408889634
_LN2_HIGH = 0.6931471803691238
_LN2_LOW = 1.9082149292705877e-10
_ROUND = 6755399441055744.0
"""1.5 x 2**52: added to a small number it leaves the nearest whole number in the lowest bits."""


_SMALL = np.float32(0.125)
"""Magnitude of a row's numbers up to which a short series gives their exponentials."""

_ALIKE = 1 / 64
"""Size of (p - q) / (p + q) up to which a short series gives log(p / q)."""


@compiled
def divergences(rows: Any, epsilon: Any, out: Any, room: Any, lanes: Any) -> None:
    """`room` is [3, row length], `lanes` [16], both float64."""
    length = rows.shape[1] // max(out.size, 1)
    p, q, apart = room[0], room[1], room[2]
    for row in range(out.size):
        first, last = row * length, (row + 1) * length
        _softmax(rows[1, first:last], epsilon, p, lanes)
        _softmax(rows[0, first:last], epsilon, q, lanes)
        for i in range(length):
            apart[i] = (p[i] - q[i]) / (p[i] + q[i])
        if _largest(apart) <= _ALIKE:
            for i in range(length):
                q[i] = p[i] * _log_of_alike(apart[i])
        else:
            for i in range(length):
                q[i] = p[i] * _log(p[i] / q[i])
        total = _sum(q, lanes)
        out[row] = 0.0 if total < 0 else total


@compiled
def scaled_distances(rows: Any, factors: Any, out: Any) -> None:
    length = rows.shape[1] // max(factors.size, 1)
    for row in range(factors.size):
        first, last = row * length, (row + 1) * length
        base, model, into, factor = rows[0, first:last], rows[1, first:last], out[first:last], factors[row]
        for i in range(length):
            into[i] = abs(np.float64(load(model[i])) - np.float64(load(base[i]))) * factor


@compiled
def _softmax(row: Any, epsilon: Any, out: Any, lanes: Any) -> None:
    largest = magnitude(row[0])
    for i in range(row.size):
        largest = max(largest, magnitude(row[i]))
    if largest <= magnitude(store(row[0], _SMALL)):
        for i in range(row.size):
            out[i] = _exp_of_small(np.float64(load(row[i])))
    else:
        most = np.float32(-np.inf)
        for i in range(row.size):
            most = max(most, load(row[i]))
        for i in range(row.size):
            out[i] = _exp(np.float64(load(row[i])) - np.float64(most))
    share = 1.0 / _sum(out, lanes)
    for i in range(row.size):
        out[i] = out[i] * share + epsilon


@compiled
def _largest(numbers: Any) -> Any:
    largest = np.int64(0)
    for i in range(numbers.size):
        largest = max(largest, np.float64(abs(numbers[i])).view(np.int64))
    return np.int64(largest).view(np.float64)


@compiled
def _sum(numbers: Any, lanes: Any) -> Any:
    lanes[:] = 0.0
    whole = numbers.size - numbers.size % 16
    for start in range(0, whole, 16):
        part = numbers[start : start + 16]
        for lane in range(16):
            lanes[lane] += part[lane]
    for i in range(whole, numbers.size):
        lanes[i - whole] += numbers[i]
    total = 0.0
    for lane in range(16):
        total += lanes[lane]
    return total


@compiled
def _exp(x: Any) -> Any:
    """Return e**x for x <= 0: 2**k times a polynomial in the remainder, which is below ln 2 / 2."""
    x = -700.0 if x < -700.0 else x  # what is not a number stays so
    shifted = x * _LOG2E + _ROUND
    k = shifted - _ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    total = 1.6059043836821613e-10  # 1 / 13!
    total = total * r + 2.08767569878681e-09
    total = total * r + 2.505210838544172e-08
    total = total * r + 2.755731922398589e-07
    total = total * r + 2.7557319223985893e-06
    total = total * r + 2.48015873015873e-05
    total = total * r + 0.0001984126984126984
    total = total * r + 0.001388888888888889
    total = total * r + 0.008333333333333333
    total = total * r + 0.041666666666666664
    total = total * r + 0.16666666666666666
    total = total * r + 0.5
    total = total * r + 1.0
    total = total * r + 1.0
    power = np.int64(np.float64(shifted).view(np.int64) + np.int64(1023)) << np.int64(52)
    return total * np.int64(power).view(np.float64)


@compiled
def _exp_of_small(x: Any) -> Any:
    """Return e**x for |x| <= 1/8."""
    total = 2.755731922398589e-07  # 1 / 10!
    total = total * x + 2.7557319223985893e-06
    total = total * x + 2.48015873015873e-05
    total = total * x + 0.0001984126984126984
    total = total * x + 0.001388888888888889
    total = total * x + 0.008333333333333333
    total = total * x + 0.041666666666666664
    total = total * x + 0.16666666666666666
    total = total * x + 0.5
    total = total * x + 1.0
    return total * x + 1.0


@compiled
def _log_of_alike(s: Any) -> Any:
    """Return log(p / q) for s = (p - q) / (p + q) of at most 1/64: twice the inverse hyperbolic tangent of s."""
    z = s * s
    total = 1.0 / 9
    total = total * z + 1.0 / 7
    total = total * z + 1.0 / 5
    total = total * z + 1.0 / 3
    return 2.0 * s * (total * z + 1.0)


@compiled
def _log(x: Any) -> Any:
    """Return the natural logarithm of a normal x > 0: of its exponent, and a series for the rest, near 1."""
    bits = np.float64(x).view(np.int64)
    # the mantissa is taken between sqrt(1/2) and sqrt(2)
    raised = np.int64(bits + np.int64(0x00095F6197B7D1A2))
    exponent = np.int64((raised >> np.int64(52)) | np.int64(0x4330000000000000)).view(np.float64) - 4503599627371519.0
    rest = np.int64(np.int64(raised & np.int64(0x000FFFFFFFFFFFFF)) + np.int64(0x3FE6A09E68482E5E)).view(np.float64)
    s = (rest - 1.0) / (rest + 1.0)
    z = s * s
    total = 1.0 / 23
    total = total * z + 1.0 / 21
    total = total * z + 1.0 / 19
    total = total * z + 1.0 / 17
    total = total * z + 1.0 / 15
    total = total * z + 1.0 / 13
    total = total * z + 1.0 / 11
    total = total * z + 1.0 / 9
    total = total * z + 1.0 / 7
    total = total * z + 1.0 / 5
    total = total * z + 1.0 / 3
    total = total * z + 1.0
    return exponent * _LN2_HIGH + (2.0 * s * total + exponent * _LN2_LOW)
