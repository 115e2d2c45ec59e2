"""Checkpoint headers and config -> Structure. No table of architectures: names, shapes and sizes decide."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from cuvee.checkpoint import TensorSpec
from cuvee.structure.config import EXPERTS, VOCABULARY, is_tied, numbers
from cuvee.structure.fused import fused_in, input_first_stacks, stack_axes
from cuvee.structure.layers import Layer, layer_of, stacks
from cuvee.structure.modules import Modules
from cuvee.structure.roles import Surroundings, expert_of, numbered_within, role_of, stacked_experts
from cuvee.structure.structure import Blocks, Structure, TensorPlace, Tie

_POSITIONS = re.compile(r"position|(^|\.)wpe\.|patch|token_type")


class Headers(Protocol):
    """What is looked at: no tensor is read."""

    @property
    def tensors(self) -> Mapping[str, TensorSpec]: ...

    @property
    def config(self) -> dict[str, Any]: ...


def infer(checkpoint: Headers) -> Structure:
    """Infer blocks, modules, roles, experts, fused projections and ties from headers and config."""
    tensors, config = checkpoint.tensors, checkpoint.config
    layers = {name: layer_of(name) for name in tensors}
    said = numbers(config, EXPERTS)
    experts = _experts(tensors, layers, said)
    around = Surroundings(numbers(config, VOCABULARY), _most_by_layer(tensors, layers, experts, said), said)
    modules = Modules(tensors, config)
    reversed_stacks = input_first_stacks(((_prefix(layers[s.name]), s) for s in tensors.values()), tensors)
    axes = stack_axes((spec for spec in tensors.values() if stacked_experts(spec, said)), config)
    places: dict[str, TensorPlace] = {}
    for name, spec in tensors.items():
        layer, module = layers[name], modules.of(name)
        role = role_of(spec, layer, experts[name], around)
        stacked = stacked_experts(spec, said)
        in_reversed = role == "linear" and _prefix(layer) in reversed_stacks
        reverse = axes[name] is True if stacked else in_reversed
        holds_parts = role in ("linear", "bias")
        fused = fused_in(spec, module, config, tensors, reverse) if holds_parts else None
        index = layer.index if layer else None
        told = axes.get(name, reverse) is not None
        places[name] = TensorPlace(
            name, role, module, _prefix(layer), index, experts[name], stacked, fused, reverse, axes_known=told
        )
    return Structure(places, _blocks(places, around), _ties(places, tensors, config, around.vocabularies))


def _prefix(layer: Layer | None) -> str | None:
    return layer.prefix if layer else None


def _experts(
    tensors: Mapping[str, TensorSpec], layers: Mapping[str, Layer | None], said: frozenset[int]
) -> dict[str, int | None]:
    """Return each tensor's expert. A numbered list within a layer is one of experts by its word or its length."""
    lists: dict[tuple[str, int, str], set[int]] = {}
    for layer in layers.values():
        if layer is not None and (listed := numbered_within(layer)) is not None:
            lists.setdefault((layer.prefix, layer.index, listed[0]), set()).add(listed[1])
    counts: dict[tuple[str, int], dict[str, int]] = {}
    for (prefix, index, word), found in lists.items():
        counts.setdefault((prefix, index), {})[word] = len(found)
    return {
        name: expert_of(layer, said, counts.get((layer.prefix, layer.index), {})) if layer else None
        for name, layer in layers.items()
    } | {name: None for name in tensors if layers[name] is None}


def _most_by_layer(
    tensors: Mapping[str, TensorSpec],
    layers: Mapping[str, Layer | None],
    experts: Mapping[str, int | None],
    said: frozenset[int],
) -> dict[tuple[str, int], int]:
    """Return how many experts each layer has, named or stacked."""
    most: dict[tuple[str, int], int] = {}
    for name, spec in tensors.items():
        layer, index = layers[name], experts[name]
        count = stacked_experts(spec, said) or (index + 1 if index is not None else 0)
        if layer is not None and count:
            at = (layer.prefix, layer.index)
            most[at] = max(most.get(at, 0), count)
    return most


def _blocks(places: Mapping[str, TensorPlace], around: Surroundings) -> tuple[Blocks, ...]:
    """List the stacks: runs of at least two layers numbered without a gap, or a single one whose layer has parts."""
    indices: dict[str, set[int]] = {}
    for place in places.values():
        if place.stack is not None and place.layer is not None:
            indices.setdefault(place.stack, set()).add(place.layer)
    experts: Counter[str] = Counter()
    for (prefix, _), count in around.experts.items():
        experts[prefix] = max(experts[prefix], count)
    module = {place.stack: place.module for place in places.values()}
    return tuple(
        Blocks(stack.prefix, module[stack.prefix], stack.depth, stack.tensors, experts[stack.prefix])
        for stack in stacks(places)
        if len(indices[stack.prefix]) == stack.depth and stack.tensors > 2 * stack.depth
    )


def _ties(
    places: Mapping[str, TensorPlace],
    tensors: Mapping[str, TensorSpec],
    config: Mapping[str, Any],
    vocabularies: frozenset[int],
) -> tuple[Tie, ...]:
    """Pair the token embedding with the head of equal shape, and say whether they are one matrix."""
    by_token = [place for name, place in places.items() if _has_a_row_a_token(name, tensors, vocabularies)]
    embeddings = [place.name for place in by_token if place.role == "embedding"]
    heads = [place.name for place in by_token if place.role == "head"]
    said = is_tied(config)
    found = []
    for embedding in embeddings[:1]:
        alike = [head for head in heads if tensors[head].shape == tensors[embedding].shape]
        if alike:
            found.append(Tie(embedding, alike[0], "stored twice" if said else "separate"))
        else:
            found.append(Tie(embedding, None, "tied" if said else "no head"))
    return tuple(found)


def _has_a_row_a_token(name: str, tensors: Mapping[str, TensorSpec], vocabularies: frozenset[int]) -> bool:
    """Say whether a matrix may be a token embedding or head. Without a vocabulary size, the largest ones may."""
    shape = tensors[name].shape
    if len(shape) != 2 or _POSITIONS.search(name):
        return False
    return not vocabularies or any(shape[0] >= size for size in vocabularies)
