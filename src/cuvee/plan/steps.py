"""Outline -> MergeStep: the inputs, type and numbers of an output tensor."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cuvee.checkpoint import TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE, NAMES, kind_of, promoted
from cuvee.errors import CheckpointError
from cuvee.plan.adapters import held_bytes
from cuvee.plan.materials import Materials
from cuvee.plan.matrices import as_matrices
from cuvee.plan.members import Member, members_of
from cuvee.plan.memory import counts_of_whole_model, loaded_dtype
from cuvee.plan.outline import Outline
from cuvee.plan.plan import Input, MergeStep
from cuvee.plan.remarks import Clash, Decision, LacksTensor, MixedTypes, Refusal, Remarks
from cuvee.plan.settings import settings_of, shares
from cuvee.plan.statistics import has_inputs, lacking_statistics, with_room_for_statistics
from cuvee.recipe.recipe import EIGHT_BITS
from cuvee.recipe.reference import ModelRef
from cuvee.structure.roles import is_counter, is_factor, is_running_statistic
from cuvee.structure.task_heads import has_tokens, task_head

STATISTICS = "the means and variances that batch norms have seen are averaged by the models' weights"

FACTORS = (
    "factors of an adapter inside the checkpoint are copied where all models have the same, and refused where they "
    "differ: what they multiply to is not the product of their means"
)

LAMBDA_NEEDS_BASE = "'lambda' needs a base_model, whose task vectors it scales"


@dataclass(frozen=True)
class Ingredients:
    """The tensors that a step combines.

    `models` and `specs` go together: a tensor of each member, then the base's where the method subtracts the base.
    `inputs` are the members', `base` is the base's.
    """

    members: tuple[Member, ...]
    models: tuple[ModelRef, ...]
    specs: tuple[TensorSpec, ...]
    inputs: tuple[Input, ...]
    base: Input | None

    @property
    def all_inputs(self) -> tuple[Input, ...]:
        return self.inputs if self.base is None else (*self.inputs, self.base)


def step_of(out: Outline, materials: Materials) -> Remarks[MergeStep | None]:
    """Return the step that makes a tensor, or None with the problem that forbids it."""
    if out.taken is not None:
        return (yield from _taken(out.name, *out.taken, materials))
    ingredients = yield from _ingredients(out, materials)
    if ingredients is None:
        return None
    if len({spec.shape for spec in ingredients.specs}) > 1:
        yield _clash_of_shapes(out, ingredients, materials)
        return None
    if all(map(is_counter, ingredients.specs)):
        return (yield from _counter(out, ingredients, materials))
    is_copied = yield from _is_copied(out, ingredients)
    if is_copied:
        return (yield from _copy_of_equals(out, ingredients))
    return (yield from _combined(out, ingredients, materials))


def _taken(name: str, model: ModelRef, tensor: str, materials: Materials) -> Remarks[MergeStep | None]:
    """Take a tensor from a model as it is."""
    spec = yield from _spec(model, tensor, name, materials)
    if spec is None:
        return None
    rows = materials.row_map(model, tensor)
    source = Input(materials.index[model], tensor, spec.dtype, model.without_revisions, rows=rows)
    return MergeStep(name, spec.dtype, spec.shape, "copy", (source,), None, {})


def _ingredients(out: Outline, materials: Materials) -> Remarks[Ingredients | None]:
    """Find the tensors that an output is made of; None where any of them is missing."""
    base = materials.base_of(out.part) if materials.method.base in ("delta", "optional") else None
    members = members_of(out.part, out, materials)
    tensors = [(member.model, member.tensor) for member in members]
    if base is not None:
        tensors.append((base, out.base_name))
    specs = []
    for model, tensor in tensors:
        spec = yield from _spec(model, tensor, out.name, materials)
        if spec is not None:
            specs.append(spec)
    if len(specs) < len(tensors):
        return None
    models = tuple(model for model, _ in tensors)
    inputs = _inputs(members, specs[: len(members)], materials)
    base_input = None
    if base is not None:
        rows = materials.row_map(base, out.base_name)
        base_input = Input(materials.index[base], out.base_name, specs[-1].dtype, rows=rows)
    return Ingredients(tuple(members), models, tuple(specs), inputs, base_input)


def _spec(model: ModelRef, tensor: str, out: str, materials: Materials) -> Remarks[TensorSpec | None]:
    tensors = materials.sources[model].tensors
    spec = tensors.get(tensor)
    if spec is None and tensor not in materials.unseen[model]:  # else the opening tells why it cannot be read
        yield LacksTensor(model, tensor, out, tensors)
    return spec


def _inputs(members: Sequence[Member], specs: Sequence[TensorSpec], materials: Materials) -> tuple[Input, ...]:
    """Return the members' inputs. Random draws depend on identity and occurrence: a model named twice draws twice."""
    occurrences: Counter[str] = Counter()
    inputs = []
    for member, spec in zip(members, specs, strict=True):
        model = materials.index[member.model]
        identity = member.source.identity if member.source else member.model.without_revisions
        rows = materials.row_map(member.model, member.tensor)
        inputs.append(Input(model, member.tensor, spec.dtype, identity, occurrences[identity], rows))
        occurrences[identity] += 1
    return tuple(inputs)


