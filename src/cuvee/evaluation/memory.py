"""Batches that do not fit into memory are halved, and the work goes on."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch

from cuvee.errors import EvaluationError

T = TypeVar("T")
CPU_MESSAGES = ("can't allocate memory", "not enough memory", "DefaultCPUAllocator")


def halving(
    batches: Sequence[list[int]], costs: Mapping[int, int], compute: Callable[[list[int]], T]
) -> Iterator[tuple[list[int], T]]:
    """Compute batches in order. A batch that runs out of memory is cut in two, and so are later batches that cost as
    much."""
    waiting = deque(batches)
    refused: float = float("inf")
    while waiting:
        batch = waiting.popleft()
        cost = len(batch) * max(costs[place] for place in batch)
        if cost < refused or len(batch) == 1:
            result = _attempt(batch, compute)
            if result is not None:
                yield batch, result[0]
                continue
            refused = min(refused, cost)
        middle = (len(batch) + 1) // 2
        waiting.extendleft([batch[middle:], batch[:middle]])


def _attempt(batch: list[int], compute: Callable[[list[int]], T]) -> tuple[T] | None:
    """Return the result in a tuple, or None where memory ran out for a batch that can be halved."""
    try:
        return (compute(batch),)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        if len(batch) == 1:
            raise EvaluationError(
                "one item alone does not fit into memory", hint="use --dtype bfloat16, or a larger device"
            ) from error
    # Out of the except block: the error's frames, which hold the batch's tensors, are gone by now.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(message in str(error) for message in CPU_MESSAGES)
