"""What a rule is: it gives the merged task vector of a block, or the merged tensor where there is no base.

It does so in a form that can still be written in one pass over memory with the base added.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cuvee.kernels import Block


class Merged(Protocol):
    """The merged numbers of a block."""

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        """Write them, or with `add` the base + scale x them, as `Kernels.combine` does."""


class Rule(Protocol):
    """Merges a step block by block."""

    def merged(self, block: Block) -> Merged:
        """Merge a block."""


def change_of(rule: Rule, block: Block) -> np.ndarray:
    """Return the merged task vector's numbers for a block, or the merged tensor's where there is no base."""
    out = np.empty(block.size, block.dtype)
    rule.merged(block).write(1.0, False, out, np.zeros(2))
    return out


@dataclass(frozen=True)
class Computed:
    """Numbers that the rule computed itself."""

    block: Block
    change: np.ndarray

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        kernels = self.block.kernels
        if not add:
            kernels.narrow(self.change, out)
            return
        values = np.empty_like(self.block.base)
        kernels.add_scaled(self.block.base, self.change, scale, values)
        kernels.narrow(values, out)
        if out.dtype != values.dtype:
            kernels.cast_loss(values, self.block.base, out, loss)
