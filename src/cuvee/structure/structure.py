"""`Structure`: the roles and places of a model's tensors, as plain data."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["linear", "embedding", "head", "norm", "bias", "router", "conv", "buffer", "unknown"]
Module = Literal["language", "vision", "audio", "encoder", "decoder", "projector"]
TieState = Literal["tied", "stored twice", "separate", "no head"]


@dataclass(frozen=True)
class Fused:
    """Several projections in a matrix, along its output axis. `sizes` is None where they are interleaved."""

    parts: tuple[str, ...]
    sizes: tuple[int, ...] | None


@dataclass(frozen=True)
class TensorPlace:
    """The role of a tensor and its place in the model.

    `stack` and `layer` are None outside the layers. `expert` is the index of a named expert; `experts` is how many
    matrices lie in a three-dimensional stack. `input_first` says that a matrix is [in, out] and not [out, in]; of a
    stack of square matrices it is False, and `axes_known` too, where nothing tells.
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
    """A token embedding and the head of its shape, if the checkpoint stores a head; whether they are the same matrix.

    | state | the checkpoint stores a head | the config ties them |
    | --- | --- | --- |
    | "tied" | no | yes |
    | "stored twice" | yes | yes |
    | "separate" | yes | no |
    | "no head" | no | no |
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
        """The modules, the largest by number of tensors first."""
        counts = Counter(place.module for place in self)
        return tuple(module for module, _ in counts.most_common())

    def __str__(self) -> str:
        """Sum up a structure in a line: `language: 30 blocks × 9 tensors, 2 outside`."""
        return "; ".join(f"{module}: {self._in_words(module)}" for module in self.modules)

    def _in_words(self, module: Module) -> str:
        words = []
        prefixes = set()
        for stack in self.stacks:
            if stack.module == module:
                prefixes.add(stack.prefix)
                words.append(f"{stack.depth} blocks × {_tensors_a_block(stack)} tensors")
        stacks = Counter(place.stack for place in self if place.module == module)
        outside = stacks.total() - sum(stacks[prefix] for prefix in prefixes)
        if outside:
            words.append(f"{outside} outside")
        return ", ".join(words)


def _tensors_a_block(stack: Blocks) -> str:
    mean = stack.tensors / stack.depth
    return f"{mean:.0f}" if mean == int(mean) else f"{mean:.1f}"
