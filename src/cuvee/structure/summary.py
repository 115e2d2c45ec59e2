"""A model at a glance: tensors whose names differ only in a number share a row."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cuvee.checkpoint import TensorSpec
from cuvee.structure.infer import Headers, infer
from cuvee.structure.structure import Fused, Module, Role, Structure, TensorPlace

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Row:
    """Tensors of the same place in every layer and expert: their name with `*` for the numbers, and common facts."""

    name: str
    module: Module
    stack: str | None
    role: Role
    shape: tuple[int, ...]
    dtype: str
    tensors: int
    parameters: int
    fused: Fused | None
    experts: int | None
    input_first: bool


@dataclass(frozen=True)
class Summary:
    """A model as `cuvee inspect` shows it."""

    structure: Structure
    rows: tuple[Row, ...]
    tensors: int
    parameters: int
    nbytes: int
    dtypes: Mapping[str, int]
    roles: Mapping[str, int]


def summary(checkpoint: Headers) -> Summary:
    """Sum up a checkpoint. `dtypes` and `roles` count parameters."""
    structure, specs = infer(checkpoint), checkpoint.tensors
    grouped: dict[tuple[Any, ...], list[TensorSpec]] = {}
    dtypes: Counter[str] = Counter()
    roles: Counter[str] = Counter()
    for place in structure:
        spec = specs[place.name]
        grouped.setdefault(_key(place, spec), []).append(spec)
        dtypes[spec.dtype] += spec.elements
        roles[place.role] += spec.elements
    return Summary(
        structure=structure,
        rows=tuple(_row(key, group) for key, group in grouped.items()),
        tensors=len(specs),
        parameters=sum(spec.elements for spec in specs.values()),
        nbytes=sum(spec.nbytes for spec in specs.values()),
        dtypes=dict(dtypes.most_common()),
        roles=dict(roles.most_common()),
    )


def _key(place: TensorPlace, spec: TensorSpec) -> tuple[Any, ...]:
    """Return the facts that tensors of a row share, in the order in which `_row` unpacks them."""
    name = _NUMBER.sub("*", place.name)
    where = (place.module, place.stack, place.role)
    return (name, *where, spec.shape, spec.dtype, place.fused, place.experts, place.input_first)


def _row(key: tuple[Any, ...], group: list[TensorSpec]) -> Row:
    name, module, stack, role, shape, dtype, fused, experts, input_first = key
    elements = sum(spec.elements for spec in group)
    return Row(name, module, stack, role, shape, dtype, len(group), elements, fused, experts, input_first)
