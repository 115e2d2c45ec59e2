"""Variants of LoRA whose factors are stored in fewer numbers than A [rank, in] and B [out, rank] have.

As in PEFT 0.21.2, tuners/lora/variants.py. Each is written out here as the plain factor that it stands for.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Blocks:
    """BD-LoRA: `count` blocks on the diagonal of A or of B, of modules whose name holds one of some words."""

    of_a: tuple[str, ...] = ()
    of_b: tuple[str, ...] = ()
    count: int = 1

    def side(self, module: str) -> str:
        """Return which factor of a module is of blocks: A, B, or an empty text."""
        for side, words in (("A", self.of_a), ("B", self.of_b)):
            if any(word in module for word in words):
                return side
        return ""


@dataclass(frozen=True)
class Form:
    """How the factors of one module are stored.

    Attributes:
        side: The factor that is block-diagonal: A, B, or an empty text for none.
        count: How many blocks that has; its stored matrix has as many rows, and columns by as many fewer.
        pooled: How many inputs of QA-LoRA share a column of A (arXiv:2309.14717); 1 for plain LoRA.
    """

    side: str = ""
    count: int = 1
    pooled: int = 1

    def shape(self, side: str, stored: tuple[int, int]) -> tuple[int, int]:
        """Return the shape of the plain factor A or B that a stored matrix stands for."""
        rows, columns = stored
        if side == self.side:
            columns *= self.count
        if side == "A":
            columns *= self.pooled
        return rows, columns

    def fits(self, side: str, stored: tuple[int, int]) -> bool:
        """Say whether a stored factor can be of this form: blocks are of whole rows."""
        return side != self.side or stored[0] % self.count == 0

    def plain(self, side: str, stored: np.ndarray) -> np.ndarray:
        """Return the plain factor A or B."""
        factor = stored
        if side == self.side:
            factor = _on_diagonal(factor, self.count)
        if side == "A" and self.pooled > 1:
            # PEFT means over a group and multiplies by the count of groups: in / pooled².
            groups = factor.shape[1]
            factor = np.repeat(factor, self.pooled, axis=1) * np.float32(groups / self.pooled)
        return factor


PLAIN = Form()


def _on_diagonal(stored: np.ndarray, count: int) -> np.ndarray:
    """Put blocks that lie one below the other on a diagonal."""
    rows, width = stored.shape
    height = rows // count
    blocks = np.zeros((rows, width * count), stored.dtype)
    for i in range(count):
        blocks[i * height : (i + 1) * height, i * width : (i + 1) * width] = stored[i * height : (i + 1) * height]
    return blocks
