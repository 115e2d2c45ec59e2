"""A checkpoint in which tensors with a block for each layer have the blocks of other layers, in another order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cuvee.checkpoint.checkpoint import TensorSource
from cuvee.checkpoint.header import TensorSpec
from cuvee.checkpoint.stored_file import StoredFile

CHUNK_BYTES = 1 << 20
"""About how much is read at once."""


@dataclass(frozen=True)
class BlockOrder:
    """The blocks lie along `axis`, `blocks` of them; the new tensor has those of `order`."""

    axis: int
    blocks: int
    order: tuple[int, ...]


class RecutCheckpoint:
    """Reads as a plain checkpoint does; `orders` says for tensors by name which blocks they have."""

    def __init__(self, source: TensorSource, orders: Mapping[str, BlockOrder]) -> None:
        self.source = source
        self.orders = orders
        self.config = source.config
        self.place = source.place
        tensors = dict(source.tensors)
        for name in tensors.keys() & orders.keys():
            tensors[name] = _recut(tensors[name], orders[name])
        self.tensors: Mapping[str, TensorSpec] = tensors

    def over(self, source: TensorSource) -> "RecutCheckpoint":
        """Return the same cut of the same model from another place."""
        return RecutCheckpoint(source, self.orders)

    def files(self) -> dict[str, StoredFile]:
        return self.source.files()

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        if name not in self.orders:
            self.source.will_read(name, start, nbytes)

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        if name not in self.orders:
            self.source.read_into(name, start, out)
            return
        for part in out:
            self._fill(name, start, part.view(np.uint8).reshape(-1))
            start += part.nbytes

    def _fill(self, name: str, start: int, raw: np.ndarray) -> None:
        """Fill `raw` with the bytes of the recut tensor from byte `start` on, some rows of blocks at a time."""
        order = self.orders[name]
        rows = self._rows(name)
        block_bytes = self.source.tensors[name].nbytes // (rows * order.blocks)
        row_bytes = block_bytes * len(order.order)
        step = max(1, CHUNK_BYTES // row_bytes)
        end = start + raw.nbytes
        for first in range(start // row_bytes, -(-end // row_bytes), step):
            last = min(first + step, -(-end // row_bytes))
            left, right = max(start, first * row_bytes), min(end, last * row_bytes)
            block = self._made(name, first, last, block_bytes)
            raw[left - start : right - start] = block[left - first * row_bytes : right - first * row_bytes]

    def _made(self, name: str, first: int, last: int, block_bytes: int) -> np.ndarray:
        order = self.orders[name]
        stored = np.empty((last - first) * order.blocks * block_bytes, np.uint8)
        self.source.read_into(name, first * order.blocks * block_bytes, [stored])
        blocks = stored.reshape(last - first, order.blocks, block_bytes)
        return blocks[:, list(order.order)].reshape(-1)

    def _rows(self, name: str) -> int:
        """Return how many times all blocks follow each other."""
        rows = 1
        for size in self.source.tensors[name].shape[: self.orders[name].axis]:
            rows *= size
        return rows


def _recut(spec: TensorSpec, order: BlockOrder) -> TensorSpec:
    shape = list(spec.shape)
    shape[order.axis] = shape[order.axis] // order.blocks * len(order.order)
    return replace(spec, shape=tuple(shape))