def _clash_of_shapes(out: Outline, ingredients: Ingredients, materials: Materials) -> Clash:
    shapes = [list(spec.shape) for spec in ingredients.specs]
    hint = None
    if not materials.recipe.sliced and _is_of_head(out.name, materials):
        hint = "`head: base`, or `head: MODEL`, takes such heads from one model"
    message = f"'{out.name}' has different shapes: {_by_model(shapes, ingredients)}"
    return Clash("shapes", CheckpointError(message, hint=hint))


def _by_model(facts: Sequence[object], ingredients: Ingredients) -> str:
    """Name a fact of each model: `F32 in a, BF16 in b`."""
    pairs = zip(ingredients.models, facts, strict=True)
    return ", ".join(f"{fact} in {model}" for model, fact in pairs)


def _is_of_head(name: str, materials: Materials) -> bool:
    tokens = has_tokens(materials.config)
    return task_head(name, has_tokens=tokens) is not None


def _counter(out: Outline, ingredients: Ingredients, materials: Materials) -> Remarks[MergeStep | None]:
    """Take a counter from the donor, or else from the first model: no two trainings count the same."""
    which = 0
    if materials.donor in ingredients.models:
        which = ingredients.models.index(materials.donor)
    model = ingredients.models[which]
    yield Decision(f"counters of training steps are taken from {model}")
    return (yield from _taken(out.name, model, ingredients.all_inputs[which].tensor, materials))


def _is_copied(out: Outline, ingredients: Ingredients) -> Remarks[bool]:
    """Say whether a tensor is copied where all models have the same, and why, where that may surprise."""
    has_several = len(ingredients.specs) > 1
    if has_several and is_factor(out.name):
        yield Decision(FACTORS)
        return True
    if all(spec.dtype in MERGEABLE for spec in ingredients.specs):
        return False
    dtype = ingredients.specs[0].dtype
    if has_several and kind_of(dtype) != "integers":
        rule = "is copied where all models have the same, and refused where they differ"
        yield Decision(f"{dtype}, {kind_of(dtype)}, {rule}")
    return True


def _copy_of_equals(out: Outline, ingredients: Ingredients) -> Remarks[MergeStep]:
    """Take a tensor from the first model, once the merge sees that all have the same."""
    dtypes = [spec.dtype for spec in ingredients.specs]
    if len(set(dtypes)) > 1:
        message = f"'{out.name}' is of different types: {_by_model(dtypes, ingredients)}"
        yield Clash("types", CheckpointError(message))
    spec = ingredients.specs[0]
    return MergeStep(out.name, spec.dtype, spec.shape, "copy", ingredients.inputs, ingredients.base, {})


