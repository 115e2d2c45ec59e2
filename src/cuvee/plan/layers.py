"""The facts that a config states of layers follow them when slices move them, or the recipe is refused.

Each layer of the output must be as its source is: with attention over a window or over all, with experts or without,
recurrent or not. `cuvee.structure.layer_rules` reads these facts from configs. Here they are read for every model,
held against the tensors of each layer, and rewritten for the layers of the output.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cuvee.errors import CheckpointError, RecipeError
from cuvee.plan.cut import StackCut
from cuvee.plan.materials import Materials
from cuvee.plan.names import View
from cuvee.plan.remarks import PlanWarning, Remarks
from cuvee.recipe.reference import ModelRef
from cuvee.structure import layer_of, text_part
from cuvee.structure.expression import ExpressionError
from cuvee.structure.layer_rules import (
    DEPTH_KEYS,
    Facts,
    UnwritableError,
    facts,
    family_of,
    rewritten,
    stale,
    unexplained,
)

MOST_SHOWN = 3
"""Problems of the same kind; the others follow from the same cause."""

PREDICTING = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "mtp_num_layers")
"""Keys of a config that count the layers that predict tokens further ahead."""

Signature = frozenset[tuple[str, tuple[int, ...]]]
"""The names within a layer, with their shapes."""


@dataclass(frozen=True)
class _Stack:
    """A model's layers: the facts that its config states of each, and the tensors of each."""

    facts: Facts
    signatures: tuple[Signature, ...]


def moved_layers(cut: StackCut, materials: Materials) -> Remarks[dict[str, Any] | None]:
    """Return how the part of the donor's config that speaks of the cut stack changes with the cut.

    Yields a problem for facts that no config can state, and for layers that differ by a rule that is not known. Returns
    None for a donor without a config, and for models whose layers may not be moved.
    """
    if not materials.config:
        return None
    if not cut.moves:
        return {}
    stacks = yield from _stacks(cut, materials)
    if len(stacks) < len(cut.depths):
        return None
    return (yield from _rewritten(cut, stacks, materials))


