"""A fingerprint of sampled contents: some blocks of each tensor, at places that depend on nothing but its size.

Models of the same shape have equal headers, and reading all of their files takes longer than most merges. A fine-tune
changes numbers nearly everywhere in the tensors that it trains, which a few thousand numbers of each tensor show.
Samples cannot show a change of a few entries that lie between them: for that a file's SHA-256 is needed.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from blake3 import blake3

BLOCKS = 8
"""Blocks of a tensor, the first at its first byte, the last at its last one, the others evenly between."""

BLOCK_BYTES = 2048
"""A tensor of no more than BLOCKS times as many bytes is taken whole."""


class Block(NamedTuple):
    """Bytes [start, start + nbytes) of a tensor."""

    start: int
    nbytes: int


class Sampled(NamedTuple):
    """A tensor to sample. `read` returns a block of its bytes."""

    name: str
    dtype: str
    shape: Sequence[int]
    nbytes: int
    itemsize: int
    read: Callable[[Block], bytes | memoryview]


def sampled_blocks(nbytes: int, itemsize: int) -> list[Block]:
    """Return the blocks of a tensor of so many bytes. Each begins where a number of `itemsize` bytes begins."""
    if nbytes <= BLOCKS * BLOCK_BYTES:
        return [Block(0, nbytes)]
    last = nbytes - BLOCK_BYTES
    starts = (last * k // (BLOCKS - 1) for k in range(BLOCKS))
    return [Block(start - start % itemsize, BLOCK_BYTES) for start in starts]


def digest_of_samples(tensors: Iterable[Sampled]) -> str:
    """Return the BLAKE3 of each tensor's name, type and shape, as a line of JSON, and of its blocks after it."""
    digest = blake3()
    for tensor in tensors:
        line = json.dumps([tensor.name, tensor.dtype, list(tensor.shape)])
        digest.update(line.encode() + b"\n")
        for block in sampled_blocks(tensor.nbytes, tensor.itemsize):
            digest.update(tensor.read(block))
    return digest.hexdigest()
