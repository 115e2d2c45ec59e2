"""How much private memory a step takes for a given chunk, and which chunk fits a budget."""

from collections.abc import Iterable

import numpy as np

from cuvee.checkpoint import Checkpoint, TensorSource
from cuvee.checkpoint.dtypes import NAMES, NUMPY, promoted
from cuvee.errors import OutOfBudget
from cuvee.kernels import BLOCK
from cuvee.ops.order import ROWS_AT_ONCE
from cuvee.plan.plan import MergeStep
from cuvee.recipe.recipe import Recipe

LARGEST_CHUNK = 8 * BLOCK
DEFAULT_MEMORY = 512_000_000

_BLOCK_ARRAYS = 8
"""Arrays of a block of 8-byte numbers for each model that a rule may hold at once; float32 takes half of it."""

_KERNEL_ARRAYS = 4
"""The same for a step that `holds_no_arrays`; the plain kernels, without numba, hold some."""

_COUNTS = (1 << 19) * 4
"""Bytes of a row's counts in a selection by digits; counts of more than 2**32 numbers take twice as much."""

_SUMS_OF_COUNTS = (1 << 19) * 8 * 2
"""Bytes of the sums with which a digit is found in a model's counts."""


def computing_dtype(steps: Iterable[MergeStep]) -> np.dtype:
    """Return the type to compute in: float32, or float64 if any input has it, so that no input is rounded."""
    for step in steps:
        if any(source.dtype == "F64" for source in step.all_inputs):
            return np.dtype(np.float64)
    return np.dtype(np.float32)


def loaded_dtype(recipe: Recipe, step: MergeStep) -> np.dtype | None:
    """Return the type that models are loaded in and all results rounded to, if the recipe asks for that.

    As in mergekit it is the recipe's dtype, or else the inputs' own.
    """
    if recipe.compute_dtype != "as_loaded":
        return None
    if recipe.dtype:
        return NUMPY[NAMES[recipe.dtype]]
    return NUMPY[promoted([source.dtype for source in step.all_inputs])]


def worker_bytes(step: MergeStep, chunk: int, *, kept: bool = False) -> int:
    """Return the bytes that a worker holds while it does `step` in chunks of about `chunk` elements.

    With `kept` the inputs stay in memory from a reading to the next.
    """
    models, elements = len(step.all_inputs), step.chunk(chunk)
    dtypes = {NUMPY[source.dtype] for source in step.all_inputs}
    width = 8 if len(dtypes) > 1 else dtypes.pop().itemsize
    input_elements = step.elements if kept else elements
    raw = input_elements * models * width + elements * NUMPY[step.dtype].itemsize
    surveys = step.holds
    if step.surveying:
        surveys += min(models * 2, ROWS_AT_ONCE) * _COUNTS + _SUMS_OF_COUNTS
    arrays = _KERNEL_ARRAYS if step.holds_no_arrays else _BLOCK_ARRAYS
    return raw + step.block * models * 8 * arrays + surveys


def keeps(step: MergeStep, sources: Iterable[TensorSource], granted_bytes: int) -> bool:
    """Say whether a worker with so many bytes keeps a step's inputs, which it would read again otherwise.

    Plain checkpoints are read again: reading from the system's cache costs less than holding.
    """
    are_plain = all(isinstance(source, Checkpoint) for source in sources)
    if step.surveying == 0 or are_plain:
        return False
    return fits_whole(step, granted_bytes)


def fits_whole(step: MergeStep, granted_bytes: int) -> bool:
    """Say whether a worker with so many bytes can hold all of a step's inputs."""
    return worker_bytes(step, LARGEST_CHUNK, kept=True) <= granted_bytes


def readings(step: MergeStep, sources: Iterable[TensorSource], granted_bytes: int) -> int:
    """Return how often at most a worker with so many bytes reads a step's inputs, for it alone."""
    if step.elements <= step.chunk(LARGEST_CHUNK) or keeps(step, sources, granted_bytes):
        return 1
    return 1 + step.surveying


def counts_of_whole_model(models: int) -> int:
    """Return the bytes of the counts that a survey of the whole model holds for each worker.

    Two rows are sought of each model at most; counts are held of the steps so far, and of those that wait to be added.
    """
    return 2 * min(models * 2, ROWS_AT_ONCE) * _COUNTS * 4 + _SUMS_OF_COUNTS


def least_memory(steps: Iterable[MergeStep]) -> int:
    """Return the smallest budget in which a single worker can do every step."""
    return _largest(steps, BLOCK)


def default_memory(steps: Iterable[MergeStep], threads: int) -> int:
    """Return the budget of a merge that names none: DEFAULT_MEMORY, or what it needs if that is more.

    That is room for a matrix per thread, or for blocks of some hundred models.
    """
    steps = tuple(steps)
    if not any(step.whole for step in steps):
        return max(DEFAULT_MEMORY, least_memory(steps))
    return max(DEFAULT_MEMORY, threads * least_memory(steps))


def fit(steps: tuple[MergeStep, ...], memory_bytes: int, threads: int) -> tuple[int, int]:
    """Return (chunk in elements, workers) that stay within the budget.

    Streaming merges on several threads start an extra worker, which waits for the disk, or for its turn to write to a
    file, while the others compute. Whole matrices leave nothing to wait for. Raises OutOfBudget with the figure needed.
    """
    least = least_memory(steps)
    if least > memory_bytes:
        message = f"--memory of {memory_bytes / 1e6:.1f} MB is too little: this merge needs {least / 1e6:.1f} MB"
        raise OutOfBudget(message, hint=_hint(steps))
    streams = not any(step.whole for step in steps)
    wanted = threads + 1 if streams and threads > 1 else threads
    workers = max(1, min(wanted, memory_bytes // max(least, 1)))
    chunk = LARGEST_CHUNK
    while chunk > BLOCK and workers * _largest(steps, chunk) > memory_bytes:
        chunk -= BLOCK
    return chunk, workers


def _largest(steps: Iterable[MergeStep], chunk: int) -> int:
    return max((worker_bytes(step, chunk) for step in steps), default=0)


def _hint(steps: Iterable[MergeStep]) -> str:
    largest = max(steps, key=lambda step: worker_bytes(step, BLOCK))
    if not largest.whole:
        return "this is with one worker and the smallest chunks"
    return f"this is with one worker; '{largest.name}' is done in one piece"
