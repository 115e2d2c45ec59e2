"""Which tensors are matrices to a matrix method or modifier, how they are cut, and what that takes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cuvee.addition import modifiers
from cuvee.errors import RecipeError
from cuvee.method import EMBEDDINGS, FALLBACK, Method
from cuvee.ops.cut import Cut
from cuvee.ops.work import Work
from cuvee.plan.plan import MergeStep, Plan
from cuvee.recipe.recipe import Chosen
from cuvee.structure import TensorPlace


def as_matrices(
    step: MergeStep, method: Method, post: Sequence[Chosen], place: TensorPlace, *, has_inputs: bool = True
) -> MergeStep:
    """Return a step that is done on whole matrices if its tensor is one, by what it is for; else by the fallback.

    `has_inputs` says whether there are the statistics of the models' inputs that the method takes.
    Raises ValueError for a fallback that its weights do not allow.
    """
    asked = bool(step.settings.get(EMBEDDINGS.name))
    cut = cut_of(place, step.shape, include_embeddings=asked)
    return cut_up(step, method, post, cut, has_inputs=has_inputs)


def cut_up(
    step: MergeStep, method: Method, post: Sequence[Chosen], cut: Cut | None, *, has_inputs: bool = True
) -> MergeStep:
    """Return the step done on the matrices of `cut`; of a matrix method, without any or its inputs, by its fallback."""
    if method.kind != "matrix":
        return with_matrices(step, method, post, cut) if cut is not None and any(map(on_matrices, post)) else step
    if cut is not None and has_inputs:
        own = {name: value for name, value in step.settings.items() if name in method.own_settings}
        return with_matrices(replace(step, settings=own), method, post, cut)
    told = {name: value for name, value in step.settings.items() if name in (FALLBACK.name, "weight")}
    if step.base is None and told[FALLBACK.name] != "mean":
        raise ValueError(f"'fallback: {told[FALLBACK.name]}' is about changes from a base_model, and there is none")
    fallback_factors(told, len(step.inputs))
    return replace(step, settings=told)


def with_matrices(step: MergeStep, method: Method, post: Sequence[Chosen], cut: Cut) -> MergeStep:
    """Return the step with its cut, the memory that whole matrices take, and the pass in which they are read."""
    cut_step = replace(step, cut=cut, whole=True, surveying=step.surveying + 1)
    return replace(cut_step, holds=step.holds + held_bytes(cut_step, method, post))


def on_matrices(chosen: Chosen) -> bool:
    """Say whether a modifier works on whole matrices."""
    return modifiers()[chosen.key].work is not None


def cut_of(place: TensorPlace, shape: tuple[int, ...], *, include_embeddings: bool = False) -> Cut | None:
    """Return how a tensor is cut into matrices, None if it is none: those of role linear, others only if asked for.

    Projections that are fused head by head stay together.
    """
    roles = ("linear", "embedding", "head") if include_embeddings else ("linear",)
    if place.role not in roles or len(shape) != (2 if place.experts is None else 3) or 0 in shape:
        return None
    sizes = place.fused.sizes if place.fused is not None and place.fused.sizes is not None else ()
    outputs = shape[-1] if place.input_first else shape[-2]
    return Cut(place.experts, sizes if sum(sizes) == outputs else (), place.input_first)


def fallback_factors(settings: Mapping[str, Any], models: int) -> np.ndarray:
    """Return the factors [models] of task vectors that are no matrices. Raises ValueError for weights without a mean.

    `fallback` says which; without weights all models count the same.
    """
    weights = np.broadcast_to(np.asarray(settings.get("weight", 1.0), np.float64), (models,))
    if settings[FALLBACK.name] == "base":
        return np.zeros(models)
    if settings[FALLBACK.name] == "sum":
        return weights
    if weights.sum() == 0:
        raise ValueError("the weights sum to zero, so tensors that are no matrices have no mean; 'fallback: sum' adds")
    mean: np.ndarray = weights / weights.sum()
    return mean


def works_of(step: MergeStep, method: Method, post: Sequence[Chosen]) -> list[Work]:
    """Return the work of each matrix of a step."""
    if step.cut is None:
        return []
    kinds = [method.work, *(modifiers()[chosen.key].work for chosen in post)]
    works = []
    for out, size in step.cut.shapes(step.shape):
        total = Work(0.0, (), 2 * out * size)
        for kind in kinds:
            total = total + kind(len(step.inputs), out, size) if kind is not None else total
        works.append(total)
    return works


def held_bytes(step: MergeStep, method: Method, post: Sequence[Chosen]) -> int:
    """Return the bytes that whole matrices take: task vectors and result of the tensor, the work of the largest."""
    width = 8 if any(given.dtype == "F64" for given in step.all_inputs) else 4
    largest = max((work.held for work in works_of(step, method, post)), default=0)
    return (len(step.inputs) + 1) * step.elements * width + 8 * largest


def on_device(plan: Plan, device: str) -> Plan:
    """Return the plan done on a device, where every tensor is merged in one piece, by the method's definition.

    Raises RecipeError for what only the main processor does.
    """
    if device == "cpu":
        return plan
    method, semantics = plan.method, plan.recipe.semantics
    merges = [step for step in plan.steps if step.action == "merge"]
    if any(method.surveying(semantics, step.settings, whole_model=True) for step in merges):
        message = f"'{method.key}' counts over the whole model here, which only --device cpu does"
        raise RecipeError(message, where=plan.recipe.source)
    if plan.recipe.compute_dtype != "float32":
        message = f"compute_dtype: {plan.recipe.compute_dtype} is for --device cpu"
        raise RecipeError(message, where=plan.recipe.source)
    return replace(plan, device=device, steps=tuple(map(_in_one_piece, plan.steps)))


def _in_one_piece(step: MergeStep) -> MergeStep:
    if step.action != "merge" or step.whole:
        return step
    width = 8 if any(given.dtype == "F64" for given in step.all_inputs) else 4
    held = (len(step.inputs) + 1) * step.elements * width
    return replace(step, whole=True, surveying=step.surveying + 1, holds=step.holds + held)
