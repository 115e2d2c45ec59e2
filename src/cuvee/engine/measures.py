"""What is measured over the whole model before a merge: numbers that complete the plan's steps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cuvee.addition import weight_rules
from cuvee.engine.step import Norms
from cuvee.errors import MethodError
from cuvee.ops.survey import Fold, summing
from cuvee.plan import MergeStep, Plan
from cuvee.plan.modify import measures_changes, unmeasured, with_scales

Reduce = Callable[[Fold], Any]
"""Runs a fold over the blocks of all steps and returns the final state."""


def with_measured_weights(plan: Plan, reduce: Reduce) -> tuple[MergeStep, ...]:
    """Return the plan's steps, with the weights of a rule that measures the task vectors if the recipe has one."""
    chosen, merges = plan.recipe.weights, [step for step in plan.steps if step.action == "merge"]
    if chosen is None or not merges or not weight_rules()[chosen.key].measures(chosen.settings):
        return plan.steps
    squares = reduce(_squares(len(merges[0].inputs)))
    _check_finite(chosen.key, squares)
    weights = tuple(map(float, weight_rules()[chosen.key].rule(squares.tolist(), **chosen.settings)))
    return tuple(
        replace(step, settings={"weight": weights, **step.settings}) if step.action == "merge" else step
        for step in plan.steps
    )


def with_measured_scales(
    plan: Plan, steps: tuple[MergeStep, ...], measure: Callable[[Sequence[MergeStep]], Iterable[Norms]]
) -> tuple[MergeStep, ...]:
    """Return the steps with the scales of the modifiers, if one of them needs the norms of the merged changes."""
    if not measures_changes(plan.recipe.post):
        return steps
    merges = [step for step in steps if step.action == "merge"]
    places = {step.name: tensor for step, tensor in zip(steps, unmeasured(steps), strict=True)}
    tensors = [
        replace(places[step.name], models=norms.models, summed=norms.summed, merged=norms.merged)
        for step, norms in zip(merges, measure(merges), strict=True)
    ]
    _check_finite("post", np.array([[*tensor.models, tensor.merged] for tensor in tensors]))
    scaled = {step.name: step for step in with_scales(merges, tensors, plan.recipe.post)}
    return tuple(scaled.get(step.name, step) for step in steps)


def _check_finite(what: str, norms: np.ndarray) -> None:
    """One number that is not finite would spread from its tensor to all others."""
    if not np.isfinite(norms).all():
        raise MethodError(f"'{what}' measures whole models, and their numbers are not all finite")


def _squares(models: int) -> Fold:
    """Return a fold into the squared norm of each model's task vector."""
    return summing(models, lambda sums, block: block.kernels.squares(block, sums))
