"""Fused implementations of the hot passes over blocks: `fused` (numba) and `plain` (NumPy), with the same bits."""

import importlib
import importlib.util
from typing import Any, cast

from cuvee.kernels.block import Block, block_of
from cuvee.kernels.protocol import BLOCK, EVERY, LANES, ZEROS, Above, Kept, Kernels
from cuvee.progress import Progress

__all__ = ["BLOCK", "EVERY", "LANES", "ZEROS", "Above", "Block", "Kept", "Kernels", "block_of", "load", "prepare"]


def load() -> Kernels:
    """Return the compiled kernels, or the plain kernels where numba is not installed."""
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
