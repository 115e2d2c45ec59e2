"""Blocks, and the kernels: the passes over a block. `plain` (NumPy) and `fused` (numba) do them with the same bits.

A block is consecutive elements of a tensor of several models, as raw as they were read.

No sum depends on how a tensor is cut into chunks, because a block is always the same elements and is summed in `LANES`
fixed lanes. "Task vectors" are the models' numbers themselves where a block subtracts nothing.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from cuvee.kernels.program import Place, Program

BLOCK = 1 << 16
"""Elements in a block: few enough to stay in a cache, enough that Python between the kernels costs little."""

LANES = 64
"""Interleaved partial sums of a block; lane j adds elements j, j + LANES, ... in order."""

ZEROS = 64
"""Places in which zeros are counted in turn: where most numbers are zero, one counter would wait for itself."""


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
    kernels: "Kernels"

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


def block_of(numbers: np.ndarray, start: int, kernels: "Kernels") -> Block:
    """Make a block of rows of computed numbers [rows, n]."""
    return Block(np.ascontiguousarray(numbers), start, numbers.dtype, False, kernels)


@dataclass(frozen=True)
class Above:
    """The entries above a threshold of each model, and of the magnitudes equal to it the first `accept`.

    `seen` [models] counts the equal entries of the blocks so far; the pass over the block raises it. NaN is
    above.
    """

    threshold: np.ndarray = field(default_factory=lambda: np.empty(0))
    accept: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    seen: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True)
class Kept:
    """Which entries of a block are kept: those of a mask [models, n], those above `outer` but not `inner`, or all.

    A mask [1, n] is that of all models. An empty array stands for no mask or no threshold.
    """

    mask: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.bool_))
    outer: Above = field(default_factory=Above)
    inner: Above = field(default_factory=Above)


EVERY = np.iinfo(np.int64).max
"""More equal magnitudes than there can be."""


class Kernels(Protocol):
    """The passes over a block. Arguments called `out`, `sums`, `counts`, `seen` and `loss` are written to."""

    __name__: str

    def compile_seconds(self) -> float:
        """Return how long this process has compiled kernels so far."""

    def finite(self, raw: np.ndarray) -> bool:
        """Say whether all numbers of an array of any float type are finite."""

    def widen(self, block: Block, stack: np.ndarray, base: np.ndarray) -> None:
        """Write the task vectors into `stack` [models, n] and the base model's numbers into `base`, if it has room."""

    def combine(
        self, block: Block, coefficients: np.ndarray, scale: float, add: bool, out: np.ndarray, loss: np.ndarray
    ) -> None:
        """Write the sum of coefficient x task vector, added in the order of the models.

        Models that nothing is subtracted from are added up in float32, whatever they are loaded in.

        With `add`, of which a base model is part: base + scale x that sum, where it is not zero, else the base bit for
        bit; and the loss of the cast to the type of `out` is added to `loss`, as in `cast_loss`.
        """

    def weighted_sum(
        self,
        block: Block,
        kept: Kept,
        factor: np.ndarray,
        weight: np.ndarray,
        divisor: float,
        scale: float,
        add: bool,
        out: np.ndarray,
        loss: np.ndarray,
    ) -> None:
        """As `combine`, of weight x factor x task vector where it is kept, divided by `divisor`."""

    def elected_sum(
        self,
        block: Block,
        kept: Kept,
        factor: np.ndarray,
        weight: np.ndarray,
        weights_vote: bool,
        normalize: bool,
        when_even: float,
        scale: float,
        add: bool,
        out: np.ndarray,
        loss: np.ndarray,
    ) -> None:
        """As `weighted_sum`, over the models that agree with the elected sign, as `ops.task_vectors.elected_sum`."""

    def keep(self, block: Block, above: Above, out: np.ndarray) -> None:
        """Write the mask [models, n] of the entries above the threshold."""

    def keep_at_random(self, keys: np.ndarray, density: np.ndarray, start: int, out: np.ndarray) -> None:
        """Mask entries with the model's density as probability, by its key [models, 2] and the entry's index."""

    def keep_by_rank(self, block: Block, chance: np.ndarray, keys: np.ndarray, out: np.ndarray) -> None:
        """Mask entries with a probability by the rank of their magnitude in their row, the largest first.

        `chance` [models, row length] float32 falls with the rank; of equal magnitudes the first ranks higher. The draws
        are those of `keep_at_random`.
        """

    def variances(self, block: Block, out: np.ndarray) -> None:
        """Write each entry's variance over the task vectors to `out` [n], of the type computed in.

        16 bits are computed in float32 and rounded once.
        """

    def divergences(self, block: Block, epsilon: float, out: np.ndarray) -> None:
        """Write how far the softmax of each row of the second model is from that of the first, to `out` [rows].

        It is Σ p log(p / q) with p, q the softmax + epsilon, in float64, and never below zero.
        """

    def scaled_distances(self, block: Block, factors: np.ndarray, out: np.ndarray) -> None:
        """Write the distance of each entry of the second model from the first's, times its row's factor, in float64.

        `factors` is [rows], `out` [n] float32, or float64 where that is computed in.
        """

    def take(self, block: Block, mask: np.ndarray, out: np.ndarray) -> None:
        """Write the second model's number where the mask [n] holds, else the first's."""

    def magnitude_sums(self, block: Block, kept: Kept, sums: np.ndarray) -> None:
        """Add each model's sum of magnitudes, in float64, to `sums` [1 or 2, models]: of all, then of kept entries."""

    def count_near(self, block: Block, models: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
        """Count some models' magnitudes above each of their values, and those equal to it.

        `values` [len(models), k] are float32 numbers, `counts` is [len(models), k, 2].
        """

    def gram(self, block: Block, sums: np.ndarray) -> None:
        """Add the inner products of the task vectors, in float64, to `sums` [models, models]."""

    def row_grams(self, block: Block, sums: np.ndarray) -> None:
        """Add the inner products over each of the block's equally long rows to `sums` [rows, models, models]."""

    def squares(self, block: Block, kept: Kept, sums: np.ndarray, *, rounds: bool = False) -> None:
        """Add the squared norms of the kept entries of the task vectors, in float64, to `sums` [models].

        What is added up `rounds`, if asked, to the 16 bits that are computed in.
        """

    def digit_counts(
        self, block: Block, models: np.ndarray, prefixes: np.ndarray, shift: int, width: int, counts: np.ndarray
    ) -> None:
        """Count the `width`-bit digit at `shift` of some models' magnitudes whose higher bits equal a prefix.

        The bits are those of the float32 number, or of the float64 number where that is computed in. `counts`
        [len(models), (2 << width) + ZEROS] has places for numbers whose bits below the digit are zero, then for the
        others, then those among which zeros may be spread.
        """

    def cast_loss(self, values: np.ndarray, base: np.ndarray, cast: np.ndarray, loss: np.ndarray) -> None:
        """Add the squared lengths of the rounding errors of `values`, and of their change from the base, to `loss`.

        A figure to report: its last digits depend on the machine.
        """

    def narrow(self, values: np.ndarray, out: np.ndarray) -> None:
        """Round `values` to nearest even into `out`'s type."""

    def round_to(self, numbers: np.ndarray, dtype: np.dtype) -> None:
        """Round float32 `numbers` [n] in place, to nearest even, to the numbers of a type of 16 bits."""

    def add_scaled(self, base: np.ndarray, delta: np.ndarray, scale: float, out: np.ndarray) -> None:
        """Write base + scale x delta; where the delta is zero, the base bit for bit.

        The scale is a float32 number, or a wider number, also where results are rounded to 16 bits.
        """

    def uniform(self, key: tuple[int, int], start: int, out: np.ndarray) -> None:
        """Fill float32 `out` with numbers in [0, 1) that depend on the key and the elements' indices only."""

    def ranks(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write each entry's place, from 0, from the largest down; of equals the first leads.

        `rows` [rows, n] are float32 numbers that are not negative.
        """

    def compute(
        self,
        block: Block,
        program: "Program",
        place: "Place",
        kept: np.ndarray,
        total: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Run a program over the numbers of a block of 16 bits, as they are in the files.

        What it adds up goes to `total` [sums, 1], [sums, rows of the block], or [sums, all columns], whichever its
        scope says; `kept` [n] are 16-bit numbers that it may keep and read, or empty, and `out` [n] what it writes.
        """
