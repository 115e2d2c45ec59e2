"""Factors of a stack of experts: where the stack lies in a base, and which of its axes the factors are for.

PEFT (`lora.layer.ParamWrapper`) keeps the factors of all experts in one A [experts x rank, in] and one B
[out, rank x experts]. The stack is as transformers holds it in memory; a file may have one matrix for each expert, and
two for a projection that is fused in memory.
"""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cuvee.checkpoint import TensorSpec
from cuvee.structure import Structure
from cuvee.structure.config import hint

FUSED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3"), ("fc1", "fc3"), ("linear_fc1_gate", "linear_fc1_up")),
    "up_proj": (("up_proj",), ("w1",), ("fc1",)),
    "down_proj": (("down_proj",), ("w2",), ("fc2",)),
}
"""What a stack in memory holds of each expert, one below the other, under the names that files have for it."""

LARGEST_OLD = (0, 18)
"""Up to this release A has the width of a stack's second axis, whatever that is for."""

MIXED_UP = (0, 19, 0)
"""This release alone took the two kinds of stacks for each other."""

_EXPERT = re.compile(r"^(?P<owner>.+\.[^.]*expert[^.]*)\.(?P<expert>\d+)\.(?P<part>[^.]+)\.weight$")
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Spread:
    """A stack that lies in a base as one matrix for each expert and part. `rows` are those of each part."""

    names: tuple[tuple[str, ...], ...]
    rows: tuple[int, ...]
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.names), sum(self.rows), self.width

    def pieces(self) -> Iterator[tuple[str, int, int]]:
        """Give each tensor with its expert, and the row of the stack's matrices at which it starts."""
        for expert, parts in enumerate(self.names):
            row = 0
            for name, rows in zip(parts, self.rows, strict=True):
                yield name, expert, row
                row += rows


class SpreadStacks:
    """The experts of a base that are stored one by one: by the list that they are in, and by the parts' names."""

    def __init__(self, tensors: Mapping[str, TensorSpec]) -> None:
        self.tensors = tensors
        self._lists: dict[str, dict[str, dict[int, str]]] = {}
        for name, spec in tensors.items():
            match = _EXPERT.match(name)
            if match and len(spec.shape) == 2:
                parts = self._lists.setdefault(match["owner"], {})
                parts.setdefault(match["part"], {})[int(match["expert"])] = name

    def find(self, owner: str, parameter: str) -> Spread | None:
        """Return the matrices behind a parameter of the experts that a model in memory calls `owner`."""
        where = self._owner(owner)
        if where is None:
            return None
        parts = self._lists[where]
        names = _fused_names(parts, parameter)
        if names is None:
            return None
        return self._spread([parts[name] for name in names])

    def all(self) -> Iterator[tuple[str, Spread | None]]:
        """Give each stack that memory has for the lists of experts, by its parameter, with the list's own name."""
        for owner, parts in self._lists.items():
            is_gated = _fused_names(parts, "gate_up_proj") is not None
            parameters = [name for name in FUSED if name != "up_proj"] if is_gated else FUSED
            for parameter in parameters:
                names = _fused_names(parts, parameter)
                if names is not None:
                    yield f"{owner}.{parameter}", self._spread([parts[name] for name in names])

    def _owner(self, owner: str) -> str | None:
        """Find the list: of the same name, or else the only one of the same layer whose last word is the same."""
        if owner in self._lists:
            return owner
        alike = [known for known in self._lists if _stem(known) == _stem(owner)]
        return alike[0] if len(alike) == 1 else None

    def _spread(self, parts: Sequence[Mapping[int, str]]) -> Spread | None:
        count = len(parts[0])
        if any(set(part) != set(range(count)) for part in parts):
            return None
        sizes = []
        for part in parts:
            shapes = {self.tensors[name].shape for name in part.values()}
            if len(shapes) != 1:
                return None
            sizes.append(shapes.pop())
        if len({width for _, width in sizes}) != 1:
            return None
        names = []
        for expert in range(count):
            names.append(tuple(part[expert] for part in parts))
        return Spread(tuple(names), tuple(rows for rows, _ in sizes), sizes[0][1])


def _fused_names(parts: Container[str], parameter: str) -> tuple[str, ...] | None:
    """Return the names of an expert's parts that a parameter in memory fuses, None if they are not all there."""
    for names in FUSED.get(parameter, ()):
        if all(name in parts for name in names):
            return names
    return None


def _stem(owner: str) -> tuple[str, tuple[str, ...]]:
    """Return the last word of a list's name and the numbers in it: those of its layer."""
    return owner.rpartition(".")[2], tuple(_LAYER.findall(owner))


def order_in_module(parameter: str) -> tuple[bool, str]:
    """Return where a parameter stands among those of its module: what leads back to the hidden size comes last."""
    return ("down" in parameter or parameter.endswith(("w2", "output_linear"))), parameter


def orientations(shape: tuple[int, ...], out: int, into: int, count: int) -> list[bool]:
    """Return how factors of [out, into] fit a parameter: as they are (False), turned (True), both or not at all.

    A single matrix is never turned: PEFT takes it for [out, in].
    """
    if len(shape) == 2:
        return [False] * (shape == (out, into) and count == 1)
    as_is, turned = shape == (count, out, into), shape == (count, into, out)
    return [False] * as_is + [True] * turned


def turned_by_rule(
    name: str | None, structure: Structure, config: Mapping[str, object], version: str | None
) -> bool | None:
    """Say how PEFT lays the factors of square matrices: turned, or as they are; None where nothing tells.

    `name` is the stack's in the base, None for experts that are stored one by one, which memory holds as [out, in].
    `version` is that of the PEFT that wrote the adapter: A belongs to the second axis up to 0.18, and to the inputs
    from 0.19.1 on, as far as a module of transformers says that it `is_transposed`.
    """
    usual = False if name is None else _usual(name, structure, config)
    release = _release(version)
    if release is None:
        return True if usual is True else None
    if release[:2] <= LARGEST_OLD:
        return True
    if usual is None:
        return None
    return not usual if release == MIXED_UP else usual


def _usual(name: str, structure: Structure, config: Mapping[str, object]) -> bool | None:
    place = structure.of(name)
    if hint(config, "peft_turned"):
        return True
    if hint(config, "peft_as_is"):
        return False
    if place.input_first or not place.axes_known:
        return None
    return False


def _release(version: str | None) -> tuple[int, ...] | None:
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version or "")
    if match is None:
        return None
    return tuple(int(number or 0) for number in match.groups())
