"""GPT-OSS's experts one by one, as other families have them and as llama.cpp wants them.

transformers stacks them with the input before the output, and a column of the gate beside each of the up projection:

    gate_up_proj [experts, hidden, 2 * inner], its bias [experts, 2 * inner], down_proj [experts, inner, hidden]
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.renamed import Renamed

GPT_OSS = "gpt_oss"

_PARTS = {"gate_up_proj": {"gate_proj": (0, 2), "up_proj": (1, 2)}, "down_proj": {"down_proj": (0, 1)}}
"""Which columns of a stack are whose: the first of them, and how far it is to the next."""

_EXPERTS = ".mlp.experts."


class _Part(NamedTuple):
    """Some columns of one expert in a stack."""

    stack: TensorSpec
    expert: int
    first: int
    step: int


class SingleExperts(Renamed):
    """A view of a model whose stacks are matrices [out, in] and biases of single experts. The last one is kept."""

    def __init__(self, source: TensorSource) -> None:
        origins: dict[str, str] = {}
        specs: dict[str, TensorSpec] = {}
        self._parts: dict[str, _Part] = {}
        for name, spec in source.tensors.items():
            if _EXPERTS in name:
                self._parts |= _parts_of(name, spec)
            else:
                origins[f"{name}.weight" if name.endswith(".sinks") else name] = name
        super().__init__(source, origins)
        for name, part in self._parts.items():
            width = len(range(part.first, part.stack.shape[-1], part.step))
            shape = (width, *part.stack.shape[1:-1])
            specs[name] = replace(part.stack, name=name, shape=shape)
        self.tensors: Mapping[str, TensorSpec] = {**self.tensors, **specs}
        self._last: tuple[str, np.ndarray] = ("", np.empty(0))

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        if name not in self._parts:
            super().read_into(name, start, out)
            return
        if self._last[0] != name:
            self._last = name, self._numbers(self._parts[name])
        numbers = self._last[1]
        at = start // numbers.itemsize
        for array in out:
            array[...] = numbers[at : at + array.size].view(array.dtype)
            at += array.size

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        if name not in self._parts:
            super().will_read(name, start, nbytes)

    def _numbers(self, part: _Part) -> np.ndarray:
        shape = part.stack.shape[1:]
        raw = np.empty(int(np.prod(shape)), NUMPY[part.stack.dtype])
        self.source.read_into(part.stack.name, part.expert * raw.nbytes, [raw])
        columns = raw.reshape(shape)[..., part.first :: part.step]
        return np.ascontiguousarray(columns.T).reshape(-1)


def _parts_of(name: str, spec: TensorSpec) -> dict[str, _Part]:
    """Name the parts of a stack. One of an unknown name or shape is its own name, which then has no place."""
    before, _, last = name.rpartition(".")
    module, is_bias = last.removesuffix("_bias"), last.endswith("_bias")
    axes = 2 if is_bias else 3
    if module not in _PARTS or len(spec.shape) != axes:
        return {name: _Part(spec, 0, 0, 1)}
    ending = "bias" if is_bias else "weight"
    parts = {}
    for expert in range(spec.shape[0]):
        for own, (first, step) in _PARTS[module].items():
            parts[f"{before}.{expert}.{own}.{ending}"] = _Part(spec, expert, first, step)
    return parts
