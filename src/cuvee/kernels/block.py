"""Blocks: consecutive elements of a tensor of several models, as raw as they were read."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cuvee.kernels.protocol import Kernels


@dataclass(frozen=True)
class Block:
    """Elements `start` and following of each input: `rows` [inputs, n], C-contiguous, of one float type.

    Where it `subtracts`, the last row is the base model's, and the block stands for the task vectors of the others.
    `dtype` is the type computed in: float32, float64 where an input has it, or the type that models are loaded in
    where every result is to be rounded to it.
    """

    rows: np.ndarray
    start: int
    dtype: np.dtype
    subtracts: bool
    kernels: Kernels

    @property
    def models(self) -> int:
        return len(self.rows) - self.subtracts

    @property
    def size(self) -> int:
        return int(self.rows.shape[1])

    @cached_property
    def _numbers(self) -> tuple[np.ndarray, np.ndarray]:
        stack = np.empty((self.models, self.size), self.dtype)
        base = np.empty(self.size if self.subtracts else 0, self.dtype)
        self.kernels.widen(self, stack, base)
        return stack, base

    @property
    def stack(self) -> np.ndarray:
        """The models' numbers or task vectors [models, n], in the type computed in."""
        return self._numbers[0]

    @property
    def base(self) -> np.ndarray:
        """The base model's numbers [n]; empty where nothing is subtracted."""
        return self._numbers[1]


def block_of(numbers: np.ndarray, start: int, kernels: Kernels) -> Block:
    """Make a block of rows of computed numbers [rows, n]."""
    return Block(np.ascontiguousarray(numbers), start, numbers.dtype, False, kernels)
