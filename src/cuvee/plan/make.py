"""Recipe + headers -> Plan, with all problems found at once.

Steps of planning read frozen `Materials` and yield remarks. This module alone gathers them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cuvee.arguments import checks_options
from cuvee.catalogue import registry
from cuvee.checkpoint import TensorSource
from cuvee.errors import CuveeError, closest, several
from cuvee.foreign import open_files_partly
from cuvee.hub import Hub
from cuvee.plan.blocks import with_blocks
from cuvee.plan.checks import STEP_CHECKS, left_out, module_problems, unlike_names, warnings_of
from cuvee.plan.config import config_changes, with_changes
from cuvee.plan.configs import config_differences
from cuvee.plan.cut import StackCut, cut_of
from cuvee.plan.eight_bits import FORMS, coded_names, quantization_config, scale_names, with_room_for_bands
from cuvee.plan.forecast import forecast
from cuvee.plan.labels import Labelled, with_one_order
from cuvee.plan.layers import in_whole_config, moved_layers, moved_pictures, unstated_depth, without_prediction
from cuvee.plan.materials import Materials
from cuvee.plan.members import member_problems
from cuvee.plan.modify import measures_changes, unmeasured, with_scales
from cuvee.plan.outline import Outline, outline
from cuvee.plan.overlap import Overlap, overlap
from cuvee.plan.plan import MergeStep, Plan
from cuvee.plan.recipes import as_recipe
from cuvee.plan.remarks import (
    LacksSetting,
    LacksTensor,
    PlanNote,
    PlanWarning,
    Remark,
    Remarks,
    TensorFact,
    remarks,
    summary,
)
from cuvee.plan.resolve import FileOpener, given_models, open_models
from cuvee.plan.settings import rule_refusal
from cuvee.plan.statistics import with_statistics
from cuvee.plan.steps import step_of
from cuvee.plan.task_heads import changes_by_head
from cuvee.plan.views import with_views
from cuvee.plan.vocabulary import Aligned, with_one_vocabulary
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.recipe.slips import warnings_of as warnings_of_slips
from cuvee.yielding import result_of

MOST_SHOWN = 12
"""Problems in one message; more are counted."""

_T = TypeVar("_T")


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
    open_place: FileOpener = open_files_partly,
) -> Plan:
    """Work out every step of a merge. `recipe` may be the path of a file.

    - `models`: the inputs, where they are neither in folders nor on a hub.
    - `stages`: the inputs that earlier recipes make; the others are searched as ever.
    - `places`: the folder of each model by its reference; with it, nothing is searched elsewhere.
    - `statistics`: folders of statistics, by `cuvee.plan.statistics.statistics_name`.
    - `custom_code`: whether the donor's Python files are copied, too.
    - `open_place`: opens a model's folder or file; plans that share a function which remembers open each model once.

    Planning reads only headers and small files of a model on a hub. Raises RecipeError or CheckpointError that holds
    all problems found.
    """
    recipe, hub = as_recipe(recipe), hub or Hub()
    opening = open_models(recipe, hub, stages, places, open_place) if models is None else given_models(recipe, models)
    labelled = with_one_order(recipe, with_blocks(opening, recipe))
    aligned = with_one_vocabulary(recipe, labelled.opening, hub)
    ledger = _Ledger()
    ledger.add_all(_remarks_of_opening(recipe, labelled, aligned))
    materials = Materials(recipe, registry()[recipe.merge_method], aligned)
    materials = ledger.result_of(with_statistics(materials, statistics or {}, only_places=places is not None))
    return _plan(materials, ledger, hub, custom_code)


class _Ledger:
    """The problems, warnings and notes of a plan, gathered from all steps of planning in their order.

    `reported` are tensors of which a problem already speaks.
    """

    def __init__(self) -> None:
        self.problems: list[CuveeError] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.facts: list[TensorFact] = []
        self.reported: set[tuple[ModelRef, str]] = set()
        self.lacks_settings = False

    def result_of(self, step: Remarks[_T]) -> _T:
        """Run a step of planning, gather its remarks, and return its result."""
        return result_of(step, self.add)

    def add_all(self, remarks: Iterable[Remark]) -> None:
        for remark in remarks:
            self.add(remark)

    def add(self, remark: Remark) -> None:
        match remark:
            case CuveeError():
                self.problems.append(remark)
            case PlanWarning():
                self.warnings.append(remark.text)
            case PlanNote():
                self.notes.append(remark.text)
            case LacksTensor():
                self._add_lacking(remark)
            case _:
                self.lacks_settings |= isinstance(remark, LacksSetting)
                self.facts.append(remark)

    def _add_lacking(self, remark: LacksTensor) -> None:
        if (remark.model, remark.tensor) in self.reported:
            return
        guess = None
        if len(self.problems) < MOST_SHOWN:  # guesses take long, and no more problems are shown
            guess = closest(remark.tensor, list(remark.tensors))
        self.problems.append(remark.problem(guess))

    def stop_at_problems(self) -> None:
        """Raise the problems, if any, with the warnings and notes beside them."""
        if not self.problems:
            return
        shown = self.problems[:MOST_SHOWN]
        error_type = type(shown[0])
        more = len(self.problems) - MOST_SHOWN
        if more > 0:
            shown.append(error_type(f"and {more} more like these"))
        shown += [error_type(f"besides: {note}") for note in (*self.warnings, *self.notes)]
        raise several(shown)


def _remarks_of_opening(recipe: Recipe, labelled: Labelled, aligned: Aligned) -> Iterator[Remark]:
    warnings = [*warnings_of_slips(recipe.slips), *aligned.warnings, *labelled.warnings]
    yield from remarks(aligned.opening.problems, warnings, [*aligned.vocabulary.notes, *labelled.notes])


def _plan(materials: Materials, ledger: _Ledger, hub: Hub, custom_code: bool) -> Plan:
    before = len(ledger.problems)
    materials, head_changes = ledger.result_of(with_views(materials))
    recipe, config = materials.recipe, materials.config
    cut = ledger.result_of(cut_of(materials))
    layer_changes = _layer_changes(cut, materials, ledger)
    ledger.add_all(config_differences(materials, cut))
    head_changes = with_changes(head_changes, changes_by_head(recipe, materials.views, materials.donor), config)
    layer_changes = with_changes(layer_changes, without_prediction(materials), config)
    decided = _overlap(materials, ledger)
    outlines = ledger.result_of(outline(materials, cut, decided.takings))
    ledger.add_all(member_problems(materials))
    ledger.add_all(module_problems(materials))
    is_clear = len(ledger.problems) == before
    if not recipe.sliced:
        _check_names(materials, decided.excused, ledger)
    if not is_clear:
        ledger.stop_at_problems()

    steps = _steps(outlines, materials, ledger)
    ledger.stop_at_problems()
    ledger.add_all(warnings_of(outlines, materials, custom_code=custom_code))
    ledger.add_all(left_out(materials))
    if not measures_changes(recipe.post):  # else the merge itself measures and scales
        steps = with_scales(steps, unmeasured(steps), recipe.post)
    changes = config_changes(steps, layer_changes, head_changes, materials)
    coded: Mapping[str, str] = {}
    form = FORMS.get(recipe.out_dtype or "")
    if form is not None:
        names = coded_names(steps, {**config, **changes}, recipe)
        coded = scale_names(names, form)
        steps = with_room_for_bands(steps, coded)
        shapes = {step.name: step for step in steps}
        ledger.add(PlanNote(f"{len(coded)} matrices are written as eight-bit floats with scales of blocks"))
        changes["quantization_config"] = quantization_config(shapes, coded, form)
    opened_models = materials.aligned.opening.models
    return Plan(
        recipe=recipe,
        method=materials.method,
        models=materials.models,
        places=tuple(model.place for model in opened_models),
        sources=tuple(materials.sources.values()),
        donor=0,
        steps=tuple(steps),
        config_changes=changes,
        forecast=forecast(steps, coded, materials),
        warnings=tuple(ledger.warnings),
        notes=tuple(ledger.notes),
        repositories=tuple(model.repository for model in opened_models),
        adapters=tuple(model.adapter for model in opened_models),
        hub=hub,
        vocabulary=materials.aligned.vocabulary,
        custom_code=custom_code,
        stack_cut=cut,
        statistics=tuple(materials.statistics.get(model) for model in materials.models),
        coded=coded,
    )


def _layer_changes(cut: StackCut | None, materials: Materials, ledger: _Ledger) -> Mapping[str, Any]:
    """Return how the donor's config changes with the layers that slices move."""
    if cut is None:
        return {}
    changes = ledger.result_of(moved_layers(cut, materials))
    if changes is None:
        return {}
    if not ledger.problems:  # else the config may lack changes because of them
        ledger.add_all(unstated_depth(changes, cut, materials))
    ledger.add_all(moved_pictures(cut, materials))
    return in_whole_config(changes, cut, materials.config)


