"""Layers: a tensor named `PREFIX.N.REST`, such as `model.layers.3.mlp.up_proj.weight`, is in layer N of a stack."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

_NUMBERED = re.compile(r"^(?P<prefix>(?:.*?\.)??[^.\d][^.]*)\.(?P<index>0|[1-9][0-9]{0,5})\.(?P<rest>.+)$")
_FIRST = ("embed", "wte", "wpe", "shared.weight")
_LAST = ("embed_out", "unembed")
"""Heads with an embedding's name: GPT-NeoX's, TransformerLens'."""

_AHEAD = re.compile(r"(^|\.)mtp(_\w+)?\.")


@dataclass(frozen=True)
class Layer:
    """Where a tensor is: its stack, the layer's index in it, and the name within the layer."""

    prefix: str
    index: int
    rest: str

    def at(self, index: int) -> str:
        """Return the same tensor's name in another layer."""
        return f"{self.prefix}.{index}.{self.rest}"


@dataclass(frozen=True)
class Stack:
    """A run of layers: the prefix of their names, how many there are, how many tensors they hold."""

    prefix: str
    depth: int
    tensors: int


def layer_of(name: str) -> Layer | None:
    """Return the outermost layer that a tensor belongs to, or None."""
    match = _NUMBERED.match(name)
    return Layer(match["prefix"], int(match["index"]), match["rest"]) if match else None


def stacks(names: Iterable[str]) -> tuple[Stack, ...]:
    """Return the stacks of a model, the stack with most tensors first."""
    tensors: Counter[str] = Counter()
    depths: dict[str, int] = {}
    for name in names:
        layer = layer_of(name)
        if layer is not None:
            tensors[layer.prefix] += 1
            depths[layer.prefix] = max(depths.get(layer.prefix, 0), layer.index + 1)
    return tuple(Stack(prefix, depths[prefix], count) for prefix, count in tensors.most_common())


def is_before_layers(name: str) -> bool:
    """Say whether a tensor outside the layers comes before them (embeddings) rather than after (norm, head)."""
    if any(word in name for word in _LAST):
        return False
    return any(word in name for word in _FIRST)


def predicts_ahead(name: str) -> bool:
    """Say whether a tensor belongs, by its name, to layers that predict tokens further ahead (MTP)."""
    return _AHEAD.search(name) is not None
