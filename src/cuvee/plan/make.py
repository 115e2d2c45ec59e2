"""Recipe + headers -> Plan, with all problems found at once."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from cuvee.arguments import checks_options
from cuvee.catalogue import registry
from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError, RecipeError
from cuvee.hub import Hub
from cuvee.plan.blocks import with_blocks
from cuvee.plan.checks import (
    left_out,
    measured_weights_problems,
    module_problems,
    unlike_names,
    warnings_of,
    whole_model_problems,
)
from cuvee.plan.config import config_changes, with_changes
from cuvee.plan.configs import check_configs
from cuvee.plan.cut import cut_of
from cuvee.plan.draft import Draft, unaligned
from cuvee.plan.eight_bits import FORMS, coded_names, quantization_config, scale_names, with_room_for_bands
from cuvee.plan.forecast import forecast
from cuvee.plan.heads import settle_heads
from cuvee.plan.labels import with_one_order
from cuvee.plan.layers import moved_layers, without_prediction
from cuvee.plan.members import check_members
from cuvee.plan.modify import measures_changes, misplaced, unmeasured, with_scales
from cuvee.plan.names import View, view_as, view_of
from cuvee.plan.outline import Outline, outline
from cuvee.plan.overlap import Taking, overlap
from cuvee.plan.plan import MergeStep, Plan
from cuvee.plan.recipes import as_recipe
from cuvee.plan.resolve import OpenedFiles, given_models, open_models
from cuvee.plan.settings import note_settings
from cuvee.plan.statistics import find_statistics
from cuvee.plan.steps import note_clashes, step_of
from cuvee.plan.task_heads import changes_by_head
from cuvee.plan.vocabulary import with_one_vocabulary
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.tokenizers.rows import AlignedCheckpoint


@checks_options
def make_plan(
    recipe: Recipe | Path | str,
    *,
    models: Mapping[ModelRef, TensorSource] | None = None,
    stages: Mapping[ModelRef, TensorSource] | None = None,
    places: Mapping[str, Path] | None = None,
    statistics: Mapping[str, Path] | None = None,
    hub: Hub | None = None,
    custom_code: bool = False,
    opened: OpenedFiles | None = None,
) -> Plan:
    """Work out every step of a merge. `recipe` may be the path of a file.

    - `models`: the inputs, where they are neither in folders nor on a hub.
    - `stages`: the inputs that earlier recipes make; the others are searched as ever.
    - `places`: the folder of each model by its reference; with it, nothing is searched elsewhere.
    - `statistics`: folders of statistics, by `cuvee.plan.statistics.statistics_name`.
    - `custom_code`: whether the donor's Python files are copied, too.
    - `opened`: an empty mapping, the same for several plans, so that each model is opened once.

    Planning reads only headers and small files of a model on a hub. Raises RecipeError or CheckpointError that holds
    all problems found.
    """
    recipe, hub = as_recipe(recipe), hub or Hub()
    opening = open_models(recipe, hub, stages, places, opened) if models is None else given_models(recipe, models)
    labelled = with_one_order(recipe, with_blocks(opening, recipe))
    draft = Draft(recipe, registry()[recipe.merge_method], with_one_vocabulary(recipe, labelled.opening, hub))
    draft.notes += labelled.notes
    draft.warnings += labelled.warnings
    find_statistics(draft, statistics or {}, only_places=places is not None)
    return _plan(draft, hub, custom_code)


def _plan(draft: Draft, hub: Hub, custom_code: bool) -> Plan:
    before = len(draft.problems)
    config = draft.sources[draft.donor].config
    head_changes = _view(draft)
    cut = cut_of(draft.recipe, draft.views, draft.donor, draft.problems)
    layer_changes = moved_layers(cut, draft) if cut is not None else {}
    check_configs(draft, cut)
    head_changes = with_changes(head_changes, changes_by_head(draft.recipe, draft.views, draft.donor), config)
    layer_changes = with_changes(layer_changes, without_prediction(draft), config)
    outlines = outline(draft.recipe, draft.views, draft.donor, cut, _takings(draft), draft.problems)
    check_members(draft)
    draft.problems += module_problems(draft)
    is_clear = len(draft.problems) == before
    if not draft.recipe.sliced:
        _check_names(draft)
    if not is_clear:
        draft.stop_at_problems()

    steps = _steps(outlines, draft)
    draft.stop_at_problems()
    draft.warnings += warnings_of(outlines, draft, custom_code=custom_code)
    draft.notes += left_out(draft)
    if not measures_changes(draft.recipe.post):  # else the merge itself measures and scales
        steps = with_scales(steps, unmeasured(steps), draft.recipe.post)
    opening = draft.aligned.opening
    changes = config_changes(steps, layer_changes, head_changes, draft)
    coded: Mapping[str, str] = {}
    form = FORMS.get(draft.recipe.out_dtype or "")
    if form is not None:
        names = coded_names(steps, {**config, **changes}, draft.recipe)
        coded = scale_names(names, form)
        steps = with_room_for_bands(steps, coded)
        shapes = {step.name: step for step in steps}
        draft.notes.append(f"{len(coded)} matrices are written as eight-bit floats with scales of blocks")
        changes["quantization_config"] = quantization_config(shapes, coded, form)
    return Plan(
        recipe=draft.recipe,
        method=draft.method,
        models=draft.models,
        places=tuple(model.place for model in opening.models),
        sources=tuple(draft.sources.values()),
        donor=0,
        steps=tuple(steps),
        config_changes=changes,
        forecast=forecast(steps, coded, draft),
        warnings=tuple(draft.warnings),
        notes=tuple(draft.notes),
        repositories=tuple(model.repository for model in opening.models),
        adapters=tuple(model.adapter for model in opening.models),
        hub=hub,
        vocabulary=draft.aligned.vocabulary,
        custom_code=custom_code,
        stack_cut=cut,
        statistics=tuple(draft.statistics.get(model) for model in draft.models),
        coded=coded,
    )


def _check_names(draft: Draft) -> None:
    """Note the tensors that only some models have, so that steps do not complain of them again."""
    for unlike in unlike_names(draft):
        draft.problems += unlike.problems
        draft.reported |= {(unlike.model, name) for name in unlike.missing}


def _steps(outlines: Sequence[Outline], draft: Draft) -> list[MergeStep]:
    """Make every step, and note the problems of single steps and of all of them together."""
    steps = []
    for out in outlines:
        step = step_of(out, draft)
        if step is not None:
            steps.append(step)
    note_clashes(draft)
    note_settings(draft)
    draft.problems += whole_model_problems(steps, draft)
    draft.problems += measured_weights_problems(steps, draft)
    complaint = misplaced(draft.recipe.post)
    if complaint is not None:
        draft.problems.append(RecipeError(complaint, where=draft.recipe.source))
    return steps


def _view(draft: Draft) -> Mapping[str, Any]:
    """View every model under the donor's names, with a head if any has a head; return how that changes the config."""
    first = view_of(draft.sources[draft.donor])
    views: dict[ModelRef, View] = {}
    for model, source in draft.sources.items():
        views[model] = first if model == draft.donor else view_as(first, source)
        stored = unaligned(source)
        draft.warnings += [f"{model}: {warning}" for warning in getattr(stored, "warnings", ())]
        draft.notes += [f"{model}: {note}" for note in getattr(stored, "notes", ())]
        draft.notes += [f"{model}: {renaming}, as in {draft.donor}" for renaming in views[model].renamings]
    draft.views = views
    if any(draft.unseen.values()):
        return {}  # a head may be among the tensors whose headers cannot be read
    heads = settle_heads(views, draft.donor)
    draft.views = heads.views
    draft.notes += heads.notes
    draft.problems += heads.problems
    _refuse_unnamed_rows(draft)
    return heads.changes


