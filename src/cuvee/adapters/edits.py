"""What an adapter does to the tensors of a base: an edit of each, and all edits together with what they bring."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from cuvee.adapters.changes import Change, Factors
from cuvee.adapters.experts import Spread


@dataclass(frozen=True)
class Bias:
    """A vector to be added, times a number."""

    stored: str
    scale: float


@dataclass(frozen=True)
class Edit:
    """What an adapter does to one tensor: replaces it or rows of it, adds to it, gives its outputs other lengths.

    `turned` says that the base stores the matrix as [in, out]; `by_column` that outputs are columns. `tokens` and
    `rows` are the tensor with new rows, and for each of them where it goes. Where a base stores experts one by one,
    `expert` says whose factors they are, and `first_row` at which row of the stack's matrix this one starts. `change`
    is that of another kind than LoRA; a bias that it changes has the matrix of its module as `weight`.
    """

    name: str
    full: str | None = None
    tokens: str | None = None
    rows: tuple[int, ...] = ()
    biases: tuple[Bias, ...] = ()
    factors: tuple[Factors, ...] = ()
    magnitude: str | None = None
    turned: bool = False
    by_column: bool = False
    expert: int | None = None
    first_row: int = 0
    change: Change | None = None
    weight: str | None = None

    def rows_within(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Give (row of the tensor, row of the new rows) for the new rows in [low, high)."""
        return ((position, row) for row, position in enumerate(self.rows) if low <= position < high)


@dataclass(frozen=True)
class Fit:
    """Factors as those of a parameter: its name in memory, and in the base unless it is spread over the experts."""

    factors: Factors
    parameter: str
    name: str | None
    turned: bool
    spread: Spread | None = None

    @property
    def stored(self) -> str:
        """The name of a tensor of the base that holds the parameter, or the first part of it."""
        if self.spread is not None:
            return self.spread.names[0][0]
        return self.name or ""


@dataclass(frozen=True)
class Placed:
    """The edits by the base's names. `copies` are tensors to be presented besides, each with its origin in the base.

    `called` are the names that tensors have here, by the adapter's own for them, and `stacks` say which factors are
    for which parameter in memory. `resized` are the shapes of tensors that the adapter brings for more or fewer tokens
    than the base has.
    """

    edits: Mapping[str, Edit]
    copies: Mapping[str, str]
    called: Mapping[str, str]
    stacks: Mapping[str, Fit]
    config_changes: Mapping[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    resized: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def origin(self, name: str) -> str:
        """Return the tensor of the base that is behind a presented tensor."""
        return self.copies.get(name, name)

    @property
    def digest(self) -> str:
        """Identifies what the config says, for the plan's digest."""
        return blake3(repr(sorted(self.edits.items())).encode()).hexdigest()
