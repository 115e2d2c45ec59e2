"""A model at a glance: tensors that differ only in a number are one row."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cuvee.checkpoint import TensorSpec
from cuvee.structure.infer import Headers, infer
from cuvee.structure.structure import Fused, Module, Role, Structure

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Row:
    """Tensors of one place in every layer and expert: their name with `*` for the numbers, and what they share."""

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
    """What `cuvee inspect` shows."""

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
    for place in structure:
        spec = specs[place.name]
        known = (place.fused, place.experts, place.input_first)
        key = (_NUMBER.sub("*", place.name), place.module, place.stack, place.role, spec.shape, spec.dtype, *known)
        grouped.setdefault(key, []).append(spec)
    dtypes: Counter[str] = Counter()
    roles: Counter[str] = Counter()
    for place in structure:
        dtypes[specs[place.name].dtype] += specs[place.name].elements
        roles[place.role] += specs[place.name].elements
    return Summary(
        structure=structure,
        rows=tuple(_row(key, found) for key, found in grouped.items()),
        tensors=len(specs),
        parameters=sum(spec.elements for spec in specs.values()),
        nbytes=sum(spec.nbytes for spec in specs.values()),
        dtypes=dict(dtypes.most_common()),
        roles=dict(roles.most_common()),
    )


def _row(key: tuple[Any, ...], found: list[TensorSpec]) -> Row:
    name, module, stack, role, shape, dtype, fused, experts, input_first = key
    elements = sum(spec.elements for spec in found)
    return Row(name, module, stack, role, shape, dtype, len(found), elements, fused, experts, input_first)
