"""Projections that lie fused in a matrix, and matrices that have their input axis first."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cuvee.checkpoint import TensorSpec
from cuvee.structure.config import HEADS, HIDDEN, KEY_HEADS, hint, number, text_config
from cuvee.structure.structure import Fused, Module

_ATTENTION = re.compile(r"(^|[._])(w?qkv(_proj)?|c_attn|query_key_value|w_pack|in_proj(?=[._](weight|bias)$))", re.I)
_GATED = re.compile(r"(^|[._])gate_up_proj")
_MIXER = re.compile(r"(^|\.)in_proj\.weight$")
_WEIGHT = re.compile(r"[._](weight|bias)$")
_DOWN = re.compile(r"down|(^|[._])(w2|fc2|output_linear)([._]|$)")
"""Names of the projections that lead back to the hidden size."""


def fused_in(
    spec: TensorSpec, module: Module, config: Mapping[str, Any], tensors: Mapping[str, TensorSpec], input_first: bool
) -> Fused | None:
    """Return the projections that a matrix or its bias holds; None where it holds a single projection."""
    mixer = _mixer(spec, tensors)
    if mixer is not None:
        return mixer
    size = _outputs(spec, input_first)
    interleaved = any(word in spec.name for word in hint(config, "interleaved"))
    sizes: tuple[int, ...] | None = None
    if _GATED.search(spec.name):
        if size % 2 == 0 and not interleaved:
            sizes = (size // 2, size // 2)
        return Fused(("gate", "up"), sizes)
    if _ATTENTION.search(spec.name):
        if not interleaved:
            sizes = _attention_sizes(size, module, config)
        return Fused(("query", "key", "value"), sizes)
    return None


def _outputs(spec: TensorSpec, input_first: bool) -> int:
    if not spec.shape:
        return 1
    is_vector = len(spec.shape) == 1 or spec.name.endswith("bias")
    if is_vector or input_first:
        return spec.shape[-1]
    return spec.shape[-2]


def _mixer(spec: TensorSpec, tensors: Mapping[str, TensorSpec]) -> Fused | None:
    """A state-space mixer's input projection, if twice as wide as its convolution, holds its stream and its gate."""
    if not _MIXER.search(spec.name):
        return None
    conv = tensors.get(spec.name.replace("in_proj.weight", "conv1d.weight"))
    if conv is None or spec.shape[0] != 2 * conv.shape[0]:
        return None
    return Fused(("stream", "gate"), (conv.shape[0], conv.shape[0]))


def _attention_sizes(size: int, module: Module, config: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Split by the numbers of heads where the config gives them for this module, else into thirds."""
    text = text_config(config)
    query_heads, key_heads = number(text, HEADS), number(text, KEY_HEADS)
    if module != "language" or not query_heads or not key_heads:
        return None if size % 3 else (size // 3, size // 3, size // 3)
    # Grouped-query attention: as many heads for values as for keys, fewer than for queries.
    head_size, remainder = divmod(size, query_heads + 2 * key_heads)
    if remainder:
        return None
    return (query_heads * head_size, key_heads * head_size, key_heads * head_size)


def input_first_stacks(specs: Iterable[tuple[str | None, TensorSpec]], tensors: Mapping[str, TensorSpec]) -> set[str]:
    """Return the stacks whose matrices are [in, out]: their biases fit the second axis and never only the first."""
    first: set[str] = set()
    second: set[str] = set()
    for stack, spec in specs:
        if stack is None:
            continue
        axis = _axis_of_bias(spec, tensors)
        if axis == 0:
            first.add(stack)
        if axis == 1:
            second.add(stack)
    return second - first


def _axis_of_bias(spec: TensorSpec, tensors: Mapping[str, TensorSpec]) -> int | None:
    """Return the axis of a matrix that its bias fits; None without a bias, and where it fits both or neither."""
    if len(spec.shape) != 2 or not spec.name.endswith(".weight"):
        return None
    bias = tensors.get(f"{spec.name.removesuffix('weight')}bias")
    rows, columns = spec.shape
    if bias is None or rows == columns:
        return None
    if bias.shape == (columns,):
        return 1
    return 0 if bias.shape[-1:] in ((rows,), (columns,)) else None


def stack_axes(stacks: Iterable[TensorSpec], config: Mapping[str, Any]) -> dict[str, bool | None]:
    """Say of each expert stack whether its matrices are [in, out], by where the hidden size is.

    A square matrix is as its siblings in the same module are, or as a hint for the family says; None if neither tells.
    """
    specs = list(stacks)
    hidden = number(text_config(config), HIDDEN)
    by_size = {spec.name: _by_hidden_size(spec, hidden) for spec in specs}
    by_owner: dict[str, set[bool]] = {}
    for name, axes in by_size.items():
        if axes is not None:
            by_owner.setdefault(_owner(name), set()).add(axes)
    hinted = True if hint(config, "input_first") else None
    axes_by_name: dict[str, bool | None] = {}
    for name, axes in by_size.items():
        siblings = by_owner.get(_owner(name), set())
        if axes is None:
            axes = next(iter(siblings)) if len(siblings) == 1 else hinted
        axes_by_name[name] = axes
    return axes_by_name


def _by_hidden_size(spec: TensorSpec, hidden: int | None) -> bool | None:
    if spec.shape[-1] == spec.shape[-2]:
        return None
    at = -1 if _DOWN.search(spec.name) else -2
    return hidden is not None and spec.shape[at] == hidden


def _owner(name: str) -> str:
    """Return the module that a stack belongs to."""
    return name.removesuffix(".weight").rpartition(".")[0]
