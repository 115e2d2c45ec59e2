"""Programs: a few steps of arithmetic on the numbers of a block, which one pass does a piece at a time.

Registers hold the numbers of a piece as float32. Constants lie in the first registers; a step takes two or three
registers and fills another. At the end stand the steps that give something out: sums, and merged numbers.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

Scope = Literal["tensor", "row", "column"]


class Op(IntEnum):
    """What a step does. ROUNDED added to one of the first four rounds its result to the 16 bits of the block."""

    ADD = 0
    SUBTRACT = 1
    MULTIPLY = 2
    DIVIDE = 3
    ROUNDED = 4
    ROUND = 8
    LOAD = 9
    """The numbers of an input, which the step names in place of its first register."""
    RESUME = 10
    """The numbers that an earlier pass kept."""
    ABSOLUTE = 11
    MINIMUM = 12
    EQUAL = 13
    """1 where two registers are equal, else 0."""
    SELECT = 14
    """The second register where the first is not 0, else the third."""
    SUM = 15
    SUM_PRODUCTS = 16
    """Add a register, or the products of two, in float64, to the sum that the step names."""
    KEEP = 17
    """Keep numbers for the next pass."""
    WRITE = 18
    CHANGE = 19
    """The numbers of an input, less the second register, rounded."""


@dataclass(frozen=True)
class Program:
    """A program: `steps` [steps, 5] of op, three arguments and a target, and what it needs.

    `constants` [constants, n] float32 are one number each (n = 1), or one for each row or column that the scope says.
    `sums` counts the sums, which are over the block, over each row, or over each column.
    """

    steps: np.ndarray
    registers: int
    constants: np.ndarray
    sums: int
    scope: Scope = "tensor"


@dataclass(frozen=True)
class Place:
    """Where a block lies in a tensor: the length of a row, and for each of its rows which matrix it is part of."""

    width: int
    matrices: np.ndarray
