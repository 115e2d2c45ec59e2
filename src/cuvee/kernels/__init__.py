"""Fused implementations of the hot passes over blocks: `fused` (numba) and `plain` (NumPy), with the same bits."""

import importlib
import importlib.util
from typing import Any, cast

from cuvee.kernels.protocol import BLOCK, EVERY, LANES, ZEROS, Above, Block, Kept, Kernels, block_of
from cuvee.progress import Progress

__all__ = ["BLOCK", "EVERY", "LANES", "ZEROS", "Above", "Block", "Kept", "Kernels", "block_of", "load", "prepare"]


def load() -> Kernels:
    """Return the compiled kernels, or the plain kernels where numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        return cast(Kernels, importlib.import_module("cuvee.kernels.plain"))
    return cast(Kernels, importlib.import_module("cuvee.kernels.fused"))


SMALL = 1 << 22
"""Entries up to which the plain kernels are done with a simple merge before compiled kernels are loaded."""


def prepare(progress: Progress, entries: int | None = None, *, simple: bool = False) -> Kernels:
    """Return the kernels, compiled before work begins. The first time, which takes seconds, is shown as progress.

    - `entries`: how many the work reads, if it computes in float32. For few the plain kernels do it, where they are
      faster, or where there are no compiled kernels yet. The bytes are the same.
    - `simple`: the work is to combine blocks, in which the plain kernels are nearly as fast.
    """
    kernels = load()
    if kernels.__name__ != "cuvee.kernels.fused":
        return kernels
    fused: Any = kernels
    few = entries is not None and entries <= SMALL
    if few and simple:
        return _plain()
    if fused.compiled():
        return kernels
    if few:
        return _plain()
    progress.start("compile the kernels (once)", fused.KERNELS, "kernels")
    fused.warm_up(progress.advance)
    progress.finish()
    return kernels


def _plain() -> Kernels:
    return cast(Kernels, importlib.import_module("cuvee.kernels.small"))
