"""Surveys: numbers about a tensor (or the whole model) that a rule needs before it can work element by element.

A survey is a generator. It yields `Fold`s, streaming reductions which the engine runs over the blocks and whose result
it sends back, and returns a `Supplied`, which makes the rule's argument for any block. `whole` is the same thing by its
plain definition, on a whole tensor of any array library.
"""

from collections.abc import Callable, Generator, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from cuvee.kernels import Block, Kernels
from cuvee.ops.arrays import Array

Scope = Literal["tensor", "row", "column", "model"]
"""What a survey is about. A row is a vector along the last axis, a column one along the axis before it."""

FLOAT32 = np.dtype(np.float32)


class Supplied(Protocol):
    """The result of a survey."""

    def begin(self) -> "Argument":
        """Begin a pass over the blocks of a tensor, which are visited in order."""


class Argument(Protocol):
    """Makes the rule's argument for each block of a pass."""

    def at(self, block: Block) -> Array: ...


@dataclass(frozen=True)
class Fold:
    """A reduction: `add(state, block)` takes in the blocks of a tensor in order; `merge` joins those of two tensors.

    Where the state is `enough`, the blocks that are left need not be read. Folds of an equal `question` over the same
    blocks have the same result, which nobody changes.
    """

    start: Callable[[], Any]
    add: Callable[[Any, Block], Any]
    merge: Callable[[Any, Any], Any]
    enough: Callable[[Any], bool] = lambda state: False
    question: Hashable = None


@dataclass(frozen=True)
class Situation:
    """The knowledge of a survey: the numbers of models and elements, the settings, and the results of earlier surveys.

    `room` is how many bytes it may keep beyond those that it says that it `holds`, to save time. With
    `shared`, other steps ask about the same blocks, and an answer to a question of theirs, too, costs them nothing.
    """

    models: int
    elements: int
    settings: Mapping[str, Any]
    semantics: str
    kernels: Kernels
    shape: tuple[int, ...] = ()
    dtype: np.dtype = FLOAT32
    keys: tuple[tuple[int, int], ...] = ()
    whole_model: bool = False
    room: int = 0
    shared: bool = False
    found: Mapping[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> int:
        return row_length(self.shape)


Run = Generator[Fold, Any, Supplied]


@dataclass(frozen=True)
class Survey:
    """A survey. `scope` says where it runs, `passes` how often at most it reads, `reads` the settings it uses.

    `unit` gives the elements that must stay together in a block for a shape, semantics and settings; `holds` the bytes
    kept for a number of models beyond a few numbers a model.
    """

    run: Callable[[Situation], Run]
    whole: Callable[[Array, Situation], Array]
    scope: Callable[[str, Mapping[str, Any]], Scope] = lambda semantics, settings: "tensor"
    passes: Callable[[str, Mapping[str, Any]], int] = lambda semantics, settings: 0
    reads: tuple[str, ...] = ()
    unit: Callable[[tuple[int, ...], str, Mapping[str, Any]], int] = lambda shape, semantics, settings: 1
    holds: Callable[[int, tuple[int, ...], str, Mapping[str, Any]], int] = lambda models, shape, semantics, settings: 0


def row_length(shape: tuple[int, ...]) -> int:
    """Return the length of the last axis; a single number is a row of length 1."""
    return max(shape[-1], 1) if shape else 1


@dataclass(frozen=True)
class Constant:
    """The same argument for every block."""

    value: Any

    def begin(self) -> "Constant":
        return self

    def at(self, block: Block) -> Array:
        return self.value


def of_one_tensor(a: Any, b: Any) -> Any:
    """Refuse to join the findings of a tensor with those of another."""
    raise AssertionError("this is about one tensor")


def summing(models: int, add: Callable[[np.ndarray, Block], None], shape: tuple[int, ...] = ()) -> Fold:
    """Return a fold into float64 sums of shape `[models, *shape]`; `add(sums, block)` writes to the sums."""

    def into(state: np.ndarray, block: Block) -> np.ndarray:
        add(state, block)
        return state

    return Fold(lambda: np.zeros((models, *shape)), into, lambda a, b: a + b)
