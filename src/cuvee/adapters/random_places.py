"""The places that PEFT draws from a seed with torch, drawn here without it, by the same Mersenne Twister."""

import numpy as np

from cuvee.adapters.kind import Key

TOO_MANY = (2**32 - 1) // 20
"""From so many numbers on torch 2.13.0 draws other places than this: its `randperm` takes more bits for each."""

SEED = Key(777, lambda value: type(value) is int and 0 <= value < 1 << 32, "a seed from 0 to 2³² - 1")


def first_of_permutation(size: int, count: int, seed: int) -> np.ndarray:
    """Return the first `count` of a random permutation of `size` numbers, as `torch.randperm` draws it on a CPU.

    Raises ValueError for more than there are, and among so many numbers that torch draws otherwise.
    """
    if size >= TOO_MANY:
        raise ValueError(f"its places are drawn among {size} numbers, which torch does otherwise from {TOO_MANY} on")
    if count > size:
        raise ValueError(f"{count} places of {size}")
    draws = np.random.RandomState(seed).randint(0, 1 << 32, size=count, dtype=np.uint32)
    moved: dict[int, int] = {}
    chosen = np.empty(count, np.int64)
    for position in range(count):
        other = position + int(draws[position]) % (size - position)
        chosen[position] = moved.get(other, other)
        moved[other] = moved.get(position, position)
    return chosen
