"""`Structure`: what is known of a model's tensors, as plain data."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["linear", "embedding", "head", "norm", "bias", "router", "conv", "buffer", "unknown"]
Module = Literal["language", "vision", "audio", "encoder", "decoder", "projector"]
TieState = Literal["tied", "stored twice", "separate", "no head"]


@dataclass(frozen=True)
class Fused:
    """Several projections in one matrix, along its output axis. `sizes` is None where they are interleaved."""

    parts: tuple[str, ...]
    sizes: tuple[int, ...] | None


@dataclass(frozen=True)
class TensorPlace:
    """What one tensor is and where.

    `stack` and `layer` are None outside the layers. `expert` is the index of a named expert; `experts` is how many
    matrices lie in a three-dimensional stack. `input_first` says that a matrix is [in, out] and not [out, in]; of a
    stack of square ones it is False, and `axes_known` too, where nothing tells.
    """

    name: str
    role: Role
    module: Module
    stack: str | None = None
    layer: int | None = None
    expert: int | None = None
    experts: int | None = None
    fused: Fused | None = None
    input_first: bool = False
    axes_known: bool = True


@dataclass(frozen=True)
class Blocks:
    """A stack of layers: the prefix of their names, its module, how many there are, how many tensors and experts."""

    prefix: str
    module: Module
    depth: int
    tensors: int
    experts: int = 0


@dataclass(frozen=True)
class Tie:
    """A token embedding and the head that reads from it, if one is stored; whether they are one matrix.

    "tied": no head is stored, and the config says that they are tied. "stored twice": one is, though the config ties
    it. "separate": one is, and the config does not tie. "no head": none is, and the config does not say "tied".
    """

    embedding: str
    head: str | None
    state: TieState


@dataclass(frozen=True)
class Structure:
    """All that was inferred of a model: each tensor's place, the stacks, the ties."""

    tensors: Mapping[str, TensorPlace]
    stacks: tuple[Blocks, ...]
    ties: tuple[Tie, ...]

    def __iter__(self) -> Iterator[TensorPlace]:
        return iter(self.tensors.values())

    def of(self, name: str) -> TensorPlace:
        return self.tensors[name]

    @property
    def modules(self) -> tuple[Module, ...]:
        """The modules, the one with most tensors first."""
        return tuple(module for module, _ in Counter(place.module for place in self).most_common())

    def __str__(self) -> str:
        """Say in one line what was found: `language 30 blocks × 9 tensors, 2 outside`."""
        words = []
        for module in self.modules:
            blocks = [stack for stack in self.stacks if stack.module == module]
            known = {stack.prefix for stack in blocks}
            outside = sum(place.module == module and place.stack not in known for place in self)
            found = [f"{stack.depth} blocks × {_each(stack)} tensors" for stack in blocks]
            words.append(f"{module}: {', '.join([*found, *([f'{outside} outside'] if outside else [])])}")
        return "; ".join(words)


def _each(stack: Blocks) -> str:
    mean = stack.tensors / stack.depth
    return f"{mean:.0f}" if mean == int(mean) else f"{mean:.1f}"
