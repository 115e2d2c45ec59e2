"""Where in a loaded network the tensors of a checkpoint lie, and merged bytes written there.

A network may rename tensors, stack and join them, or have one for two (a tied head). Where each goes is learnt from the
network's own rules and then seen: the network was loaded from a merged folder, and the same merge in memory must find
its numbers in the places where they would be written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cuvee.evaluation.library import Joined, joined_names  # first, for it says which extra is missing

# isort: split
import numpy as np
import torch

from cuvee.checkpoint.dtypes import NUMPY
from cuvee.errors import SearchError
from cuvee.plan import MergeStep

Place = torch.Tensor
"""A part of a network's storage, in the shape of a checkpoint's tensor."""


@dataclass(frozen=True)
class Places:
    """The places of each tensor, and for tensors that share theirs with another, the name of that other."""

    places: Mapping[str, tuple[Place, ...]]
    twins: Mapping[str, str]


class Unlike(Exception):
    """A tensor has no place of its own in the network, or another place than its name says."""


class Untied(Exception):
    """Two tensors for which the network has one place are not equal."""


def places_of(network: Any, steps: Sequence[MergeStep]) -> Places:
    """Find the places of all outputs of a plan in a network. Raises Unlike where the rules do not tell."""
    strange = [step.name for step in steps if step.dtype not in TORCH]
    if strange:
        raise Unlike(f"'{strange[0]}' is of a type that torch lacks")
    shapes = {step.name: step.shape for step in steps}
    tensors = network.state_dict()
    joined = joined_names(network, list(shapes))
    places: dict[str, tuple[Place, ...]] = {}
    owners: dict[int, str] = {}
    twins: dict[str, str] = {}
    for inside, parts in joined.items():
        target = tensors[inside]
        for name, place in _parts(inside, target, parts, shapes):
            owner = owners.setdefault(place.data_ptr(), name) if place.numel() else name
            if owner != name:
                twins[name] = owner
            places[name] = (*places.get(name, ()), place)
    covered = {tensors[inside].data_ptr() for inside in joined}
    for inside, target in tensors.items():
        if target.numel() and target.data_ptr() not in covered:
            raise Unlike(f"the network's '{inside}' is made of no tensor by a rule that is known here")
    return Places(places, twins)


def _parts(
    inside: str, target: Place, joined: Joined, shapes: Mapping[str, tuple[int, ...]]
) -> list[tuple[str, Place]]:
    """Cut a tensor of the network into the parts that the checkpoint has of it."""
    parts: list[tuple[str, Place]] = []
    start = 0
    for group in joined.groups:
        if joined.stacked:
            sizes = (len(group), *shapes[group[0]])
            width = sizes[joined.dim]
            stack = _cut(target, joined.dim, start, width, inside)
            parts += [(name, stack[place]) for place, name in enumerate(group)]
            start += width
            continue
        for name in group:
            whole = len(joined.groups) == 1 and len(group) == 1
            width = target.shape[joined.dim] if whole and target.dim() else _width(shapes[name], joined.dim)
            parts.append((name, target if whole else _cut(target, joined.dim, start, width, inside)))
            start += width
    for name, part in parts:
        if tuple(part.shape) != tuple(shapes[name]):
            raise Unlike(f"'{name}' is {list(shapes[name])}, and its place in the network {list(part.shape)}")
    if sum(part.numel() for _, part in parts) != target.numel():
        raise Unlike(f"the network's '{inside}' is larger than what it is made of")
    return parts


def _width(shape: tuple[int, ...], dim: int) -> int:
    if len(shape) <= dim:
        raise Unlike(f"a tensor of the shape {list(shape)} cannot be joined along axis {dim}")
    return shape[dim]


def _cut(target: Place, dim: int, start: int, width: int, inside: str) -> Place:
    if target.dim() <= dim or start + width > target.shape[dim]:
        raise Unlike(f"the network's '{inside}' is smaller than what it is made of")
    return target.narrow(dim, start, width)


class Taker:
    """Takes the bytes of merged tensors as they come, and does something with each once it is whole."""

    def __init__(self, steps: Sequence[MergeStep], use: Callable[[str, torch.Tensor], None]) -> None:
        self._steps = {step.name: step for step in steps}
        self._use = use
        self._begun: dict[str, tuple[np.ndarray, int]] = {}

    def write(self, name: str, start: int, data: np.ndarray) -> None:
        """Take bytes of a tensor. All bytes of one tensor come from one thread."""
        step = self._steps[name]
        buffer, count = self._begun.pop(name, (None, 0))
        if buffer is None:
            buffer = np.empty(step.elements * NUMPY[step.dtype].itemsize, np.uint8)
        raw = data.reshape(-1).view(np.uint8)
        buffer[start : start + raw.size] = raw
        count += raw.size
        if count < buffer.size:
            self._begun[name] = (buffer, count)
            return
        self._use(name, _as_torch(buffer, step))

    def finish(self) -> None:
        """Raise SearchError if a tensor is not whole."""
        if self._begun:
            raise SearchError(f"'{next(iter(self._begun))}' was not merged to its end")


class InPlace:
    """Writes merged tensors into their places in a network."""

    def __init__(self, steps: Sequence[MergeStep], places: Places) -> None:
        self._places = places
        self._twins: dict[str, torch.Tensor] = {}
        self._taker = Taker(steps, self._put)
        self.write = self._taker.write

    def finish(self) -> None:
        """See that all is written. Raises Untied where two tensors of one place are not equal."""
        self._taker.finish()
        for name, tensor in self._twins.items():
            for place in self._places.places[name]:
                if not same_bits(place, tensor):
                    raise Untied(f"'{name}' and '{self._places.twins[name]}' are not equal")

    @torch.no_grad()
    def _put(self, name: str, tensor: torch.Tensor) -> None:
        if name in self._places.twins:
            self._twins[name] = tensor
            return
        for place in self._places.places.get(name, ()):
            place.copy_(tensor)


class Compared:
    """Compares merged tensors with the tensors of a network in their places."""

    def __init__(self, steps: Sequence[MergeStep], places: Places) -> None:
        self._places = places
        self._taker = Taker(steps, self._compare)
        self.write = self._taker.write
        self._unlike: list[str] = []

    def finish(self) -> None:
        """See that all was compared."""
        self._taker.finish()

    def check(self) -> None:
        """Raise Unlike if a tensor differs."""
        if self._unlike:
            raise Unlike(f"transformers changes '{self._unlike[0]}' when it loads it")

    def _compare(self, name: str, tensor: torch.Tensor) -> None:
        if not all(same_bits(place, tensor) for place in self._places.places.get(name, ())):
            self._unlike.append(name)


def same_bits(place: Place, tensor: torch.Tensor) -> bool:
    """Say whether a place holds the bits of a tensor, once it is of the place's type."""
    own = place.contiguous().reshape(-1)
    other = tensor.to(device=own.device, dtype=own.dtype).contiguous().reshape(-1)
    return torch.equal(own.view(torch.uint8), other.view(torch.uint8))


def _as_torch(raw: np.ndarray, step: MergeStep) -> torch.Tensor:
    """Return bytes as a tensor of a step's type and shape, over the same memory."""
    tensor = torch.from_numpy(raw).view(TORCH[step.dtype])
    return tensor.reshape(step.shape)


TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
