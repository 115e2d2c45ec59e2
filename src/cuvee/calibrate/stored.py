"""Where a network's tensors are stored: under their own names, renamed, or in parts that the network joins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from cuvee.adapters.adapted import read_rows
from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError
from cuvee.evaluation.library import Joined, joined_names


@dataclass(frozen=True)
class Stored:
    """One tensor of a network: its shape there, and the tensors of the checkpoint that it is joined of."""

    joined: Joined
    shape: tuple[int, ...]

    @property
    def name(self) -> str | None:
        """The tensor's name in the checkpoint; None where it is stored in parts."""
        names = list(chain.from_iterable(self.joined.groups))
        if self.joined.stacked or len(names) != 1:
            return None
        return names[0]

    @property
    def rows(self) -> tuple[str, ...]:
        """The tensors that are stacked, or the only tensor; () where it is made otherwise."""
        if self.joined.stacked or self.joined.dim != 0:
            return () if self.name is None else (self.name,)
        return tuple(chain.from_iterable(self.joined.groups))

    def read(self, source: TensorSource) -> torch.Tensor:
        """Read the tensor in float32. Raises CheckpointError if it has another shape than in the network."""
        groups = []
        for names in self.joined.groups:
            tensors = [_read(source, name) for name in names]
            groups.append(_joined(tensors, stacked=self.joined.stacked))
        whole = groups[0] if len(groups) == 1 else torch.cat(groups, dim=self.joined.dim)
        if tuple(whole.shape) != self.shape:
            message = f"the tensor is {list(whole.shape)}, and the network's is {list(self.shape)}"
            raise CheckpointError(message, where=self.joined.groups[0][0])
        return whole


def _joined(tensors: Sequence[torch.Tensor], *, stacked: bool) -> torch.Tensor:
    if stacked:
        return torch.stack(list(tensors))
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))  # a number alone cannot be joined


def _read(source: TensorSource, name: str) -> torch.Tensor:
    spec = source.tensors[name]
    width = spec.shape[-1] if spec.shape else 1
    rows = int(np.prod(spec.shape, dtype=np.int64)) // width if width else 0
    numbers = np.ascontiguousarray(read_rows(source, name, 0, rows, width).astype(np.float32))
    # torch puts its own tensors at multiples of 64 bytes: sums of products can differ with where numbers begin
    return torch.from_numpy(numbers.reshape(spec.shape)).clone()


def stored_names(network: Any, source: TensorSource, blocks: Sequence[str], where: str) -> Mapping[str, Stored]:
    """Map the names of a network to the tensors of the checkpoint. `blocks` are the paths of the network's blocks.

    Raises CheckpointError where the checkpoint has nothing for a tensor of a block.
    """
    tensors = network.state_dict()
    joined = joined_names(network, list(source.tensors))
    found = {name: Stored(joined[name], tuple(tensor.shape)) for name, tensor in tensors.items() if name in joined}
    insides = tuple(f"{path}." for path in blocks)
    missing = [name for name in tensors if name.startswith(insides) and name not in found]
    if missing:
        message = f"the network has '{missing[0]}', which the checkpoint holds in no form that is known here"
        raise CheckpointError(message, where=where)
    return found
