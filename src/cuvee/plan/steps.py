"""Outline -> MergeStep: one output tensor's inputs, type and numbers."""

from collections import Counter
from dataclasses import replace

from cuvee.checkpoint import TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE, NAMES, kind_of, promoted
from cuvee.errors import CheckpointError, closest
from cuvee.plan.adapters import held_bytes
from cuvee.plan.agree import counted, few
from cuvee.plan.draft import MOST_SHOWN, Draft
from cuvee.plan.matrices import as_matrices
from cuvee.plan.members import Member, members_of
from cuvee.plan.memory import counts_of_whole_model, loaded_dtype
from cuvee.plan.outline import Outline
from cuvee.plan.plan import Input, MergeStep
from cuvee.plan.settings import rule_accepts, settings_of, shares
from cuvee.plan.statistics import has_inputs, note_fallback, with_room_for_statistics
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.structure.roles import is_counter, is_factor, is_running_statistic
from cuvee.structure.task_heads import has_tokens, task_head

STATISTICS = "the means and variances that batch norms have seen are averaged by the models' weights"

FACTORS = (
    "factors of an adapter inside the checkpoint are copied where all models have the same, and refused where they "
    "differ: what they multiply to is not the product of their means"
)

Needed = list[tuple[ModelRef, str]]
"""The models of a step and their names for its tensor, the base last where the method subtracts it."""


def step_of(out: Outline, draft: Draft) -> MergeStep | None:
    """Return the step that makes a tensor, or None where something is wrong with it, which is noted."""
    if out.taken is not None:
        return _taken(out.name, *out.taken, draft)
    method, recipe = draft.method, draft.recipe
    base = draft.base_of(out.part) if method.base in ("delta", "optional") else None
    members = members_of(out.part, out, draft)
    needed = [(m.model, m.tensor) for m in members] + ([(base, out.base_name)] if base else [])
    specs = [_spec(model, tensor, out.name, draft) for model, tensor in needed]
    if any(spec is None for spec in specs):
        return None
    found = [spec for spec in specs if spec is not None]
    if not _shapes_agree(out, needed, found, draft):
        return None
    inputs = _inputs(members, found, draft)
    base_input = None
    if base is not None:
        rows = draft.row_map(base, out.base_name)
        base_input = Input(draft.index[base], out.base_name, found[-1].dtype, rows=rows)
    if all(is_counter(spec) for spec in found):
        return _counter(out, needed, draft)
    if len(needed) > 1 and is_factor(out.name):
        draft.decided[FACTORS] += 1
        return _copy_of_equals(out, needed, found, inputs, base_input, draft)
    if any(spec.dtype not in MERGEABLE for spec in found):
        if len(needed) > 1 and kind_of(found[0].dtype) != "integers":
            draft.decided[_copied(found[0].dtype)] += 1
        return _copy_of_equals(out, needed, found, inputs, base_input, draft)
    settings, scale = settings_of(out, members, draft)
    _note_mixed(out, needed, draft)
    if base is None and scale != 1:
        draft.refused.setdefault("'lambda' needs a base_model, whose task vectors it scales", []).append(out.name)
    dtype = _output_dtype(recipe, [draft.stored_dtype(model, tensor) for model, tensor in needed])
    if is_running_statistic(out.name):
        draft.decided[STATISTICS] += 1
        averaged = (*inputs, base_input) if base_input is not None else inputs
        weight = shares(settings, scale, len(inputs), has_base=base_input is not None)
        return MergeStep(out.name, dtype, found[0].shape, "average", averaged, None, {"weight": weight})
    shape, semantics = found[0].shape, recipe.semantics
    unit = method.unit(shape, semantics, settings)
    holds = method.holds(len(members), shape, semantics, settings)
    surveying = method.surveying(semantics, settings)
    if method.surveying(semantics, settings, whole_model=True):
        holds += counts_of_whole_model(len(inputs))
    holds += sum(held_bytes(draft.sources[model], tensor) for model, tensor in needed)
    step = MergeStep(
        out.name, dtype, shape, "merge", inputs, base_input, settings, scale, unit, holds, surveying,
        in_kernels=method.in_kernels(semantics, settings),
    )  # fmt: skip
    loaded = loaded_dtype(recipe, step)
    if method.stepwise is not None and loaded is not None and loaded.itemsize == 2:
        step = replace(step, surveying=method.stepwise.sums(settings), in_kernels=False)
    place = draft.views[members[0].model].structure.of(members[0].tensor)
    try:
        step = as_matrices(step, method, recipe.post, place, has_inputs=has_inputs(step, draft))
        step = with_room_for_statistics(step, draft)
    except ValueError as error:
        draft.refused.setdefault(str(error), []).append(out.name)
        return None
    note_fallback(step, place, draft)
    return step if rule_accepts(step, draft) else None


