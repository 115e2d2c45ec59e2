"""Whole models in memory: the planner and the engine of a merge on disk, without the disk."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cuvee.arguments import check_settings, refused
from cuvee.catalogue import language
from cuvee.checkpoint import MemoryCheckpoint
from cuvee.checkpoint.dtypes import NUMPY, name_of
from cuvee.engine.arrays import find_method, plain_value
from cuvee.engine.options import Options
from cuvee.engine.torch_tensors import Tensor, as_numpy, in_kind_of
from cuvee.engine.workers import Workers
from cuvee.errors import CheckpointError, RecipeError
from cuvee.method import Method
from cuvee.plan import make_plan
from cuvee.recipe.load import recipe_from_data
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef

StateDict = Mapping[str, Tensor]

_BASE = ModelRef("base")


def merge_state_dicts(
    method: str,
    models: Sequence[StateDict],
    *,
    base: StateDict | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    semantics: str = "mergekit",
    weights: str | Mapping[str, Any] | None = None,
    post: Sequence[str | Mapping[str, Any]] = (),
    rounding: str = "nearest",
    threads: int = 1,
    **settings: Any,
) -> dict[str, Tensor]:
    """Merge whole models in memory, NumPy arrays or torch tensors by name, as a recipe merges them on disk.

    Settings are values of a recipe's parameters (`lambda_` for `lambda`). A setting that each model may set is a value
    for all models or a list. `weights`, `post` and `rounding` are as in a recipe. `names` (default "0", "1", ...) and
    the tensors' names decide random draws.

    All models need the same names and shapes. The result has the names, the order and the types of the first model's
    tensors; it is on their device, and of their library. Integers are copied, and must be equal in all models, but for
    counters of training steps, which are the base's or the first model's.

    Raises RecipeError for settings and CheckpointError for tensors that do not fit.
    """
    known = find_method(method)
    check_settings(merge_state_dicts, method, list(known.settings), list(settings))
    _check_models(known, models, base, names)
    keys = {"seed": seed, "semantics": semantics, "weights": weights, "post": list(post), "rounding": rounding}
    keys |= {"base_model": str(_BASE)} if base is not None else {}
    recipe = _recipe(known, names or list(map(str, range(len(models)))), keys, settings)
    sources = {_model(i): _checkpoint(state, str(_model(i))) for i, state in enumerate(models)}
    if base is not None:
        sources[_BASE] = _checkpoint(base, "the base")
    plan = make_plan(recipe, models=sources)
    types = {name: spec.dtype for name, spec in sources[_model(0)].tensors.items()}
    plan = replace(plan, steps=tuple(replace(step, dtype=types[step.name]) for step in plan.steps))
    merged = {step.name: np.empty(step.shape, NUMPY[step.dtype]) for step in plan.steps}

    def write(name: str, start: int, data: np.ndarray) -> None:
        merged[name].reshape(-1).view(np.uint8)[start : start + data.size] = data

    Workers(plan, Options(memory_bytes=sys.maxsize, threads=threads)).run_all(write)
    return {name: in_kind_of(tensor, merged[name]) for name, tensor in models[0].items()}


def _model(position: int) -> ModelRef:
    return ModelRef(f"model {position}")


def _check_models(
    method: Method, models: Sequence[StateDict], base: StateDict | None, names: Sequence[str] | None
) -> None:
    if not models:
        raise RecipeError("expected at least one model, found none")
    named = len(models) if names is None else len(names)
    if named != len(models):
        raise RecipeError(f"expected a name for each of {len(models)} models, found {named}")
    takes_base = method.base != "member"
    if base is not None and not takes_base:
        raise RecipeError(f"'{method.key}' takes no base", hint="give it as one of the models")


def _recipe(method: Method, names: Sequence[str], keys: Mapping[str, Any], given: Mapping[str, Any]) -> Recipe:
    """Return the recipe that says the same, so that it is checked as every recipe is."""
    shared: dict[str, Any] = {}
    own: list[dict[str, Any]] = [{} for _ in names]
    for word, value in given.items():
        name, plain = word.removesuffix("_"), plain_value(value)
        setting = method.settings.get(name)
        is_by_model = setting is not None and setting.per_model
        if not is_by_model or not isinstance(plain, list):
            shared[name] = plain
            continue
        if len(plain) != len(names):
            message = f"'{name}' of '{method.key}': expected one value a model ({len(names)}), found {len(plain)}"
            raise RecipeError(message)
        for parameters, entry in zip(own, plain, strict=True):
            parameters[name] = entry
    document = {
        "merge_method": method.key,
        "models": [
            {"model": str(_model(i)), "name": name, "parameters": parameters}
            for i, (name, parameters) in enumerate(zip(names, own, strict=True))
        ],
        "parameters": shared,
    }
    return recipe_from_data(document | dict(keys), language(), source="merge_state_dicts")


def _checkpoint(state: StateDict, whose: str) -> MemoryCheckpoint:
    if not isinstance(state, Mapping):
        hint = "`merge` merges models in folders, `merge_tensors` single tensors"
        raise refused(state, whose, "a mapping of tensors by their names", hint)
    arrays = {name: as_numpy(tensor, name) for name, tensor in state.items()}
    for name, array in arrays.items():
        try:
            name_of(array.dtype)
        except KeyError as error:
            raise CheckpointError(f"'{name}' is {array.dtype}, which cannot be merged", where=whose) from error
    return MemoryCheckpoint(arrays)
