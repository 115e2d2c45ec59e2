"""Methods on plain arrays: the engine's way, and the definitions' way that it is tested against."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, get_args

import numpy as np

from cuvee.arguments import check_settings, refused
from cuvee.catalogue import registry
from cuvee.checkpoint import MemoryCheckpoint
from cuvee.checkpoint.dtypes import MERGEABLE, NAMES, NUMPY, name_of
from cuvee.documents.shown import shown
from cuvee.engine.blocks import Blocks, Scratch
from cuvee.engine.definition import defined_change
from cuvee.engine.rules import Context
from cuvee.engine.step import run_step
from cuvee.engine.surveys import fold_blocks, survey_model
from cuvee.engine.torch_tensors import Tensor, as_numpy, in_kind_of
from cuvee.errors import CheckpointError, RecipeError, closest, several
from cuvee.kernels import BLOCK, load
from cuvee.method import Method
from cuvee.ops.arrays import Array, scaled, wide
from cuvee.ops.blas import one_thread_a_matrix
from cuvee.ops.cut import cut_by_shape
from cuvee.ops.stepwise import merged_in_steps
from cuvee.plan.matrices import cut_up
from cuvee.plan.memory import computing_dtype
from cuvee.plan.plan import Input, MergeStep
from cuvee.plan.settings import as_arrays
from cuvee.recipe.recipe import Semantics
from cuvee.recipe.setting import Setting

_NAME = "tensor"
_SPARE = 1 << 28
"""Bytes that a survey may keep to save time: the tensors are in memory anyway."""
_NUMBERS = [NUMPY[kind] for kind in MERGEABLE]


def merge_tensors(
    method: str,
    tensors: Sequence[Tensor],
    *,
    base: Tensor | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    semantics: str = "mergekit",
    chunk: int = 8 * BLOCK,
    **settings: Any,
) -> Tensor:
    """Merge a tensor of several models. Settings that each model may set are one number or a list.

    Takes NumPy arrays or torch tensors; the result is of the library and the type of the first. For slerp the base is
    the end at t = 0. Random draws depend on `names`. Arguments of a method that are statistics of the models'
    inputs are given by their names, one array a model. Raises RecipeError for settings and CheckpointError for
    tensors that do not fit.
    """
    known = find_method(method)
    check_settings(merge_tensors, method, [*known.settings, *known.inputs], list(settings))
    inputs = _inputs_among(settings, known, len(tensors))
    _check_words(tensors, names, semantics)
    arrays = list(map(as_numpy, tensors))
    origin = None if base is None else as_numpy(base)
    stack = arrays
    if known.base == "endpoint" and origin is not None:
        stack = [origin, *arrays]
    subtracted = origin if known.base in ("delta", "optional") else None
    own_names = map(str, range(len(arrays))) if names is None else names
    named = ["base"] * (len(stack) - len(arrays)) + list(own_names)
    _check_arrays(known, stack, subtracted, needs_base=known.base == "delta")
    step = _step(known, stack, subtracted, named, semantics, settings)
    inputs_and_base = stack if subtracted is None else [*stack, subtracted]
    sources = [MemoryCheckpoint({_NAME: array}) for array in inputs_and_base]
    wide = computing_dtype([step])
    kernels = load()

    def blocks() -> Blocks:
        return Blocks(
            step, sources, kernels, chunk=chunk, kept=False, spare=_SPARE, scratch=Scratch(), dtype=wide,
            trusting=False, count_bytes=lambda nbytes: None,
        )  # fmt: skip

    found = survey_model(known, [step], kernels, semantics, wide, lambda fold: fold_blocks(fold, blocks()))
    out = np.empty(stack[0].size, stack[0].dtype)
    raw = out.view(np.uint8)

    def sink(start: int, data: np.ndarray) -> None:
        raw[start : start + data.size] = data

    with one_thread_a_matrix() if step.cut is not None else nullcontext():
        run_step(step, blocks(), Context(known, semantics, seed, kernels, False, found, inputs=inputs), sink)
    return in_kind_of(tensors[0], out.reshape(stack[0].shape))


def merge_by_definition(
    method: str,
    stack: Array,
    *,
    base: Array | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    semantics: str = "mergekit",
    **settings: Any,
) -> Array:
    """Merge whole tensors of any array library by the method's plain definition: no chunks, no kernels, no bits.

    `stack` is [models, *shape], base included for slerp; task vectors are taken from `base` where the method does.
    """
    known = find_method(method)
    deltas = stack - base if base is not None else stack
    models = stack.shape[0]
    inputs = _inputs_among(settings, known, models)
    blank = [np.broadcast_to(np.float32(0), tuple(stack.shape[1:]))] * models
    step = _step(known, blank, None, names or list(map(str, range(models))), semantics, settings)
    if known.stepwise is not None and stack.dtype.itemsize == 2:
        merged = merged_in_steps(known.stepwise, stack, base, as_arrays(step.settings))
        if base is None or step.scale == 1:
            return merged
        change = merged - base
    else:
        numbers = wide(stack) - wide(base) if base is not None else wide(stack)
        change = defined_change(known, step, deltas, semantics=semantics, seed=seed, numbers=numbers, inputs=inputs)
    return change if base is None else base + scaled(change, step.scale)


def _inputs_among(given: dict[str, Any], method: Method, models: int) -> dict[str, Any]:
    """Take the statistics of the models' inputs out of the given arguments. Raises RecipeError if some are missing."""
    inputs = {}
    for name in method.inputs:
        arrays = given.pop(name, None)
        if arrays is None or len(arrays) != models:
            raise RecipeError(f"'{method.key}' needs '{name}': one array for each of {models} tensors")
        inputs[name] = [np.asarray(as_numpy(array), np.float64) for array in arrays]
    return inputs


