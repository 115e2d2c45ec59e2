"""What a config says of layers follows them when slices move them, or the recipe is refused.

Each layer of the output must be what its source is: attention over a window or over all, with experts or without,
recurrent or not. `cuvee.structure.layer_rules` knows what configs say of that. Here it is asked for every model, held
against the tensors of each layer, and rewritten for the layers of the output.
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
"""Problems of one kind; the others follow from the same cause."""

PREDICTING = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "mtp_num_layers")
"""Keys of a config that count the layers that predict tokens further ahead."""

Signature = frozenset[tuple[str, tuple[int, ...]]]
"""The names within a layer, with their shapes."""


@dataclass(frozen=True)
class _Stack:
    """One model's layers: what its config says of each, and the tensors of each."""

    facts: Facts
    signatures: tuple[Signature, ...]


def moved_layers(cut: StackCut, draft: Draft) -> dict[str, Any]:
    """Return how the donor's config changes with the cut, whole parts of it where it has parts.

    Notes a problem for what no config can say, and for layers that differ by a rule that is not known.
    """
    config = draft.sources[draft.donor].config
    if not config:
        return {}
    changes: dict[str, Any] = {}
    if cut.moves:
        stacks = {model: stack for model in cut.depths if (stack := _stack(model, cut, draft)) is not None}
        if len(stacks) < len(cut.depths):
            return {}
        changes = _rewritten(cut, stacks, draft)
    _warn_of_depth(changes, cut, draft)
    _warn_of_pictures(config, cut, draft)
    if not changes:
        return {}
    return changes if cut.part is None else {cut.part: {**cut.config_of(config), **changes}}


def without_prediction(draft: Draft) -> dict[str, Any]:
    """Return how the donor's config changes when what predicts tokens further ahead is left out."""
    config = draft.sources[draft.donor].config
    if draft.recipe.mtp != "drop" or not config:
        return {}
    part = text_part(config)
    own = config if part is None else config[part]
    changes: dict[str, Any] = {key: 0 for key in PREDICTING if own.get(key)}
    return changes if part is None or not changes else {part: {**own, **changes}}


def _stack(model: ModelRef, cut: StackCut, draft: Draft) -> _Stack | None:
    """Read what is known of a model's layers; None where it cannot be, or its layers may not be moved: it is noted."""
    config = cut.config_of(draft.sources[model].config)
    depth = cut.depths[model]
    try:
        known = facts(config, depth)
    except ExpressionError as error:
        draft.problems.append(CheckpointError(f"config.json does not fit its family: {error}", where=str(model)))
        return None
    stack = _Stack(known, _signatures(draft.views[model], cut, depth))
    return stack if _may_move(model, config, stack, cut, draft) else None


def _may_move(model: ModelRef, config: Mapping[str, Any], stack: _Stack, cut: StackCut, draft: Draft) -> bool:
    """Say whether all that differs between a model's layers is known; note what is not."""
    family = config.get("model_type") or "of no model_type"
    unlike = _unlike(stack)
    if unlike is None and family_of(config).is_known:
        return True
    strange = unexplained(config, cut.depths[model])
    if unlike is not None:
        reason = f"{unlike}, and no rule of the family '{family}' says why"
    elif strange:
        listed = ", ".join(f"{key}: {value}" for key, value in list(strange.items())[:MOST_SHOWN])
        reason = f"its config.json says {listed} of layers, and the family '{family}' is not known"
    else:
        return True
    places = [(place, layer) for place, layers in enumerate(cut.layers) for m, layer in layers if m == model]
    if all(place == layer for place, layer in places):
        draft.warnings.append(f"{model}: {reason}; its layers keep their places, check the output")
        return True
    if draft.recipe.unknown_layers == "move":
        draft.warnings.append(f"{model}: {reason}; they are moved all the same, as `unknown_layers: move` says")
        return True
    hint = "keep each layer at its place, or say `unknown_layers: move` and check what comes out"
    draft.problems.append(CheckpointError(f"slices move layers, but {reason}", where=str(model), hint=hint))
    return False


def _unlike(stack: _Stack) -> str | None:
    """Say which two layers have other tensors though the config says the same of them; None if there are none."""
    seen: list[tuple[dict[str, Any], int]] = []
    for layer, signature in enumerate(stack.signatures):
        said = stack.facts.of(layer)
        first = next((other for known, other in seen if known == said), None)
        if first is None:
            seen.append((said, layer))
        elif stack.signatures[first] != signature:
            name, shape = min(stack.signatures[first] ^ signature)
            owner = first if (name, shape) in stack.signatures[first] else layer
            return f"layers {first} and {layer} differ ('{name}' of shape {list(shape)} is in {owner} only)"
    return None


