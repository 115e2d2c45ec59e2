"""Compared tensors, put together by layer and by role."""

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TypeVar

from cuvee.comparison.figures import Figures, figures
from cuvee.comparison.sums import Sums
from cuvee.structure import Layer, layer_of

_KIND = re.compile(r"\.(weight|bias)$")
_NUMBER = re.compile(r"\.\d+(?=\.|$)")

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class ComparedTensor:
    """A tensor: its layer, None outside the layers, its role, and its sums."""

    name: str
    layer: Layer | None
    role: str
    sums: Sums

    @property
    def figures(self) -> Figures:
        return figures(self.sums)


@dataclass(frozen=True)
class Group:
    """Some tensors and their figures together. `layer` is `PREFIX.N`; a field that differs among them is None."""

    layer: str | None
    role: str | None
    figures: Figures


def role_of(name: str) -> str:
    """Return the purpose of a tensor: its name within the layer, alike for weight and bias and for all experts."""
    layer = layer_of(name)
    return _NUMBER.sub(".*", _KIND.sub("", layer.rest if layer else name))


def by_layer(tensors: Iterable[ComparedTensor]) -> tuple[Group, ...]:
    """Return a group for each layer in order; tensors outside the layers are in none."""
    layers = [tensor for tensor in tensors if tensor.layer is not None]
    together = grouped(layers, lambda tensor: _place(tensor.layer))
    return tuple(Group(_text(place), None, figures(sums)) for place, sums in sorted(together.items()))


def by_role(tensors: Iterable[ComparedTensor]) -> tuple[Group, ...]:
    """Return a group for each role, those within the layers first."""
    ordered = sorted(tensors, key=lambda tensor: tensor.layer is None)
    return tuple(Group(None, role, figures(sums)) for role, sums in grouped(ordered, lambda t: t.role).items())


def by_layer_and_role(tensors: Iterable[ComparedTensor]) -> tuple[Group, ...]:
    """Return a group for each role in each layer."""
    layers = [tensor for tensor in tensors if tensor.layer is not None]
    together = grouped(layers, lambda tensor: (_place(tensor.layer), tensor.role))
    return tuple(Group(_text(place), role, figures(sums)) for (place, role), sums in together.items())


def grouped(tensors: Iterable[ComparedTensor], key: Callable[[ComparedTensor], _Key]) -> dict[_Key, Sums]:
    """Return the sums of the tensors of each key, in the order in which the keys appear."""
    found: dict[_Key, list[Sums]] = {}
    for tensor in tensors:
        found.setdefault(key(tensor), []).append(tensor.sums)
    return {name: together(sums) for name, sums in found.items()}


def together(sums: Iterable[Sums]) -> Sums:
    """Add up sums, at least one."""
    return reduce(add, sums)


def _place(layer: Layer | None) -> tuple[str, int]:
    assert layer is not None, "only called for tensors of layers"
    return layer.prefix, layer.index


def _text(place: tuple[str, int]) -> str:
    return f"{place[0]}.{place[1]}"
