"""Sites: an input of a block that linear maps share, found by the identity of the tensor in one run of the block."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

Tensor = torch.Tensor

LINEAR = (torch.nn.Linear, Conv1D)
LARGEST_DIFFERENCE = 1e-4
"""Of the largest output: how far a module may be off from x·Wᵀ + b to count as linear, in float32."""


@dataclass(frozen=True)
class Linear:
    """A linear map of a block: the module's name within the block. `input_first` says that its matrix is [in, out]."""

    module: str
    input_first: bool

    @property
    def weight(self) -> str:
        return f"{self.module}.weight"

    @property
    def bias(self) -> str:
        return f"{self.module}.bias"

    @property
    def tensors(self) -> tuple[str, str]:
        return self.weight, self.bias


@dataclass(frozen=True)
class Site:
    """An input of [positions, size], named after the first map that takes it, and the maps that do.

    `encoded` says that it is an encoder's output to a decoder's block: its positions are the encoder's.
    """

    name: str
    size: int
    maps: tuple[Linear, ...]
    encoded: bool = False


@dataclass
class _Seen:
    """The inputs of a linear module in a run of its block."""

    inputs: Tensor
    output: Tensor


def find_sites(block: Any, positions: int, run: Any, encoded: Tensor | None = None) -> tuple[Site, ...]:
    """Return the sites of a block in the order of its run. `run` runs it once on so many positions.

    `encoded` is the encoder's output to the block in that run.

    Left out are maps that see other positions than the block does, experts and routers among them, that are called more
    than once, or that are not linear when tried.
    """
    seen: dict[str, list[_Seen]] = {}
    handles = []
    for name, module in _linear_modules(block).items():
        calls = seen.setdefault(name, [])
        handles.append(module.register_forward_hook(_noting(calls)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    theirs = None if encoded is None else _identity(encoded)
    by_input: dict[tuple[Any, ...], list[str]] = {}
    for name, calls in seen.items():
        if len(calls) != 1:
            continue
        own = _identity(calls[0].inputs)
        expected = positions if own != theirs or encoded is None else encoded.shape[:-1].numel()
        if _is_plain(block.get_submodule(name), calls[0], expected):
            by_input.setdefault(own, []).append(name)
    return tuple(_site(block, names, encoded=own == theirs) for own, names in by_input.items())


def _linear_modules(block: Any) -> dict[str, Any]:
    return {name: module for name, module in block.named_modules() if isinstance(module, LINEAR)}


def _noting(calls: list[_Seen]) -> Any:
    def hook(module: Any, arguments: tuple[Any, ...], output: Any) -> None:
        if len(arguments) == 1 and isinstance(output, Tensor):
            calls.append(_Seen(arguments[0], output.clone()))  # a block may go on to change it in place

    return hook


def _is_plain(module: Any, call: _Seen, positions: int) -> bool:
    """Say whether a module sees each position of the block once, and is linear."""
    width = call.inputs.shape[-1]
    if call.inputs.numel() != positions * width:
        return False
    matrix = module.weight.T if isinstance(module, Conv1D) else module.weight
    expected = torch.nn.functional.linear(call.inputs, matrix, module.bias)
    size = float(expected.abs().max())
    return bool((call.output - expected).abs().max() <= LARGEST_DIFFERENCE * size)


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _site(block: Any, names: list[str], *, encoded: bool) -> Site:
    maps = tuple(Linear(name, isinstance(block.get_submodule(name), Conv1D)) for name in names)
    first = block.get_submodule(names[0])
    size = first.weight.shape[0] if maps[0].input_first else first.weight.shape[1]
    return Site(names[0], int(size), maps, encoded)


@contextmanager
def watched(block: Any, sites: tuple[Site, ...]) -> Iterator[Mapping[str, Tensor]]:
    """Give a mapping that holds, after each run of the block, the input of every site as [positions, size]."""
    inputs: dict[str, Tensor] = {}
    handles = []
    for site in sites:
        module = block.get_submodule(site.maps[0].module)
        handles.append(module.register_forward_pre_hook(_keeping(inputs, site)))
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def _keeping(inputs: dict[str, Tensor], site: Site) -> Any:
    def hook(module: Any, arguments: tuple[Any, ...]) -> None:
        inputs[site.name] = arguments[0].reshape(-1, site.size)

    return hook
