"""How much private memory a step takes for a given chunk, and which chunk fits a budget."""

from collections.abc import Iterable

import numpy as np

from cuvee.checkpoint.dtypes import NUMPY
from cuvee.errors import OutOfBudget
from cuvee.kernels import BLOCK
from cuvee.plan.plan import MergeStep

LARGEST_CHUNK = 8 * BLOCK
DEFAULT_MEMORY = 512_000_000

_BLOCK_ARRAYS = 8
"""Arrays of one block of 8-byte numbers for each model that a rule may hold at once; float32 takes half of it."""

_SURVEY_BYTES_PER_MODEL = (1 << 16) * 8 * 2
"""Histograms of a selection by digits."""


def computing_dtype(steps: Iterable[MergeStep]) -> np.dtype:
    """Return the type to compute in: float32, or float64 if any input has it, so that no input is rounded."""
    double = any(given.dtype == "F64" for step in steps for given in step.all_inputs)
    return np.dtype(np.float64 if double else np.float32)


def worker_bytes(step: MergeStep, chunk: int) -> int:
    """Return the bytes that one worker holds while it does `step` in chunks of about `chunk` elements."""
    models = len(step.all_inputs)
    raw = sum(NUMPY[i.dtype].itemsize for i in step.all_inputs) + NUMPY[step.dtype].itemsize
    surveys = models * _SURVEY_BYTES_PER_MODEL + step.holds
    return step.chunk(chunk) * raw + step.block * models * 8 * _BLOCK_ARRAYS + surveys


def least_memory(steps: Iterable[MergeStep]) -> int:
    """Return the smallest budget in which one worker can do every step."""
    return max((worker_bytes(step, BLOCK) for step in steps), default=0)


def fit(steps: tuple[MergeStep, ...], memory_bytes: int, threads: int) -> tuple[int, int]:
    """Return (chunk in elements, workers) that stay within the budget.

    Raises OutOfBudget with the figure needed.
    """
    least = least_memory(steps)
    if least > memory_bytes:
        message = f"--memory of {memory_bytes / 1e6:.1f} MB is too little: this merge needs {least / 1e6:.1f} MB"
        raise OutOfBudget(message, hint="this is with one worker and the smallest chunks")
    workers = max(1, min(threads, memory_bytes // max(least, 1)))
    chunk = LARGEST_CHUNK
    while chunk > BLOCK and workers * max((worker_bytes(step, chunk) for step in steps), default=0) > memory_bytes:
        chunk -= BLOCK
    return chunk, workers
