"""Applies a recipe's modifiers: they turn into the steps' scales, at once or after a measurement."""

from collections.abc import Sequence
from dataclasses import replace

from cuvee.addition import MergedTensor
from cuvee.catalogue import modifiers
from cuvee.plan.plan import MergeStep
from cuvee.recipe.recipe import Chosen
from cuvee.structure import layer_of, stacks


def measures_changes(post: Sequence[Chosen]) -> bool:
    """Say whether any of the modifiers needs the norms of the merged change."""
    return any(modifiers()[chosen.key].measures(chosen.settings) for chosen in post)


def misplaced(post: Sequence[Chosen]) -> str | None:
    """Say that a modifier of matrices comes too late, if any does; return None for a right order.

    Modifiers of matrices come first: the others then see the change that these have made.
    """
    scaling = None
    late = None
    for chosen in post:
        if modifiers()[chosen.key].work is None:
            scaling = scaling or chosen.key
        elif scaling is not None:
            late = chosen.key
    if late is None:
        return None
    return f"'{late}' works on matrices, so it comes before '{scaling}', which scales what comes out"


def unmeasured(steps: Sequence[MergeStep]) -> list[MergedTensor]:
    """Return each step's tensor with its depth only, for modifiers that need no measurement."""
    depths = {stack.prefix: stack.depth for stack in stacks(step.name for step in steps)}
    tensors = []
    for step in steps:
        layer = layer_of(step.name)
        depth = 0.0
        if layer is not None and depths[layer.prefix] > 1:
            depth = layer.index / (depths[layer.prefix] - 1)
        tensors.append(MergedTensor(depth))
    return tensors


def with_scales(steps: Sequence[MergeStep], tensors: Sequence[MergedTensor], post: Sequence[Chosen]) -> list[MergeStep]:
    """Multiply the scales of steps by the factors that the modifiers, in turn, give the merged tensors.

    Each modifier sees the change as the modifiers before it have left it, and none sees lambda.
    """
    scales = [1.0] * len(steps)
    for chosen in post:
        modifier = modifiers()[chosen.key]
        if modifier.work is not None:
            continue  # part of the merge itself
        scaled = [tensor.scaled(scale) for tensor, scale in zip(tensors, scales, strict=True)]
        factors = modifier.rule(scaled, **chosen.settings)
        scales = [scale * float(factor) for scale, factor in zip(scales, factors, strict=True)]
    scaled_steps = []
    for step, scale in zip(steps, scales, strict=True):
        if step.action == "merge":
            step = replace(step, scale=step.scale * scale)
        scaled_steps.append(step)
    return scaled_steps
