"""Methods where every result is rounded to the 16 bits that models are loaded in, as mergekit computes them.

Where the definition of a method has coefficients, or a step, that leave nothing to round before the end, mergekit makes
many steps on whole tensors. A stepwise rule makes the same, so that the same numbers are rounded. It is a generator:
where it needs a sum over all of a tensor it yields the part of a block and is sent the whole.

Here rules are run on arrays, a step at a time: the definition. `ops.traced` runs the same rules in compiled passes.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from cuvee.kernels import Block, Kernels, load
from cuvee.kernels.plain import lane_sums
from cuvee.ops.gram import as_matrices
from cuvee.ops.survey import Scope, row_length

Run = Generator[np.ndarray, np.ndarray, np.ndarray]
"""Asks for the sums over a tensor by the parts of a block, and returns numbers of the block."""


@dataclass(frozen=True)
class Stepwise:
    """A stepwise rule, and how many sums it asks for at most with given settings.

    The rule takes `Steps` and the method's settings, and returns the merged numbers [n] themselves, base included.
    """

    rule: Callable[..., Run]
    sums: Callable[[Mapping[str, Any]], int]


@dataclass(frozen=True)
class Steps:
    """Elements `start` and following of a tensor: `models` [models, n], and `base` [n] if there is a base.

    All numbers are float32 that `dtype`, of 16 bits, holds.
    """

    models: np.ndarray
    base: np.ndarray | None
    dtype: np.dtype
    kernels: Kernels
    shape: tuple[int, ...]
    start: int = 0

    def rounded(self, numbers: Any) -> np.ndarray:
        """Return numbers rounded to `dtype`."""
        return rounded(numbers, self.dtype, self.kernels)

    def total(self, numbers: np.ndarray, scope: Scope = "tensor") -> Run:
        """Sum [..., n] over the tensor, or over each row or column, in float64; [..., 1], or each entry's own sum."""
        if scope == "row":
            rows = numbers.reshape(*numbers.shape[:-1], -1, row_length(self.shape))
            sums = lane_sums(rows.astype(np.float64))[..., None]
            return np.broadcast_to(sums, rows.shape).reshape(numbers.shape)
        if scope == "tensor":
            sums = lane_sums(numbers.astype(np.float64))[..., None]
            return (yield sums.reshape(-1, 1)).reshape(sums.shape)
        matrices, height, width = as_matrices(self.shape)
        rows = numbers.reshape(*numbers.shape[:-1], -1, width)
        matrix = (self.start // width + np.arange(rows.shape[-2])) // height
        sums = np.zeros((*numbers.shape[:-1], matrices, width))
        for each in np.unique(matrix):
            sums[..., each, :] = rows[..., matrix == each, :].sum(axis=-2, dtype=np.float64)
        of_all = yield sums.reshape(-1, matrices * width)
        return of_all.reshape(sums.shape)[..., matrix, :].reshape(numbers.shape)

    def inner(self, a: np.ndarray, b: np.ndarray, scope: Scope = "tensor") -> Run:
        """Return the sum of exact products as `total` does."""
        return (yield from self.total(a.astype(np.float64) * b, scope))

    def length(self, numbers: np.ndarray, scope: Scope = "tensor") -> Run:
        """Return the norm of [..., n] as `total` does; it is not rounded to 16 bits."""
        return np.sqrt((yield from self.inner(numbers, numbers, scope))).astype(np.float32)

    def dot(self, a: np.ndarray, b: np.ndarray, scope: Scope = "tensor") -> Run:
        """Return the sum of products as `total` does; the products and the sum are rounded."""
        return self.rounded((yield from self.total(self.rounded(a * b), scope)))

    def kept(self, numbers: np.ndarray) -> np.ndarray:
        """Say that later passes should not make these rounded numbers [n] again, nor what they are made of."""
        return numbers


def rounded(numbers: Any, dtype: np.dtype, kernels: Kernels) -> np.ndarray:
    """Return numbers rounded to a type of 16 bits, as float32."""
    result = np.array(numbers, np.float32, order="C")
    kernels.round_to(result.reshape(-1), dtype)
    return result


def together(*runs: Any) -> Generator[Any, np.ndarray, list[Any]]:
    """Run what asks for sums once at most each, and ask for all of these sums at the same time."""
    results: dict[int, Any] = {}
    waiting: list[tuple[int, Any]] = []
    for place, run in enumerate(runs):
        try:
            waiting.append((place, next(run)))
        except StopIteration as end:
            results[place] = end.value
    if waiting:
        sums = yield _joined([asked for _, asked in waiting])
        for place, asked in waiting:
            try:
                runs[place].send(sums[: len(asked)])
            except StopIteration as end:
                results[place] = end.value
            sums = sums[len(asked) :]
    return [results[place] for place in range(len(runs))]


def _joined(asked: Sequence[Any]) -> Any:
    if isinstance(asked[0], np.ndarray):
        return np.concatenate(asked)
    return tuple(chain(*asked))


def steps_of(block: Block, shape: tuple[int, ...]) -> Steps:
    """Return a block of models, as they were loaded, for a stepwise rule."""
    rows = block.rows.astype(np.float32)
    base = rows[-1] if block.subtracts else None
    return Steps(rows[: block.models], base, block.dtype, block.kernels, shape, block.start)


@dataclass
class Sums:
    """The sums over a tensor that a rule asks for. State: those that are known so far."""

    rule: Callable[[Steps], Run]
    known: list[np.ndarray] = field(default_factory=list)

    def find(self, blocks: Callable[[], Iterable[Steps]]) -> None:
        """Run the rule over the blocks, again for each sum that it asks for, until it asks for none."""
        while True:
            total: Any = None
            for block in blocks():
                asked, _ = self._run(block)
                if asked is None:
                    return
                total = asked if total is None else total + asked
            if total is None:
                return
            self.known.append(total)

    def merged(self, block: Steps) -> np.ndarray:
        """Return the merged numbers [n] of a block, once all sums are found."""
        asked, merged = self._run(block)
        assert asked is None, "the same sums are asked for in every block"
        return merged

    def _run(self, block: Steps) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the block's part of the first unknown sum, or else the result of the rule."""
        asked, result = run_on(self.rule(block), self.known)
        return (None, result) if asked is None else (asked, np.empty(0))


def run_on(run: Run, known: Iterable[np.ndarray]) -> tuple[Any, Any]:
    """Run a rule as far as the known sums go; return what it then asks for and None, or None and its result."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # it is seen in the result
        try:
            asked = next(run)
            for total in known:
                asked = run.send(total)
        except StopIteration as end:
            return None, end.value
    run.close()
    return asked, None


def merged_in_steps(
    stepwise: Stepwise, stack: np.ndarray, base: np.ndarray | None, settings: Mapping[str, Any]
) -> np.ndarray:
    """Merge whole tensors [models, *shape] of 16 bits by a stepwise rule."""
    origin = None if base is None else base.reshape(-1).astype(np.float32)
    whole = Steps(stack.reshape(len(stack), -1).astype(np.float32), origin, stack.dtype, load(), stack.shape[1:])
    sums = Sums(partial(stepwise.rule, **settings))
    sums.find(lambda: [whole])
    return sums.merged(whole).astype(stack.dtype).reshape(stack.shape[1:])
