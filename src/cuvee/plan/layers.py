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
from cuvee.plan.draft import Draft
from cuvee.plan.names import View
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


def moved_layers(cut: StackCut, draft: Draft) -> dict[str, Any]:
    """Return how the donor's config changes with the cut, whole parts of it where it has parts.

    Notes a problem for facts that no config can state, and for layers that differ by a rule that is not known.
    """
    config = draft.sources[draft.donor].config
    if not config:
        return {}
    changes: dict[str, Any] = {}
    if cut.moves:
        stacks = _stacks(cut, draft)
        if len(stacks) < len(cut.depths):
            return {}
        changes = _rewritten(cut, stacks, draft)
    _warn_of_depth(changes, cut, draft)
    _warn_of_pictures(config, cut, draft)
    if not changes:
        return {}
    return changes if cut.part is None else {cut.part: {**cut.config_of(config), **changes}}


def without_prediction(draft: Draft) -> dict[str, Any]:
    """Return how the donor's config changes when layers that predict tokens further ahead are left out."""
    config = draft.sources[draft.donor].config
    if draft.recipe.mtp != "drop" or not config:
        return {}
    part = text_part(config)
    own = config if part is None else config[part]
    changes: dict[str, Any] = {key: 0 for key in PREDICTING if own.get(key)}
    if part is None or not changes:
        return changes
    return {part: {**own, **changes}}


def _stacks(cut: StackCut, draft: Draft) -> dict[ModelRef, _Stack]:
    """Read the layers of every model; models whose layers may not be moved are left out, and noted."""
    stacks = {}
    for model, depth in cut.depths.items():
        config = cut.config_of(draft.sources[model].config)
        try:
            stated = facts(config, depth)
        except ExpressionError as error:
            message = f"config.json does not fit its family: {error}"
            draft.problems.append(CheckpointError(message, where=str(model)))
            continue
        stack = _Stack(stated, _signatures(draft.views[model], cut, depth))
        if _may_move(model, config, stack, cut, draft):
            stacks[model] = stack
    return stacks


def _may_move(model: ModelRef, config: Mapping[str, Any], stack: _Stack, cut: StackCut, draft: Draft) -> bool:
    """Say whether the config explains all differences between a model's layers, or they may move all the same."""
    reason = _unexplained(config, stack, cut.depths[model])
    if reason is None:
        return True
    if _keeps_places(model, cut):
        draft.warnings.append(f"{model}: {reason}; its layers keep their places, check the output")
        return True
    if draft.recipe.unknown_layers == "move":
        draft.warnings.append(f"{model}: {reason}; they are moved all the same, as `unknown_layers: move` says")
        return True
    hint = "keep each layer at its place, or say `unknown_layers: move` and check what comes out"
    draft.problems.append(CheckpointError(f"slices move layers, but {reason}", where=str(model), hint=hint))
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


def _rewritten(cut: StackCut, stacks: Mapping[ModelRef, _Stack], draft: Draft) -> dict[str, Any]:
    """Return the changes after which the donor's config states of each layer the facts of its source."""
    config = cut.config_of(draft.sources[draft.donor].config)
    if _note_mixed_kinds(cut, stacks, draft):
        return {}
    wanted = _wanted(cut, stacks, draft)
    if wanted is None:
        return {}
    depth, layers = cut.depths[draft.donor], len(cut.layers)
    try:
        changes = rewritten(config, depth, wanted, layers)
        _check_references(cut, stacks, facts({**config, **changes}, layers), draft)
        for key in stale(config, changes, layers):
            message = f"config.json lists the kinds of layers; a program that reads only '{key}: {config[key]}'"
            draft.warnings.append(f"{message} would take other ones")
    except (UnwritableError, ExpressionError) as error:
        message = f"slices move layers that differ, and the config of {draft.donor} cannot say so: {error}"
        hint = "take whole periods of layers in their order, and the layers that come first only there"
        draft.problems.append(RecipeError(message, where=draft.recipe.source, hint=hint))
        return {}
    return changes


def _note_mixed_kinds(cut: StackCut, stacks: Mapping[ModelRef, _Stack], draft: Draft) -> bool:
    """Note the layers that are merged of layers of different kinds; return whether there are any."""
    mixed = list(_mixed_kinds(cut, stacks))
    for message in mixed[:MOST_SHOWN]:
        hint = "name layers of one kind in each slice"
        draft.problems.append(RecipeError(message, where=draft.recipe.source, hint=hint))
    return bool(mixed)


def _mixed_kinds(cut: StackCut, stacks: Mapping[ModelRef, _Stack]) -> Iterator[str]:
    for layers in cut.layers:
        (first, layer), *others = layers
        own = stacks[first].facts.of(layer)
        for model, other in others:
            theirs = stacks[model].facts.of(other)
            pair = f"layer {layer} of {first} is merged with layer {other} of {model}"
            for fact in own:
                if fact in theirs and own[fact] != theirs[fact]:
                    yield f"{pair}, but '{fact}' is {own[fact]} there and {theirs[fact]} here"


def _wanted(cut: StackCut, stacks: Mapping[ModelRef, _Stack], draft: Draft) -> dict[str, list[Any]] | None:
    """Return the facts of each layer of the output: those of its first source. None with a problem, which is noted."""
    own = stacks[draft.donor].facts.values
    wanted: dict[str, list[Any]] = {fact: [] for fact in own}
    for layers in cut.layers:
        model, layer = layers[0]
        theirs = stacks[model].facts.values
        for fact in dict.fromkeys([*own, *theirs]):
            if fact in own and fact in theirs:
                wanted[fact].append(theirs[fact][layer])
                continue
            # A fact that only one config states must be the same for all its layers.
            having, lacking = (model, draft.donor) if fact in theirs else (draft.donor, model)
            values = stacks[having].facts.values[fact]
            if any(value != values[0] for value in values):
                message = f"layers of {having} differ in '{fact}', of which the config of {lacking} says nothing"
                hint = "stack models of one family"
                draft.problems.append(RecipeError(message, where=draft.recipe.source, hint=hint))
                return None
            wanted.setdefault(fact, []).append(values[0])
    return wanted


def _check_references(cut: StackCut, stacks: Mapping[ModelRef, _Stack], output: Facts, draft: Draft) -> None:
    """Note layers that would use another layer's numbers than in their model."""
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
            draft.problems.append(RecipeError(message, where=draft.recipe.source, hint=hint))
            return


def _layer(layer: tuple[ModelRef, int]) -> str:
    return f"layer {layer[1]} of {layer[0]}"


def _warn_of_depth(changes: Mapping[str, Any], cut: StackCut, draft: Draft) -> None:
    if not cut.moves or draft.problems:
        return
    config = cut.config_of(draft.sources[draft.donor].config)
    counts = {*DEPTH_KEYS, *family_of(config).counts}
    if counts.isdisjoint(changes):
        draft.warnings.append(f"config.json has no layer count of {cut.depths[draft.donor]} to change; check it")


def _warn_of_pictures(config: Mapping[str, Any], cut: StackCut, draft: Draft) -> None:
    """Say that pictures enter a model by place (deepstack), where other layers come there."""
    vision = config.get("vision_config")
    indexes = vision.get("deepstack_visual_indexes") if isinstance(vision, Mapping) else None
    if not isinstance(indexes, list):
        return
    count = len(indexes)
    for place, layers in enumerate(cut.layers[:count]):
        if layers[0][1] != place:
            message = f"what is seen in pictures enters behind the first {count} layers (deepstack_visual_indexes)"
            draft.warnings.append(f"{message}, and layer {place} is another one now")
            return
