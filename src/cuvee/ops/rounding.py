"""Rounding that is right on average: up or down at random, the nearer the likelier.

Rounding to the nearest loses every change that is smaller than half a step of the output's type, always to the same
side. Rounded at random, a number is exact in expectation (arXiv:1502.02551, section 4).
"""

import numpy as np


def round_at_random(values: np.ndarray, uniform: np.ndarray, out: np.ndarray) -> bool:
    """Round `values` into `out`'s type by numbers from [0, 1), one each; return whether all results are finite.

    A number that the type holds exactly stays. A number that would round to the largest of the type does so.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        near = values.astype(out.dtype)
        held = near.astype(values.dtype)
        error = values - held
        other = np.nextafter(near, np.where(error > 0, np.inf, -np.inf).astype(out.dtype))
        gap = np.abs(other.astype(values.dtype) - held)
        out[:] = np.where(uniform * gap < np.abs(error), other, near)
    return bool(np.isfinite(held).all())