def _overlap(materials: Materials, ledger: _Ledger) -> Overlap:
    """Decide from which models every tensor of whole models is taken; slices are cut by their own rules."""
    if materials.recipe.sliced:
        return Overlap((), {}, (), (), ())
    decided = overlap(materials.recipe, materials.method, materials.views, materials.donor)
    ledger.add_all(remarks(decided.problems, decided.warnings, decided.notes))
    return decided


def _check_names(materials: Materials, excused: Mapping[ModelRef, frozenset[str]], ledger: _Ledger) -> None:
    """Gather the tensors that only some models have, so that steps do not complain of them again."""
    for unlike in unlike_names(materials, excused):
        ledger.add_all(unlike.problems)
        ledger.reported |= {(unlike.model, name) for name in unlike.missing}


def _steps(outlines: Sequence[Outline], materials: Materials, ledger: _Ledger) -> list[MergeStep]:
    """Make every step, and gather the problems of single steps and of all of them together."""
    steps = []
    for out in outlines:
        step = ledger.result_of(step_of(out, materials))
        if step is None:
            continue
        # With a setting that lacks its value, a rule would refuse the value that stands for it.
        refusal = None if ledger.lacks_settings else rule_refusal(step, materials)
        if refusal is not None:
            ledger.add(refusal)
            continue
        steps.append(step)
    ledger.add_all(summary(ledger.facts, materials))
    for check in STEP_CHECKS:
        ledger.add_all(check(steps, materials))
    return steps
