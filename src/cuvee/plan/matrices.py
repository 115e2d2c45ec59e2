"""Tensors that are matrices to a matrix method or modifier: how they are cut, and the memory that this takes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cuvee.catalogue import modifiers
from cuvee.errors import RecipeError
from cuvee.method import EMBEDDINGS, FALLBACK, Method
from cuvee.ops.cut import Cut
from cuvee.ops.work import Work
from cuvee.plan.memory import computing_dtype
from cuvee.plan.plan import MergeStep, Plan, merged_steps
from cuvee.recipe.recipe import Chosen
from cuvee.structure import TensorPlace


def as_matrices(
    step: MergeStep, method: Method, post: Sequence[Chosen], place: TensorPlace, *, has_inputs: bool = True
) -> MergeStep:
    """Return a step on whole matrices if its tensor's role makes it a matrix, else a step by the fallback.

    `has_inputs` says whether there are the statistics of the models' inputs that the method takes.
    Raises ValueError for a fallback that its weights do not allow.
    """
    include_embeddings = bool(step.settings.get(EMBEDDINGS.name))
    cut = cut_of(place, step.shape, include_embeddings=include_embeddings)
    return cut_up(step, method, post, cut, has_inputs=has_inputs)


def cut_up(
    step: MergeStep, method: Method, post: Sequence[Chosen], cut: Cut | None, *, has_inputs: bool = True
) -> MergeStep:
    """Return the step done on the matrices of `cut`. A matrix method without a cut or its inputs uses its fallback."""
    if method.kind != "matrix":
        if cut is None or not any(map(on_matrices, post)):
            return step
        return with_matrices(step, method, post, cut)
    if cut is not None and has_inputs:
        own = _only(step.settings, method.own_settings)
        return with_matrices(replace(step, settings=own), method, post, cut)
    settings = _only(step.settings, (FALLBACK.name, "weight"))
    fallback = settings[FALLBACK.name]
    if step.base is None and fallback != "mean":
        raise ValueError(f"'fallback: {fallback}' is about changes from a base_model, and there is none")
    fallback_factors(settings, len(step.inputs))  # refuses weights without a mean
    return replace(step, settings=settings)


def _only(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in names}


def with_matrices(step: MergeStep, method: Method, post: Sequence[Chosen], cut: Cut) -> MergeStep:
    """Return the step with its cut, the memory of whole matrices, and the pass in which they are read."""
    cut_step = replace(step, cut=cut, whole=True, surveying=step.surveying + 1)
    return replace(cut_step, holds=step.holds + held_bytes(cut_step, method, post))


def on_matrices(chosen: Chosen) -> bool:
    """Say whether a modifier works on whole matrices."""
    return modifiers()[chosen.key].work is not None


def cut_of(place: TensorPlace, shape: tuple[int, ...], *, include_embeddings: bool = False) -> Cut | None:
    """Return how a tensor is cut into matrices; None for tensors that are no matrices.

    Embeddings and heads are matrices only if asked for. Projections that are fused head by head stay together.
    """
    roles = ("linear", "embedding", "head") if include_embeddings else ("linear",)
    axes = 2 if place.experts is None else 3
    has_axes = len(shape) == axes and 0 not in shape
    if place.role not in roles or not has_axes:
        return None
    outputs = shape[-1] if place.input_first else shape[-2]
    sizes: tuple[int, ...] = ()
    if place.fused is not None and place.fused.sizes is not None:
        sizes = place.fused.sizes
    if sum(sizes) != outputs:
        sizes = ()
    return Cut(place.experts, sizes, place.input_first)


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
            if kind is not None:
                total = total + kind(len(step.inputs), out, size)
        works.append(total)
    return works


def held_bytes(step: MergeStep, method: Method, post: Sequence[Chosen]) -> int:
    """Return the bytes that whole matrices take: task vectors and result of the tensor, the work of the largest."""
    largest = max((work.held for work in works_of(step, method, post)), default=0)
    return _tensor_bytes(step) + 8 * largest


def _tensor_bytes(step: MergeStep) -> int:
    """Return the bytes of the whole tensor in all models and the result, in the type computed in."""
    width: int = computing_dtype([step]).itemsize
    return (len(step.inputs) + 1) * step.elements * width


def on_device(plan: Plan, device: str) -> Plan:
    """Return the plan done on a device, where every tensor is merged in one piece, by the method's definition.

    Raises RecipeError for merges that only the main processor does.
    """
    if device == "cpu":
        return plan
    method, semantics = plan.method, plan.recipe.semantics
    merges = merged_steps(plan.steps)
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
    return replace(step, whole=True, surveying=step.surveying + 1, holds=step.holds + _tensor_bytes(step))
