"""Measurements over the whole model before a merge: numbers that complete the plan's steps."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cuvee.catalogue import weight_rules
from cuvee.engine.step import Norms
from cuvee.errors import MethodError
from cuvee.kernels import Kept
from cuvee.ops.survey import Fold, summing
from cuvee.plan import MergeStep, Plan
from cuvee.plan.modify import measures_changes, unmeasured, with_scales
from cuvee.plan.plan import merged_steps

Reduce = Callable[[Fold], Any]
"""Runs a fold over the blocks of all steps and returns the final state."""


def is_measured(plan: Plan) -> bool:
    """Say whether a recipe asks for numbers that are found in the tensors: weights, or factors of modifiers."""
    if not plan.steps:
        return False
    return _measures_weights(plan) or measures_changes(plan.recipe.post)


def measured(plan: Plan, steps: Sequence[MergeStep]) -> dict[str, Any]:
    """Return the measurements for `steps`, in plain JSON: weights by model, the modifiers' factors by tensor."""
    record: dict[str, Any] = {}
    merges = merged_steps(steps)
    if merges and _measures_weights(plan):
        weights = zip(merges[0].inputs, merges[0].settings["weight"], strict=True)
        record["weights"] = [{"model": str(plan.models[given.model]), "weight": weight} for given, weight in weights]
    if measures_changes(plan.recipe.post):
        record["factors"] = dict(_factors(merged_steps(plan.steps), merges))
    return record


def _factors(planned: Sequence[MergeStep], scaled: Sequence[MergeStep]) -> Iterator[tuple[str, float]]:
    """Yield the factor by which the modifiers scaled each tensor; a change that was scaled to nothing has none."""
    for before, after in zip(planned, scaled, strict=True):
        if before.scale:
            yield after.name, after.scale / before.scale


def _measures_weights(plan: Plan) -> bool:
    chosen = plan.recipe.weights
    return chosen is not None and weight_rules()[chosen.key].measures(chosen.settings)


def with_measured_weights(plan: Plan, reduce: Reduce) -> tuple[MergeStep, ...]:
    """Return the plan's steps, with measured weights if the recipe's rule measures the task vectors."""
    chosen, merges = plan.recipe.weights, merged_steps(plan.steps)
    if chosen is None or not merges or not _measures_weights(plan):
        return plan.steps
    squares = reduce(_squares(len(merges[0].inputs)))
    _check_finite(chosen.key, squares)
    weights = tuple(map(float, weight_rules()[chosen.key].rule(squares.tolist(), **chosen.settings)))
    return tuple(_with_weights(step, weights) for step in plan.steps)


def _with_weights(step: MergeStep, weights: tuple[float, ...]) -> MergeStep:
    if not step.is_merged:
        return step
    return replace(step, settings={"weight": weights, **step.settings})


def with_measured_scales(
    plan: Plan, steps: tuple[MergeStep, ...], measure: Callable[[Sequence[MergeStep]], Iterable[Norms]]
) -> tuple[MergeStep, ...]:
    """Return the steps with the scales of the modifiers, if any of them needs the norms of the merged changes."""
    if not measures_changes(plan.recipe.post):
        return steps
    merges = merged_steps(steps)
    names = [step.name for step in steps]
    blank = dict(zip(names, unmeasured(steps), strict=True))
    tensors = []
    for step, norms in zip(merges, measure(merges), strict=True):
        tensors.append(replace(blank[step.name], models=norms.models, summed=norms.summed, merged=norms.merged))
    _check_finite("post", np.array([[*tensor.models, tensor.merged] for tensor in tensors]))
    scaled = {step.name: step for step in with_scales(merges, tensors, plan.recipe.post)}
    return tuple(scaled.get(step.name, step) for step in steps)


def _check_finite(what: str, norms: np.ndarray) -> None:
    """Refuse a number that is not finite: it would spread from its tensor to all others."""
    if not np.isfinite(norms).all():
        raise MethodError(f"'{what}' measures whole models, and their numbers are not all finite")


def _squares(models: int) -> Fold:
    """Return a fold into the squared norm of each model's task vector."""
    return summing(models, lambda sums, block: block.kernels.squares(block, Kept(), sums))
