"""Batches of rows of about equal length, the longest first: the largest need of memory comes first, not last."""

from collections.abc import Collection, Sequence
from typing import Literal

from cuvee.errors import RecipeError

BatchSize = int | Literal["auto"]
MAX_ITEMS = 256


def make_batches(
    lengths: Sequence[tuple[int, ...]], costs: Sequence[int], *, batch_size: BatchSize, budget: int
) -> list[list[int]]:
    """Group indices by length. `auto` fills a batch while its items times its largest cost stay within `budget`.

    The batches depend on nothing but the arguments, so a run that continues another meets the same ones.
    """
    most = MAX_ITEMS if batch_size == "auto" else batch_size
    order = sorted(range(len(lengths)), key=lambda index: (*(-size for size in lengths[index]), index))
    batches: list[list[int]] = []
    largest = 0
    for index in order:
        largest = max(largest, costs[index])
        full = not batches or len(batches[-1]) == most
        if full or (batch_size == "auto" and (len(batches[-1]) + 1) * largest > budget):
            batches.append([])
            largest = costs[index]
        batches[-1].append(index)
    return batches


def unfinished(batches: list[list[int]], done: Collection[int]) -> list[list[int]]:
    """Keep the batches in which something is missing, whole, so that each item meets the same neighbours again."""
    finished = frozenset(done)
    return [batch for batch in batches if not finished.issuperset(batch)]


def check_batch_size(batch_size: object) -> None:
    """Raise unless it is "auto" or a positive number."""
    number = isinstance(batch_size, int) and not isinstance(batch_size, bool) and batch_size > 0
    if batch_size != "auto" and not number:
        raise RecipeError(f"batch size is {batch_size!r}, not 'auto' or a positive number")