def in_whole_config(changes: Mapping[str, Any], cut: StackCut, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes of the part that speaks of the stack as changes of the config."""
    if not changes or cut.part is None:
        return dict(changes)
    return {cut.part: {**cut.config_of(config), **changes}}


def without_prediction(materials: Materials) -> dict[str, Any]:
    """Return how the donor's config changes when layers that predict tokens further ahead are left out."""
    config = materials.config
    if materials.recipe.mtp != "drop" or not config:
        return {}
    part = text_part(config)
    own = config if part is None else config[part]
    changes: dict[str, Any] = {key: 0 for key in PREDICTING if own.get(key)}
    if part is None or not changes:
        return changes
    return {part: {**own, **changes}}


def _stacks(cut: StackCut, materials: Materials) -> Remarks[dict[ModelRef, _Stack]]:
    """Read the layers of every model; models whose layers may not be moved are left out, with a problem."""
    stacks = {}
    for model, depth in cut.depths.items():
        config = cut.config_of(materials.sources[model].config)
        try:
            stated = facts(config, depth)
        except ExpressionError as error:
            message = f"config.json does not fit its family: {error}"
            yield CheckpointError(message, where=str(model))
            continue
        stack = _Stack(stated, _signatures(materials.views[model], cut, depth))
        may_move = yield from _may_move(model, config, stack, cut, materials)
        if may_move:
            stacks[model] = stack
    return stacks


def _may_move(
    model: ModelRef, config: Mapping[str, Any], stack: _Stack, cut: StackCut, materials: Materials
) -> Remarks[bool]:
    """Say whether the config explains all differences between a model's layers, or they may move all the same."""
    reason = _unexplained(config, stack, cut.depths[model])
    if reason is None:
        return True
    if _keeps_places(model, cut):
        yield PlanWarning(f"{model}: {reason}; its layers keep their places, check the output")
        return True
    if materials.recipe.unknown_layers == "move":
        yield PlanWarning(f"{model}: {reason}; they are moved all the same, as `unknown_layers: move` says")
        return True
    hint = "keep each layer at its place, or say `unknown_layers: move` and check what comes out"
    yield CheckpointError(f"slices move layers, but {reason}", where=str(model), hint=hint)
    return False


def _unexplained(config: Mapping[str, Any], stack: _Stack, depth: int) -> str | None:
    """Say which facts of a model's layers are not understood; None if all are."""
    family = config.get("model_type") or "of no model_type"
    unlike = _unlike(stack)
    if unlike is not None:
        return f"{unlike}, and no rule of the family '{family}' says why"
    if family_of(config).is_known:
        return None
    stated = [f"{key}: {value}" for key, value in unexplained(config, depth).items()]
    if not stated:
        return None
    listed = ", ".join(stated[:MOST_SHOWN])
    return f"its config.json says {listed} of layers, and the family '{family}' is not known"


def _keeps_places(model: ModelRef, cut: StackCut) -> bool:
    for index, layers in enumerate(cut.layers):
        own = {layer for source, layer in layers if source == model}
        if not own <= {index}:
            return False
    return True


def _unlike(stack: _Stack) -> str | None:
    """Name two layers that have other tensors though the config states the same of them; None if there are none."""
    stated = [stack.facts.of(layer) for layer in range(len(stack.signatures))]
    firsts: list[int] = []
    for layer, signature in enumerate(stack.signatures):
        first = next((other for other in firsts if stated[other] == stated[layer]), None)
        if first is None:
            firsts.append(layer)
        elif stack.signatures[first] != signature:
            name, shape = min(stack.signatures[first] ^ signature)
            owner = first if (name, shape) in stack.signatures[first] else layer
            return f"layers {first} and {layer} differ ('{name}' of shape {list(shape)} is in {owner} only)"
    return None


def _signatures(view: View, cut: StackCut, depth: int) -> tuple[Signature, ...]:
    tensors: list[set[tuple[str, tuple[int, ...]]]] = [set() for _ in range(depth)]
    for name in view.called:
        layer = layer_of(name)
        if layer is None or layer.prefix != cut.prefix:
            continue
        if layer.index < depth:
            tensors[layer.index].add((layer.rest, view.spec(name).shape))
    return tuple(map(frozenset, tensors))


def _rewritten(cut: StackCut, stacks: Mapping[ModelRef, _Stack], materials: Materials) -> Remarks[dict[str, Any]]:
    """Return the changes after which the donor's config states of each layer the facts of its source."""
    config = cut.config_of(materials.config)
    mixed = list(_mixed_kinds(cut, stacks))
    for message in mixed[:MOST_SHOWN]:
        hint = "name layers of one kind in each slice"
        yield RecipeError(message, where=materials.recipe.source, hint=hint)
    if mixed:
        return {}
    wanted = yield from _wanted(cut, stacks, materials)
    if wanted is None:
        return {}
    depth, layers = cut.depths[materials.donor], len(cut.layers)
    try:
        changes = rewritten(config, depth, wanted, layers)
        yield from _changed_references(cut, stacks, facts({**config, **changes}, layers), materials)
        for key in stale(config, changes, layers):
            message = f"config.json lists the kinds of layers; a program that reads only '{key}: {config[key]}'"
            yield PlanWarning(f"{message} would take other ones")
    except (UnwritableError, ExpressionError) as error:
        message = f"slices move layers that differ, and the config of {materials.donor} cannot say so: {error}"
        hint = "take whole periods of layers in their order, and the layers that come first only there"
        yield RecipeError(message, where=materials.recipe.source, hint=hint)
        return {}
    return changes


def _mixed_kinds(cut: StackCut, stacks: Mapping[ModelRef, _Stack]) -> Iterator[str]:
    """Yield the layers of the output that are merged of layers of different kinds."""
    for layers in cut.layers:
        (first, layer), *others = layers
        own = stacks[first].facts.of(layer)
        for model, other in others:
            theirs = stacks[model].facts.of(other)
            pair = f"layer {layer} of {first} is merged with layer {other} of {model}"
            for fact in own:
                if fact in theirs and own[fact] != theirs[fact]:
                    yield f"{pair}, but '{fact}' is {own[fact]} there and {theirs[fact]} here"


def _wanted(
    cut: StackCut, stacks: Mapping[ModelRef, _Stack], materials: Materials
) -> Remarks[dict[str, list[Any]] | None]:
    """Return the facts of each layer of the output: those of its first source. None with a problem."""
    own = stacks[materials.donor].facts.values
    wanted: dict[str, list[Any]] = {fact: [] for fact in own}
    for layers in cut.layers:
        model, layer = layers[0]
        theirs = stacks[model].facts.values
        for fact in dict.fromkeys([*own, *theirs]):
            if fact in own and fact in theirs:
                wanted[fact].append(theirs[fact][layer])
                continue
            # A fact that only one config states must be the same for all its layers.
            having, lacking = (model, materials.donor) if fact in theirs else (materials.donor, model)
            values = stacks[having].facts.values[fact]
            if any(value != values[0] for value in values):
                message = f"layers of {having} differ in '{fact}', of which the config of {lacking} says nothing"
                hint = "stack models of one family"
                yield RecipeError(message, where=materials.recipe.source, hint=hint)
                return None
            wanted.setdefault(fact, []).append(values[0])
    return wanted


def _changed_references(
    cut: StackCut, stacks: Mapping[ModelRef, _Stack], output: Facts, materials: Materials
) -> Iterator[RecipeError]:
    """Yield the first layer that would use another layer's numbers than in its model."""
    for fact in output.refers:
        for place, layers in enumerate(cut.layers):
            model, layer = layers[0]
            before = (model, stacks[model].facts.values[fact][layer])
            after = output.values[fact][place]
            if after is not None and cut.layers[after][0] == before:
                continue
            now = "no layer" if after is None else f"layer {after}, which is {_layer(cut.layers[after][0])}"
            message = f"layer {layer} of {model} uses the {fact} {before[1]}; at place {place} it would use {now}"
            hint = "take the layers that share, and those that they use, together and last"
            yield RecipeError(message, where=materials.recipe.source, hint=hint)
            return


def _layer(layer: tuple[ModelRef, int]) -> str:
    return f"layer {layer[1]} of {layer[0]}"


def unstated_depth(changes: Mapping[str, Any], cut: StackCut, materials: Materials) -> Iterator[PlanWarning]:
    """Yield that no count of layers changes in the config, though the cut moves layers."""
    if not cut.moves:
        return
    config = cut.config_of(materials.config)
    counts = {*DEPTH_KEYS, *family_of(config).counts}
    if counts.isdisjoint(changes):
        yield PlanWarning(f"config.json has no layer count of {cut.depths[materials.donor]} to change; check it")


def moved_pictures(cut: StackCut, materials: Materials) -> Iterator[PlanWarning]:
    """Yield that pictures enter a model by place (deepstack), where other layers come there."""
    vision = materials.config.get("vision_config")
    indexes = vision.get("deepstack_visual_indexes") if isinstance(vision, Mapping) else None
    if not isinstance(indexes, list):
        return
    count = len(indexes)
    for place, layers in enumerate(cut.layers[:count]):
        if layers[0][1] != place:
            message = f"what is seen in pictures enters behind the first {count} layers (deepstack_visual_indexes)"
            yield PlanWarning(f"{message}, and layer {place} is another one now")
            return
