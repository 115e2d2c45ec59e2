"""Applies a recipe's modifiers: they turn into the steps' scales, at once or after a measurement."""

from collections.abc import Sequence
from dataclasses import replace

from cuvee.addition import MergedTensor, modifiers
from cuvee.plan.plan import MergeStep
from cuvee.recipe.recipe import Chosen
from cuvee.structure import layer_of, stacks


def measures_changes(post: Sequence[Chosen]) -> bool:
    """Say whether any of the modifiers needs the norms of the merged change."""
    return any(modifiers()[chosen.key].measures(chosen.settings) for chosen in post)


def misplaced(post: Sequence[Chosen]) -> str | None:
    """Say what is wrong with the order of the modifiers, if something is.

    Those that work on matrices come first: the others then see what these have made of the change.
    """
    works = [modifiers()[chosen.key].work is not None for chosen in post]
    if sorted(works, reverse=True) == works:
        return None
    first = next(chosen.key for chosen, on in zip(post, works, strict=True) if not on)
    late = [chosen.key for chosen, on in zip(post, works, strict=True) if on][-1]
    return f"'{late}' works on matrices, so it comes before '{first}', which scales what comes out"


def unmeasured(steps: Sequence[MergeStep]) -> list[MergedTensor]:
    """Return what modifiers know without a measurement, for each step."""
    depths = {stack.prefix: stack.depth for stack in stacks(step.name for step in steps)}
    result = []
    for step in steps:
        layer = layer_of(step.name)
        last = depths[layer.prefix] - 1 if layer else 0
        result.append(MergedTensor(layer.index / last if layer and last else 0.0))
    return result


def with_scales(steps: Sequence[MergeStep], tensors: Sequence[MergedTensor], post: Sequence[Chosen]) -> list[MergeStep]:
    """Return the steps with their scales multiplied by what the modifiers, one after another, make of the tensors.

    Each modifier sees the change as the ones before it have left it, and none sees lambda.
    """
    scales = [1.0] * len(steps)
    for chosen in post:
        if modifiers()[chosen.key].work is not None:
            continue  # part of the merge itself
        seen = [tensor.scaled(scale) for tensor, scale in zip(tensors, scales, strict=True)]
        factors = modifiers()[chosen.key].rule(seen, **chosen.settings)
        scales = [scale * float(factor) for scale, factor in zip(scales, factors, strict=True)]
    return [
        replace(step, scale=step.scale * scale) if step.action == "merge" else step
        for step, scale in zip(steps, scales, strict=True)
    ]
