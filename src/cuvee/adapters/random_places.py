"""Places and numbers that PEFT draws from a seed with torch, drawn here without it, by the same Mersenne Twister."""

import numpy as np

from cuvee.adapters.kind import Key

TOO_MANY = (2**32 - 1) // 20
"""From so many numbers on torch 2.13.0 draws other places than this: its `randperm` takes more bits for each."""

BLOCK = 16
"""Normal numbers that torch draws together."""

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


def first_normals(size: int, seed: int) -> np.ndarray:
    """Return the first of `size` normal numbers, as `torch.normal` draws them on a CPU: 16, or all of fewer.

    Up to rounding: torch has its own logarithm and sine for some processors.
    """
    generator = np.random.RandomState(seed % (1 << 32))
    if size < BLOCK:
        return _normals_by_pairs(generator, size)
    draws = generator.randint(0, 1 << 32, size=size + BLOCK, dtype=np.uint32)
    uniform = (draws & ((1 << 24) - 1)) / (1 << 24)
    # What is left of whole blocks is the end of a last one, drawn after all others: it may cover some of the first.
    first = _box_muller(uniform[:BLOCK])
    covered = 2 * BLOCK - size
    if size % BLOCK and covered > 0:
        first[BLOCK - covered :] = _box_muller(uniform[size : size + BLOCK])[:covered]
    return first


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    """Make 16 normal numbers of 16 uniform numbers: the first half gives lengths, the second angles."""
    half = BLOCK // 2
    lengths, angles = np.sqrt(-2 * np.log(1 - uniform[:half])), 2 * np.pi * uniform[half:]
    return np.concatenate([lengths * np.cos(angles), lengths * np.sin(angles)])


def _normals_by_pairs(generator: np.random.RandomState, size: int) -> np.ndarray:
    """Draw as torch does below a block: two numbers from two uniform numbers of 53 bits."""
    numbers: list[float] = []
    while len(numbers) < size:
        halves = generator.randint(0, 1 << 32, size=4, dtype=np.uint32).astype(np.uint64)
        words = (halves[0::2] << np.uint64(32)) | halves[1::2]
        first, second = (words & np.uint64((1 << 53) - 1)) / float(1 << 53)
        length, angle = np.sqrt(-2 * np.log1p(-second)), 2 * np.pi * first
        numbers += [length * np.cos(angle), length * np.sin(angle)]
    return np.array(numbers[:size])