def _combined(out: Outline, ingredients: Ingredients, materials: Materials) -> Remarks[MergeStep | None]:
    """Merge a tensor by the recipe's method, or average it where it holds statistics of activations."""
    settings, scale = yield from settings_of(out, ingredients.members, materials)
    dtype = yield from _output_dtype(out, ingredients, materials)
    if ingredients.base is None and scale != 1:
        yield Refusal(LAMBDA_NEEDS_BASE, out.name)
    if is_running_statistic(out.name):
        yield Decision(STATISTICS)
        return _average(out, ingredients, dtype, settings, scale)
    step = _merge(out, ingredients, dtype, settings, scale, materials)
    member = ingredients.members[0]
    place = materials.views[member.model].structure.of(member.tensor)
    try:
        step = as_matrices(step, materials.method, materials.recipe.post, place, has_inputs=has_inputs(step, materials))
        step = with_room_for_statistics(step, materials)
    except ValueError as error:
        yield Refusal(str(error), out.name)
        return None
    yield from lacking_statistics(step, place, materials)
    return step


def _output_dtype(out: Outline, ingredients: Ingredients, materials: Materials) -> Remarks[str]:
    """Return the type of an output: the recipe's, or else the widest of the inputs, with a remark if they differ."""
    word = materials.recipe.out_dtype or materials.recipe.dtype
    if word in EIGHT_BITS:
        word = materials.recipe.dtype or "bfloat16"  # of all that is not coded, and of what is coded before it is
    if word:
        return NAMES[word]
    tensors = zip(ingredients.models, ingredients.all_inputs, strict=True)
    stored = [materials.stored_dtype(model, source.tensor) for model, source in tensors]
    widest = promoted(stored)
    if len(set(stored)) > 1:
        types = f"{_by_model(stored, ingredients)}, so {widest} is written"
        yield MixedTypes(types, out.name)
    return widest


def _average(
    out: Outline, ingredients: Ingredients, dtype: str, settings: Mapping[str, Any], scale: float
) -> MergeStep:
    """Sum the models' tensors, the base's too, in the shares that the method's weights give them."""
    has_base = ingredients.base is not None
    weight = shares(settings, scale, len(ingredients.inputs), has_base=has_base)
    shape = ingredients.specs[0].shape
    return MergeStep(out.name, dtype, shape, "average", ingredients.all_inputs, None, {"weight": weight})


def _merge(
    out: Outline, ingredients: Ingredients, dtype: str, settings: dict[str, Any], scale: float, materials: Materials
) -> MergeStep:
    """Return the step of the method's rule on a whole tensor, with the memory and readings that it takes."""
    method, recipe = materials.method, materials.recipe
    shape = ingredients.specs[0].shape
    cost = method.cost(len(ingredients.members), shape, recipe.semantics, settings)
    step = MergeStep(
        name=out.name,
        dtype=dtype,
        shape=shape,
        action="merge",
        inputs=ingredients.inputs,
        base=ingredients.base,
        settings=settings,
        scale=scale,
        unit=cost.unit,
        holds=cost.holds + _held_besides(ingredients, settings, materials),
        surveying=cost.surveying,
        in_kernels=cost.in_kernels,
    )
    loaded = loaded_dtype(recipe, step)
    is_half = loaded is not None and loaded.itemsize == 2
    if method.stepwise is not None and is_half:
        return replace(step, surveying=method.stepwise.sums(settings), in_kernels=True)
    return step


def _held_besides(ingredients: Ingredients, settings: Mapping[str, Any], materials: Materials) -> int:
    """Return the bytes that counts of the whole model and reading from adapters hold besides the method's own."""
    held = 0
    for model, source in zip(ingredients.models, ingredients.all_inputs, strict=True):
        held += held_bytes(materials.sources[model], source.tensor)
    if materials.method.surveying(materials.recipe.semantics, settings, whole_model=True):
        held += counts_of_whole_model(len(ingredients.inputs))
    return held
