"""Fused implementations of the hot passes: `fused` (numba) and `plain` (NumPy), the same functions with the same bits.

Both work on blocks: `stack` is `[models, n]`, float32 or float64, C-contiguous. No sum depends on how a tensor is cut
into chunks, because a block is always the same elements and is summed in `LANES` fixed lanes.
"""

import importlib
import importlib.util
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np

from cuvee.progress import Progress

BLOCK = 1 << 16
"""Elements in a block: few enough to stay in a cache, enough that Python between the kernels costs little."""

LANES = 16
"""Interleaved partial sums of a block; lane j adds elements j, j + LANES, ... in order."""


class Kernels(Protocol):
    """The passes over a block."""

    __name__: str

    def widen(self, raw: np.ndarray, out: np.ndarray) -> bool:
        """Convert numbers of any float type into `out`; return whether all are finite."""

    def widen_rows(self, rows: np.ndarray, first: int, stack: np.ndarray, base: np.ndarray) -> bool:
        """Convert the models' elements from `first` on into `stack`, and subtract the base model's, the last of `rows`.

        An empty `base` subtracts nothing; else it is filled. Returns whether all are finite.
        """

    def cast_loss(self, values: np.ndarray, base: np.ndarray, cast: np.ndarray, sums: np.ndarray) -> None:
        """Add the squared lengths of what the cast of `values` lost, and of what they differ from the base, to `sums`.

        A figure to report: its last digits depend on the machine.
        """

    def narrow(self, values: np.ndarray, out: np.ndarray) -> bool:
        """Round `values` to nearest even into `out`'s type; return whether all results are finite."""

    def gram(self, stack: np.ndarray, out: np.ndarray) -> None:
        """Add the inner products of the rows, in float64, to `out` [models, models]."""

    def row_grams(self, stack: np.ndarray, out: np.ndarray) -> None:
        """Add the inner products over each of the block's equally long rows to `out` [rows, models, models]."""

    def absolute_sums(self, stack: np.ndarray, out: np.ndarray) -> None:
        """Add each row's sum of magnitudes, in float64, to `out` [models]."""

    def digit_counts(self, row: np.ndarray, prefix: int, shift: int, width: int, counts: np.ndarray) -> None:
        """Count the `width`-bit digit at `shift` of the magnitudes' bits whose higher bits equal `prefix`."""

    def nth_equal(self, row: np.ndarray, magnitude: float, n: int) -> tuple[int, int]:
        """Return the position of the n-th (from 1) entry of that magnitude or -1, and how many entries have it."""

    def combine(self, stack: np.ndarray, coefficients: np.ndarray, out: np.ndarray) -> None:
        """Write the sum of coefficient x row, added in the order of the rows."""

    def add_scaled(self, base: np.ndarray, delta: np.ndarray, scale: float, out: np.ndarray) -> None:
        """Write base + scale x delta; where the delta is zero, the base bit for bit."""

    def uniform(self, key: tuple[int, int], start: int, out: np.ndarray) -> None:
        """Fill float32 `out` with numbers in [0, 1) that depend on the key and the elements' indices only."""


def load() -> Kernels:
    """Return the compiled kernels, or the plain ones where numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        return cast(Kernels, importlib.import_module("cuvee.kernels.plain"))
    return cast(Kernels, importlib.import_module("cuvee.kernels.fused"))


def prepare(progress: Progress) -> Kernels:
    """Return the kernels, compiled before work begins. The first time, which takes seconds, is shown as progress."""
    kernels = load()
    if kernels.__name__ != "cuvee.kernels.fused":
        return kernels
    fused: Any = kernels
    if fused.compiled():
        return kernels
    progress.start("compile the kernels (once)", fused.KERNELS, "kernels")
    fused.warm_up(progress.advance)
    progress.finish()
    return kernels


def for_blocks(*arrays: Any) -> ModuleType | None:
    """Return the compiled kernels if they serve these arrays: NumPy blocks [models, n] of float32 or float64.

    For operations whose plain form is their definition in `cuvee.ops`.
    """
    blocks = all(
        isinstance(a, np.ndarray) and a.ndim == 2 and a.dtype in (np.float32, np.float64) and a.flags.c_contiguous
        for a in arrays
    )
    if not blocks or importlib.util.find_spec("numba") is None:
        return None
    return importlib.import_module("cuvee.kernels.fused")
