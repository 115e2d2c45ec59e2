"""The outcome of a repair, in plain data."""

from collections.abc import Mapping
from dataclasses import dataclass

from cuvee.engine.combine import AdapterResult
from cuvee.engine.run import MergeResult


@dataclass(frozen=True)
class MapFit:
    """How a map was fitted: the mean relative residual before and after, the condition of its system."""

    tensor: str
    before: float | None
    after: float | None
    condition: float


@dataclass(frozen=True)
class BlockFit:
    """The repair of a block. `distance` is how far its output is from the experts', relative and squared."""

    number: int
    maps: tuple[MapFit, ...]
    distance: float | None


@dataclass(frozen=True)
class TextFigures:
    """The part of an expert's text that was read."""

    expert: str
    text: str
    documents: int
    tokens: int
    positions: int
    digest: str


@dataclass(frozen=True)
class Took:
    """The cost of the passes through the blocks."""

    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Aligned:
    """A repair: the output, the ridge that was chosen, and the outcome for every block and tensor.

    `divergences` are mean KL divergences from the experts on held-out text, in nats a position, by ridge; "before" is
    that of the merge as it was. It is empty where nothing was held out. `before` describes the merge's blocks as they
    were, where that was asked for. `rules` says "aligned" or "anchor" by tensor.
    """

    result: MergeResult | AdapterResult
    ridge: float
    divergences: Mapping[str, float]
    blocks: tuple[BlockFit, ...]
    before: tuple[BlockFit, ...]
    rules: Mapping[str, str]
    texts: tuple[TextFigures, ...]
    warnings: tuple[str, ...]
    took: Took

    @property
    def aligned(self) -> int:
        """How many tensors were solved."""
        return sum(rule == "aligned" for rule in self.rules.values())