def find_method(key: str) -> Method:
    """Return the method of that name. Raises RecipeError with the closest name."""
    if not isinstance(key, str):
        raise refused(key, "method", "the name of a method, such as 'ties'")
    if key not in registry():
        guess = closest(key, list(registry()))
        raise RecipeError(f"unknown merge method '{key}'", hint=f"did you mean '{guess}'?" if guess else None)
    return registry()[key]


def _check_words(tensors: Sequence[Tensor], names: Sequence[str] | None, semantics: str) -> None:
    if semantics not in get_args(Semantics):
        message = f"'semantics' is one of {', '.join(get_args(Semantics))}, found {shown(semantics)}"
        raise RecipeError(message)
    if names is not None and len(names) != len(tensors):
        raise RecipeError(f"expected a name for each of {len(tensors)} tensors, found {len(names)}")


def _check_arrays(method: Method, stack: list[np.ndarray], base: np.ndarray | None, *, needs_base: bool) -> None:
    if needs_base and base is None:
        raise RecipeError(f"'{method.key}' needs a base")
    _check_count(method, len(stack))
    everything = list(stack) if base is None else [*stack, base]
    for array in everything:
        if array.dtype not in _NUMBERS:
            message = f"expected tensors of {', '.join(NAMES)}, found one of {array.dtype}, which is no weight"
            raise CheckpointError(message, hint="convert it first, if its numbers are weights")
    shapes = {array.shape for array in everything}
    if len(shapes) > 1:
        raise CheckpointError(f"the tensors have different shapes: {sorted(shapes)}")


def _check_count(method: Method, count: int) -> None:
    least, most = method.models
    is_above = most is not None and count > most
    if count < least or is_above:
        raise RecipeError(f"'{method.key}' merges {least} to {most or 'any number of'} tensors, found {count}")


def _step(
    method: Method,
    stack: list[np.ndarray],
    base: np.ndarray | None,
    names: Sequence[str],
    semantics: str,
    given: dict[str, Any],
) -> MergeStep:
    settings = _settings(method, len(stack), given)
    inputs = tuple(Input(i, _NAME, name_of(a.dtype), names[i]) for i, a in enumerate(stack))
    base_input = Input(len(stack), _NAME, name_of(base.dtype)) if base is not None else None
    own = {name: settings[name] for name in method.step_settings}
    dtype = next(key for key, value in NUMPY.items() if value == stack[0].dtype)
    scale = float(settings.get("lambda", 1.0))
    shape = stack[0].shape
    cost = method.cost(len(stack), shape, semantics, own)
    step = MergeStep(
        name=_NAME,
        dtype=dtype,
        shape=shape,
        action="merge",
        inputs=inputs,
        base=base_input,
        settings=own,
        scale=scale,
        unit=cost.unit,
        holds=cost.holds,
        surveying=cost.surveying,
        in_kernels=cost.in_kernels,
    )
    try:
        return cut_up(step, method, (), cut_by_shape(step.shape))
    except ValueError as error:
        raise RecipeError(f"'{method.key}': {error}") from error


def _settings(method: Method, models: int, given: dict[str, Any]) -> dict[str, Any]:
    values = {name.removesuffix("_"): plain_value(value) for name, value in given.items()}
    problems = []
    for name in values:
        if name not in method.settings:
            hint = f"it takes: {', '.join(method.settings)}"
            problems.append(RecipeError(f"'{method.key}' takes no parameter '{name}'", hint=hint))
    for setting in method.settings.values():
        problems += _problems(method, setting, models, values)
    if problems:
        raise several(problems)
    settings: dict[str, Any] = {}
    for name, setting in method.settings.items():
        value = values.get(name, setting.default)
        settings[name] = tuple(_by_model(value, models)) if setting.per_model else value
    return settings


def _problems(method: Method, setting: Setting, models: int, values: Mapping[str, Any]) -> Iterator[RecipeError]:
    where = f"'{setting.name}' of '{method.key}'"
    if setting.name not in values:
        if setting.required:
            yield RecipeError(f"parameter {where} has no value")
        return
    value = values[setting.name]
    is_by_model = setting.per_model and isinstance(value, list) and len(value) == models
    if isinstance(value, list) and not is_by_model:
        yield RecipeError(f"{where}: expected one number a model, found {value!r}")
    complaints = map(setting.complaint, _by_model(value, 1))
    for complaint in filter(None, complaints):
        yield RecipeError(f"{where}: {complaint}")
        return


def _by_model(value: Any, models: int) -> list[Any]:
    """Return a value as a list, with an entry for each model."""
    return value if isinstance(value, list) else [value] * models


def plain_value(value: Any) -> Any:
    """Return a setting's value without NumPy's types and tuples, inside a list, too."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return list(map(plain_value, value))
    return value