def _refuse_unnamed_rows(draft: Draft) -> None:
    """Note tensors of which models need rows of each other, but that have other names in them.

    Rows of tokens that a model lacks are read from the others by the tensor's name, which they must share.
    """
    filled = []
    for model, source in draft.sources.items():
        if isinstance(source, AlignedCheckpoint) and source.rows.fills:
            filled.append(model)
    if not filled:
        return
    for name in draft.views[draft.donor].called:
        names = {view.called[name] for view in draft.views.values() if name in view.called}
        if len(names) > 1 and _is_filled(names, filled, draft):
            shown = ", ".join(sorted(names))
            message = f"'{name}' has the names {shown} in the models, and rows for tokens to be filled"
            hint = "save the models with the same names and ties first"
            draft.problems.append(CheckpointError(message, where=draft.recipe.source, hint=hint))
            return


def _is_filled(names: set[str], models: Sequence[ModelRef], draft: Draft) -> bool:
    return any(draft.row_map(model, name) for model, name in product(models, names))


def _takings(draft: Draft) -> tuple[Taking, ...]:
    """Decide from which models every tensor of whole models is taken; slices are cut by their own rules."""
    if draft.recipe.sliced:
        return ()
    decided = overlap(draft.recipe, draft.method, draft.views, draft.donor)
    draft.excused = decided.excused
    draft.warnings += decided.warnings
    draft.notes += decided.notes
    draft.problems += decided.problems
    return decided.takings
