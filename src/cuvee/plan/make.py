"""Recipe + headers -> Plan, with all problems found at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuvee.arguments import checks_options
from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError, RecipeError
from cuvee.hub import Hub
from cuvee.method import registry
from cuvee.plan.blocks import with_blocks
from cuvee.plan.checks import (
    check_measured_weights,
    check_modules,
    check_names,
    check_whole_model_settings,
    note_what_is_left_out,
    warn_of_code,
    warn_of_idle_filters,
    warn_of_licences,
    warn_of_lost_tokenizer,
)
from cuvee.plan.config import config_changes, with_changes
from cuvee.plan.configs import check_configs
from cuvee.plan.cut import cut_of
from cuvee.plan.draft import Draft, unaligned
from cuvee.plan.forecast import forecast
from cuvee.plan.heads import settle_heads
from cuvee.plan.labels import with_one_order
from cuvee.plan.layers import moved_layers, without_prediction
from cuvee.plan.members import check_members
from cuvee.plan.modify import measures_changes, misplaced, unmeasured, with_scales
from cuvee.plan.names import View, view_as, view_of
from cuvee.plan.outline import outline
from cuvee.plan.overlap import Taking, overlap
from cuvee.plan.plan import MergeStep, Plan
from cuvee.plan.recipes import as_recipe
from cuvee.plan.resolve import given_models, open_models
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
    hub: Hub | None = None,
    custom_code: bool = False,
) -> Plan:
    """Work out every step of a merge. `recipe` may be the path of a file.

    `models` gives the inputs where they are neither in folders nor on a hub.

    `stages` gives those of them that earlier recipes make; the others are looked for as ever. `places` gives the folder
    of each model by its reference; then nothing is looked for elsewhere.

    With `custom_code` the donor's Python files are among what is copied.
    Of a model on a hub only headers and small files are asked for. Raises RecipeError or CheckpointError that holds
    all problems found.
    """
    recipe, hub = as_recipe(recipe), hub or Hub()
    opening = open_models(recipe, hub, stages, places) if models is None else given_models(recipe, models)
    labelled = with_one_order(recipe, with_blocks(opening, recipe))
    draft = Draft(recipe, registry()[recipe.merge_method], with_one_vocabulary(recipe, labelled.opening, hub))
    draft.notes += labelled.notes
    draft.warnings += labelled.warnings
    find_statistics(draft, only_places=places is not None)
    return _plan(draft, hub, custom_code)


def _plan(draft: Draft, hub: Hub, custom_code: bool) -> Plan:
    before = len(draft.problems)
    head_changes = _view(draft)
    cut = cut_of(draft.recipe, draft.views, draft.donor, draft.problems)
    layer_changes = moved_layers(cut, draft) if cut is not None else {}
    check_configs(draft, cut)
    head_changes = with_changes(
        head_changes, changes_by_head(draft.recipe, draft.views, draft.donor), draft.sources[draft.donor].config
    )
    layer_changes = with_changes(layer_changes, without_prediction(draft), draft.sources[draft.donor].config)
    outlines = outline(draft.recipe, draft.views, draft.donor, cut, _takings(draft), draft.problems)
    check_members(draft)
    check_modules(draft)
    clear = len(draft.problems) == before
    if not draft.recipe.sliced:
        check_names(draft)
    if not clear:
        draft.stop_at_problems()
    steps = [step for out in outlines if (step := step_of(out, draft)) is not None]
    note_clashes(draft)
    note_settings(draft)
    check_whole_model_settings(steps, draft)
    check_measured_weights(steps, draft)
    if complaint := misplaced(draft.recipe.post):
        draft.problems.append(RecipeError(complaint, where=draft.recipe.source))
    draft.stop_at_problems()
    warn_of_idle_filters(outlines, draft)
    warn_of_licences(draft)
    warn_of_code(draft, copied=custom_code)
    warn_of_lost_tokenizer(draft)
    note_what_is_left_out(draft)
    steps = _modified(steps, draft)
    opening = draft.aligned.opening
    changes = config_changes(steps, layer_changes, head_changes, draft)
    return Plan(
        recipe=draft.recipe,
        method=draft.method,
        models=draft.models,
        places=opening.places,
        sources=tuple(draft.sources.values()),
        donor=0,
        steps=tuple(steps),
        config_changes=changes,
        forecast=forecast(steps, draft),
        warnings=tuple(draft.warnings),
        notes=tuple(draft.notes),
        repositories=opening.repositories,
        adapters=opening.adapters,
        hub=hub,
        vocabulary=draft.aligned.vocabulary,
        custom_code=custom_code,
        stack_cut=cut,
        statistics=tuple(draft.statistics.get(model) for model in draft.models),
    )


def _view(draft: Draft) -> Mapping[str, Any]:
    """View every model under the donor's names, with a head if any has one; return how that changes the config."""
    first = view_of(draft.sources[draft.donor])
    views = {m: first if m == draft.donor else view_as(first, source) for m, source in draft.sources.items()}
    for model, view in views.items():
        source = unaligned(view.source)
        draft.warnings += [f"{model}: {warning}" for warning in getattr(source, "warnings", ())]
        draft.notes += [f"{model}: {note}" for note in getattr(source, "notes", ())]
        draft.notes += [f"{model}: {renaming}, as in {draft.donor}" for renaming in view.renamings]
    draft.views = views
    if any(draft.unseen.values()):
        return {}  # a head may be among what was not seen
    heads = settle_heads(views, draft.donor)
    draft.notes += heads.notes
    draft.problems += heads.problems
    _refuse_unnamed_rows(heads.views, draft)
    draft.views = heads.views
    return heads.changes


def _refuse_unnamed_rows(views: Mapping[ModelRef, View], draft: Draft) -> None:
    """Rows of tokens that a model lacks are read from the others by the tensor's name: they must share it."""
    filled = [m for m, s in draft.sources.items() if isinstance(s, AlignedCheckpoint) and s.rows.fills]
    for name in views[draft.donor].called if filled else ():
        own = {view.called[name] for view in views.values() if name in view.called}
        if len(own) > 1 and any(draft.row_map(m, n) for m in filled for n in own):
            message = f"'{name}' has the names {', '.join(sorted(own))} in the models, and rows for tokens to be filled"
            hint = "save the models with the same names and ties first"
            draft.problems.append(CheckpointError(message, where=draft.recipe.source, hint=hint))
            return


def _takings(draft: Draft) -> tuple[Taking, ...]:
    """Decide what becomes of every tensor of whole models; slices are cut by their own rules."""
    if draft.recipe.sliced:
        return ()
    found = overlap(draft.recipe, draft.method, draft.views, draft.donor)
    draft.excused = found.excused
    draft.warnings += found.warnings
    draft.notes += found.notes
    draft.problems += found.problems
    return found.takings


def _modified(steps: list[MergeStep], draft: Draft) -> list[MergeStep]:
    """Apply the modifiers, if nothing has to be measured for any of them."""
    if measures_changes(draft.recipe.post):
        return steps
    return with_scales(steps, unmeasured(steps), draft.recipe.post)