def _taken(name: str, model: ModelRef, tensor: str, draft: Draft) -> MergeStep | None:
    """Take a tensor from one model as it is."""
    spec = _spec(model, tensor, name, draft)
    if spec is None:
        return None
    rows = draft.row_map(model, tensor)
    given = Input(draft.index[model], tensor, spec.dtype, model.without_revisions, rows=rows)
    return MergeStep(name, spec.dtype, spec.shape, "copy", (given,), None, {})


def _copy_of_equals(
    out: Outline,
    needed: Needed,
    specs: list[TensorSpec],
    inputs: tuple[Input, ...],
    base_input: Input | None,
    draft: Draft,
) -> MergeStep:
    """Take a tensor from the first model, once the merge sees that all have the same."""
    if len({spec.dtype for spec in specs}) > 1:
        kinds = ", ".join(f"{spec.dtype} in {model}" for (model, _), spec in zip(needed, specs, strict=True))
        draft.type_clashes.append(CheckpointError(f"'{out.name}' is of different types: {kinds}"))
    return MergeStep(out.name, specs[0].dtype, specs[0].shape, "copy", inputs, base_input, {})


def _copied(dtype: str) -> str:
    return f"{dtype}, {kind_of(dtype)}, is copied where all models have the same, and refused where they differ"


def _counter(out: Outline, needed: Needed, draft: Draft) -> MergeStep | None:
    """Take a counter from the donor, or else from the first model: no two trainings count the same."""
    model, tensor = next((pair for pair in needed if pair[0] == draft.donor), needed[0])
    draft.decided[f"counters of training steps are taken from {model}"] += 1
    return _taken(out.name, model, tensor, draft)


def _spec(model: ModelRef, tensor: str, out: str, draft: Draft) -> TensorSpec | None:
    spec = draft.sources[model].tensors.get(tensor)
    known = (model, tensor) in draft.reported or tensor in draft.unseen.get(model, ())
    if spec is None and not known:
        guess = closest(tensor, list(draft.sources[model].tensors)) if len(draft.problems) < MOST_SHOWN else None
        hint = f"the closest is '{guess}'" if guess else None
        message = f"has no tensor '{tensor}', needed for '{out}'"
        draft.problems.append(CheckpointError(message, where=str(model), hint=hint))
    return spec


def _shapes_agree(out: Outline, needed: Needed, specs: list[TensorSpec], draft: Draft) -> bool:
    if len({spec.shape for spec in specs}) == 1:
        return True
    shapes = ", ".join(f"{list(s.shape)} in {m}" for (m, _), s in zip(needed, specs, strict=True))
    message, hint = f"'{out.name}' has different shapes: {shapes}", None
    if not draft.recipe.sliced and _is_of_head(out.name, draft):
        hint = "`head: base`, or `head: MODEL`, takes such heads from one model"
    draft.shape_clashes.append(CheckpointError(message, hint=hint))
    return False


def _is_of_head(name: str, draft: Draft) -> bool:
    return task_head(name, has_tokens=has_tokens(draft.sources[draft.donor].config)) is not None


def _inputs(members: list[Member], specs: list[TensorSpec], draft: Draft) -> tuple[Input, ...]:
    seen: Counter[str] = Counter()
    result = []
    for member, spec in zip(members, specs, strict=False):
        identity = member.source.identity if member.source else member.model.without_revisions
        rows = draft.row_map(member.model, member.tensor)
        result.append(Input(draft.index[member.model], member.tensor, spec.dtype, identity, seen[identity], rows))
        seen[identity] += 1
    return tuple(result)


def _note_mixed(out: Outline, needed: Needed, draft: Draft) -> None:
    """Inputs of different types make an output of the widest, which may surprise."""
    stored = [draft.stored_dtype(model, tensor) for model, tensor in needed]
    if len(set(stored)) == 1 or draft.recipe.out_dtype or draft.recipe.dtype:
        return
    kinds = ", ".join(f"{dtype} in {model}" for (model, _), dtype in zip(needed, stored, strict=True))
    draft.mixed.setdefault(f"{kinds}, so {promoted(stored)} is written", []).append(out.name)


def _output_dtype(recipe: Recipe, dtypes: list[str]) -> str:
    named = recipe.out_dtype or recipe.dtype
    return NAMES[named] if named else promoted(dtypes)


def note_clashes(draft: Draft) -> None:
    """Say of how many tensors shapes or types do not fit, naming the first ones; and what was decided for some."""
    draft.problems += few(draft.shape_clashes, "different shapes") + few(draft.type_clashes, "different types")
    for kinds, names in draft.mixed.items():
        more = f" and {len(names) - 1} tensors more" if len(names) > 1 else ""
        message = f"'{names[0]}'{more}: inputs are {kinds}; 'dtype' in the recipe would say the type"
        draft.notes.append(message)
    draft.notes += counted(draft.decided)
