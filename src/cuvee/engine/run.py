"""Runs a plan: workers take steps, tensors go to known offsets, the folder appears when all of it is there."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

from cuvee.arguments import as_path, checks_options, refused
from cuvee.checkpoint.write import CheckpointWriter
from cuvee.engine.eight_bits import coding_losses, told_loss
from cuvee.engine.finish import cast_loss, finish, with_provenance
from cuvee.engine.journal import Journal
from cuvee.engine.masks import has_masks, without_masks, write_masks
from cuvee.engine.options import Options, RunOptions
from cuvee.engine.peak import PeakMemory
from cuvee.engine.prepared import Prepared, prepare
from cuvee.engine.provenance import Figures
from cuvee.errors import RecipeError
from cuvee.hub import Hub
from cuvee.plan import Plan, make_plan
from cuvee.recipe.recipe import Recipe


@dataclass(frozen=True)
class MergeResult:
    """A finished merge.

    - `folder`: where the model is.
    - `digest`: of the weights, in hexadecimal; the same for equal weights.
    - `figures`: the cost: `seconds`, `compile_seconds` for kernels, `bytes_read`, `bytes_written`,
      `peak_memory_bytes`, and `cast_loss`, the share of the change from the base that the last rounding lost.
    - `warnings`: possible losses and faults.
    - `notes`: decisions that the plan made for the reader.
    """

    folder: Path
    digest: str
    figures: Figures
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()


@checks_options
def merge(
    recipe: Recipe | Path | str,
    out: Path | str,
    *,
    hub: Hub | None = None,
    custom_code: bool = False,
    **options: Unpack[RunOptions],
) -> MergeResult:
    """Plan and run a recipe, or the recipe in a file. `Options` describes the options.

    Raises ArgumentError for an option that does not exist, before anything is planned.
    """
    place = as_path(out, "out")
    plan = make_plan(recipe, hub=hub, custom_code=custom_code)
    return run_with(Options(**options), plan, place)


@checks_options
def run_plan(plan: Plan, out: Path | str, **options: Unpack[RunOptions]) -> MergeResult:
    """Write the merged model to the folder `out`, which appears complete or not at all.

    `Options` describes the options. The run downloads models of a hub first, once it knows that there is room for them
    and for the output.

    Raises
    OutOfBudget for too little memory or disk, CheckpointError for bad inputs, MethodError for a method that fails,
    RecipeError if `out` exists or was begun as another merge.
    """
    if not isinstance(plan, Plan):
        raise refused(plan, "plan", "a Plan", "`make_plan` makes one of a recipe; `merge` takes the recipe itself")
    return run_with(Options(**options), plan, as_path(out, "out"))


def run_with(options: Options, plan: Plan, out: Path, *, history: Sequence[Mapping[str, Any]] = ()) -> MergeResult:
    """Run a plan as `run_plan` does. `history` is the record of earlier stages, for `cuvee.json`."""
    place = out.absolute()
    if not place.name:
        raise RecipeError("the output is a folder with a name", where=str(out))
    prepared = prepare(plan, place, options)
    with PeakMemory() as peak, prepared.open_output(place, prepared.shards) as (writer, journal):
        prepared.workers.run(prepared.plan.steps, writer, journal)
        return finished_merge(prepared, out, writer, journal, peak, history=history)


def finished_merge(
    prepared: Prepared,
    out: Path,
    writer: CheckpointWriter,
    journal: Journal,
    peak: PeakMemory,
    *,
    history: Sequence[Mapping[str, Any]] = (),
) -> MergeResult:
    """Write all that a model is besides its weights, and let its folder appear."""
    plan, workers, options = prepared.plan, prepared.workers, prepared.options
    record = prepared.write_record(writer, hash_inputs=options.hash_inputs)
    if history:
        record = with_provenance(record, stages=list(history))
    if has_masks(plan):
        masks = write_masks(plan, writer, threads=workers.workers, progress=options.heard)
        record = with_provenance(record, masks=[asdict(mask) for mask in masks])
    finished = journal.contents.finished
    if plan.coded:
        record = with_provenance(record, eight_bits=coding_losses(plan.coded, finished))
    figures = prepared.figures(peak, prepared.shards, cast_loss(record, finished))
    workers.inputs.check()
    digest = finish(writer, record, finished, figures)
    warnings = (*plan.warnings, *without_masks(plan, split=False), *journal.warnings())
    notes = (*plan.notes, told_loss(plan.coded, finished)) if plan.coded else plan.notes
    return MergeResult(out, digest, figures, warnings, notes)