def _signatures(view: View, cut: StackCut, depth: int) -> tuple[Signature, ...]:
    tensors: list[set[tuple[str, tuple[int, ...]]]] = [set() for _ in range(depth)]
    for name in view.called:
        layer = layer_of(name)
        if layer is not None and layer.prefix == cut.prefix and layer.index < depth:
            tensors[layer.index].add((layer.rest, view.spec(name).shape))
    return tuple(map(frozenset, tensors))


def _rewritten(cut: StackCut, stacks: Mapping[ModelRef, _Stack], draft: Draft) -> dict[str, Any]:
    """Say of the output's layers what their sources' configs say of them."""
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
        said = stacks[first].facts.of(layer)
        for model, other in others:
            theirs = stacks[model].facts.of(other)
            for fact in said:
                if fact in theirs and said[fact] != theirs[fact]:
                    yield (
                        f"layer {layer} of {first} is merged with layer {other} of {model}, "
                        f"but '{fact}' is {said[fact]} there and {theirs[fact]} here"
                    )


def _wanted(cut: StackCut, stacks: Mapping[ModelRef, _Stack], draft: Draft) -> dict[str, list[Any]] | None:
    """Return what must be said of each layer of the output: what the first source's config says of it."""
    own = stacks[draft.donor].facts.values
    wanted: dict[str, list[Any]] = {fact: [] for fact in own}
    for layers in cut.layers:
        model, layer = layers[0]
        theirs = stacks[model].facts.values
        for fact in dict.fromkeys([*own, *theirs]):
            lacking, having = (draft.donor, model) if fact in theirs else (model, draft.donor)
            values = own[fact] if fact not in theirs else theirs[fact]
            if fact in own and fact in theirs:
                wanted[fact].append(values[layer])
            elif all(value == values[0] for value in values):
                wanted.setdefault(fact, []).append(values[0])
            else:
                message = f"layers of {having} differ in '{fact}', of which the config of {lacking} says nothing"
                draft.problems.append(
                    RecipeError(message, where=draft.recipe.source, hint="stack models of one family")
                )
                return None
    return wanted


def _check_references(cut: StackCut, stacks: Mapping[ModelRef, _Stack], said: Facts, draft: Draft) -> None:
    """Note layers that would use another layer's numbers than in their model."""
    for fact in said.refers:
        for place, layers in enumerate(cut.layers):
            model, layer = layers[0]
            before = (model, stacks[model].facts.values[fact][layer])
            after = said.values[fact][place]
            if after is None or cut.layers[after][0] != before:
                now = "no layer" if after is None else f"layer {after}, which is {_layer(cut.layers[after][0])}"
                message = f"layer {layer} of {model} uses the {fact} {before[1]}; at place {place} it would use {now}"
                hint = "take the layers that share, and those that they use, together and last"
                draft.problems.append(RecipeError(message, where=draft.recipe.source, hint=hint))
                return


def _layer(layer: tuple[ModelRef, int]) -> str:
    return f"layer {layer[1]} of {layer[0]}"


def _warn_of_depth(changes: Mapping[str, Any], cut: StackCut, draft: Draft) -> None:
    config = cut.config_of(draft.sources[draft.donor].config)
    family = family_of(config)
    counted = any(key in changes for key in (*DEPTH_KEYS, *family.counts))
    if cut.moves and not counted and not draft.problems:
        draft.warnings.append(f"config.json has no layer count of {cut.depths[draft.donor]} to change; check it")


def _warn_of_pictures(config: Mapping[str, Any], cut: StackCut, draft: Draft) -> None:
    """Say that pictures enter a model by place (deepstack), where other layers come there."""
    seeing = config.get("vision_config")
    entering = seeing.get("deepstack_visual_indexes") if isinstance(seeing, Mapping) else None
    count = len(entering) if isinstance(entering, list) else 0
    moved = [place for place, layers in enumerate(cut.layers[:count]) if layers[0][1] != place]
    if moved:
        message = f"what is seen in pictures enters behind the first {count} layers (deepstack_visual_indexes)"
        draft.warnings.append(f"{message}, and layer {moved[0]} is another one now")
