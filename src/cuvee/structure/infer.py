"""Checkpoint headers and config -> Structure. No table of architectures: names, shapes and sizes decide."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cuvee.checkpoint import TensorSpec
from cuvee.structure.config import EXPERTS, VOCABULARY, is_tied, numbers
from cuvee.structure.fused import fused_in, input_first_stacks, stack_axes
from cuvee.structure.layers import Layer, layer_of, stacks
from cuvee.structure.modules import Modules
from cuvee.structure.roles import Surroundings, expert_of, numbered_within, role_of, stacked_experts
from cuvee.structure.structure import Blocks, Role, Structure, TensorPlace, Tie

_POSITIONS = re.compile(r"position|(^|\.)wpe\.|patch|token_type")


class Headers(Protocol):
    """A checkpoint as its headers and config describe it. Nothing here reads a tensor."""

    @property
    def tensors(self) -> Mapping[str, TensorSpec]: ...

    @property
    def config(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class _Model:
    """A checkpoint's headers with everything that the place of a single tensor depends on."""

    tensors: Mapping[str, TensorSpec]
    config: Mapping[str, Any]
    layers: Mapping[str, Layer | None]
    experts: Mapping[str, int | None]
    around: Surroundings
    modules: Modules
    input_first: frozenset[str]
    """Stacks of layers whose matrices are [in, out]."""
    stack_axes: Mapping[str, bool | None]
    """Of each expert stack, whether its matrices are [in, out]; None if nothing tells."""


def infer(checkpoint: Headers) -> Structure:
    """Infer blocks, modules, roles, experts, fused projections and ties from headers and config."""
    model = _model(checkpoint)
    places = {name: _place(spec, model) for name, spec in model.tensors.items()}
    return Structure(places, _blocks(places, model.around), _ties(places, model))


def _model(checkpoint: Headers) -> _Model:
    tensors, config = checkpoint.tensors, checkpoint.config
    layers = {name: layer_of(name) for name in tensors}
    expert_counts = numbers(config, EXPERTS)
    experts = _experts(layers, expert_counts)
    around = Surroundings(
        vocabularies=numbers(config, VOCABULARY),
        experts=_experts_by_layer(tensors, layers, experts, expert_counts),
        expert_counts=expert_counts,
    )
    by_stack = [(_prefix(layers[spec.name]), spec) for spec in tensors.values()]
    input_first = frozenset(input_first_stacks(by_stack, tensors))
    expert_stacks = [spec for spec in tensors.values() if stacked_experts(spec, expert_counts)]
    axes = stack_axes(expert_stacks, config)
    return _Model(tensors, config, layers, experts, around, Modules(tensors, config), input_first, axes)


def _place(spec: TensorSpec, model: _Model) -> TensorPlace:
    """Return the role of a tensor and where it lies."""
    layer, expert = model.layers[spec.name], model.experts[spec.name]
    module = model.modules.of(spec.name)
    role = role_of(spec, layer, expert, model.around)
    stacked = stacked_experts(spec, model.around.expert_counts)
    axes = _axes(spec, layer, role, model)
    input_first = axes is True
    fused = None
    if role in ("linear", "bias"):
        fused = fused_in(spec, module, model.config, model.tensors, input_first)
    return TensorPlace(
        name=spec.name,
        role=role,
        module=module,
        stack=_prefix(layer),
        layer=layer.index if layer else None,
        expert=expert,
        experts=stacked,
        fused=fused,
        input_first=input_first,
        axes_known=axes is not None,
    )


def _axes(spec: TensorSpec, layer: Layer | None, role: Role, model: _Model) -> bool | None:
    """Say whether a tensor's matrices are [in, out]; None of an expert stack of which nothing tells."""
    if spec.name in model.stack_axes:
        return model.stack_axes[spec.name]
    return role == "linear" and _prefix(layer) in model.input_first


def _prefix(layer: Layer | None) -> str | None:
    return layer.prefix if layer else None


def _experts(layers: Mapping[str, Layer | None], expert_counts: frozenset[int]) -> dict[str, int | None]:
    """Return the index of the expert that each tensor belongs to, None outside of experts."""
    lists: dict[tuple[str, int, str], set[int]] = {}
    for layer in layers.values():
        entry = numbered_within(layer)
        if layer is not None and entry is not None:
            word, index = entry
            lists.setdefault((layer.prefix, layer.index, word), set()).add(index)
    return {name: expert_of(layer, expert_counts, lists) for name, layer in layers.items()}


def _experts_by_layer(
    tensors: Mapping[str, TensorSpec],
    layers: Mapping[str, Layer | None],
    experts: Mapping[str, int | None],
    expert_counts: frozenset[int],
) -> dict[tuple[str, int], int]:
    """Return how many experts each layer has, named or stacked."""
    most: dict[tuple[str, int], int] = {}
    for name, spec in tensors.items():
        layer, expert = layers[name], experts[name]
        if layer is None:
            continue
        count = stacked_experts(spec, expert_counts)
        if not count and expert is not None:
            count = expert + 1
        if count:
            where = (layer.prefix, layer.index)
            most[where] = max(most.get(where, 0), count)
    return most


def _blocks(places: Mapping[str, TensorPlace], around: Surroundings) -> tuple[Blocks, ...]:
    """List the stacks of layers, the stack with most tensors first.

    A run of numbers is a stack of layers if no number is missing and a layer has more than two tensors
    on average: a list of two projections, each with a weight and a bias, is none.
    """
    modules = {place.stack: place.module for place in places.values()}
    layers = _layers_by_stack(places.values())
    experts = _most_experts(around)
    blocks = []
    for stack in stacks(places):
        has_gaps = len(layers[stack.prefix]) < stack.depth
        has_few_tensors = stack.tensors <= 2 * stack.depth
        if has_gaps or has_few_tensors:
            continue
        module, count = modules[stack.prefix], experts[stack.prefix]
        blocks.append(Blocks(stack.prefix, module, stack.depth, stack.tensors, count))
    return tuple(blocks)


def _layers_by_stack(places: Iterable[TensorPlace]) -> dict[str, set[int]]:
    """Return the numbers of the layers that each stack has."""
    layers: dict[str, set[int]] = {}
    for place in places:
        if place.stack is not None and place.layer is not None:
            layers.setdefault(place.stack, set()).add(place.layer)
    return layers


def _most_experts(around: Surroundings) -> Counter[str]:
    """Return the most experts that a layer of each stack has, 0 for stacks without."""
    most: Counter[str] = Counter()
    for (prefix, _), count in around.experts.items():
        most[prefix] = max(most[prefix], count)
    return most


def _ties(places: Mapping[str, TensorPlace], model: _Model) -> tuple[Tie, ...]:
    """Pair the first token embedding with the head of its shape, and say whether they are the same matrix."""
    by_role: dict[str, list[TensorSpec]] = {"embedding": [], "head": []}
    for place in places.values():
        spec = model.tensors[place.name]
        if place.role in by_role and _has_a_row_a_token(spec, model.around.vocabularies):
            by_role[place.role].append(spec)
    if not by_role["embedding"]:
        return ()
    embedding = by_role["embedding"][0]
    # A matrix of a tower or a projector may have as many rows by chance.
    beside = {"vision", "audio", "projector"} - {places[embedding.name].module}
    fitting = [head.name for head in by_role["head"] if head.shape == embedding.shape]
    heads = [name for name in fitting if places[name].module not in beside]
    return (_tie(embedding.name, heads, is_tied(model.config)),)


def _tie(embedding: str, heads: list[str], config_ties: bool | None) -> Tie:
    if heads:
        return Tie(embedding, heads[0], "stored twice" if config_ties else "separate")
    return Tie(embedding, None, "tied" if config_ties else "no head")


def _has_a_row_a_token(spec: TensorSpec, vocabularies: frozenset[int]) -> bool:
    """Say whether a matrix has enough rows for a vocabulary; any has if the config states no size."""
    if len(spec.shape) != 2 or _POSITIONS.search(spec.name):
        return False
    # A padded matrix has more rows than the config has tokens.
    return not vocabularies or spec.shape[0] >= min(vocabularies)
