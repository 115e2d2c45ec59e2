"""Runs a plan: workers take steps, tensors go to known offsets, the folder appears when all of it is there."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

from cuvee.arguments import as_path, checks_options, refused
from cuvee.checkpoint.write import lay_out
from cuvee.device import device_called
from cuvee.engine.clock import Clock
from cuvee.engine.emr_masks import has_masks, without_masks, write_masks
from cuvee.engine.fetch import fetched
from cuvee.engine.finish import cast_loss, finish, output_tensors, with_provenance, write_record
from cuvee.engine.gguf_tokenizer import with_gguf_tokenizer
from cuvee.engine.identity import identity_of
from cuvee.engine.options import RunOptions
from cuvee.engine.partial import opened
from cuvee.engine.peak import PeakMemory
from cuvee.engine.provenance import Figures
from cuvee.engine.workers import DEFAULT_SHARD, Options, Workers
from cuvee.errors import RecipeError
from cuvee.hub import Hub
from cuvee.kernels import load
from cuvee.plan import Plan, make_plan
from cuvee.plan.matrices import on_device
from cuvee.plan.memory import default_memory, fit
from cuvee.progress import Progress
from cuvee.recipe.recipe import Recipe


@dataclass(frozen=True)
class MergeResult:
    """A finished merge.

    - `folder`: where the model is.
    - `digest`: of the weights, in hexadecimal; the same for equal weights.
    - `figures`: what it took: `seconds`, `compile_seconds` for kernels, `bytes_read`, `bytes_written`,
      `peak_memory_bytes`, and `cast_loss`, the share of the change from the base that the last rounding lost.
    - `warnings`: what may be lost or wrong.
    - `notes`: what was decided for the reader.
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
    """Plan and run a recipe, which may be the path of one. Options are those of `run_plan`.

    Raises ArgumentError for an option that does not exist, before anything is planned.
    """
    place = as_path(out, "out")
    return run_plan(make_plan(recipe, hub=hub, custom_code=custom_code), place, **options)


@checks_options
def run_plan(
    plan: Plan,
    out: Path | str,
    *,
    memory_bytes: int | None = None,
    threads: int = 1,
    shard_bytes: int = DEFAULT_SHARD,
    chunk: int | None = None,
    overwrite: bool = False,
    resume: bool = True,
    allow_nonfinite: bool = False,
    hash_inputs: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
    cache: Path | None = None,
    history: Sequence[Mapping[str, Any]] = (),
) -> MergeResult:
    """Write the merged model to the folder `out`, which appears complete or not at all.

    Models of a hub are downloaded first, once it is known that there is room for them and for the output.

    - `memory_bytes`: the most private memory that buffers take; by default 512 MB, or what the largest matrices need
      where the method works on whole ones. Less memory changes no byte of the output.
    - `threads`: how many workers compute.
    - `shard_bytes`: the largest size of one file of weights.
    - `chunk`: how many entries of a tensor are read at a time, in place of the number that fits the memory.
    - `overwrite`: replace an earlier merge in `out`.
    - `resume`: take up a run of the same plan that was stopped; if false, what it left is removed.
    - `allow_nonfinite`: let NaN and infinity in the inputs pass.
    - `hash_inputs`: record the SHA-256 of every input file in `cuvee.json`.
    - `device`: "cuda" merges tensors whole on a GPU, "auto" does so for methods of whole matrices if there is one.
    - `progress`: hears what is done; by default nobody does.
    - `cache`: a folder that keeps what surveys of whole models find, for other merges of the same models.
    - `history`: what `cuvee.json` says of earlier stages.

    Raises
    OutOfBudget for too little memory or disk, CheckpointError for bad inputs, MethodError for a method that fails,
    RecipeError if `out` exists or was begun as another merge.
    """
    if not isinstance(plan, Plan):
        raise refused(plan, "plan", "a Plan", "`make_plan` makes one of a recipe; `merge` takes the recipe itself")
    named = as_path(out, "out")
    out = named.absolute()
    if not out.name:
        raise RecipeError("the output is a folder with a name", where=str(named))
    options = Options(
        memory_bytes=memory_bytes,
        threads=threads,
        shard_bytes=shard_bytes,
        chunk=chunk,
        overwrite=overwrite,
        resume=resume,
        allow_nonfinite=allow_nonfinite,
        hash_inputs=hash_inputs,
        device=device,
        progress=progress,
        cache=cache,
    )
    fit(plan.steps, memory_bytes or default_memory(plan.steps, threads), threads)  # before anything is downloaded
    plan = with_gguf_tokenizer(fetched(plan, out, options.heard, overwrite=overwrite))
    plan = on_device(plan, device_called(device, useful=any(step.cut for step in plan.steps)))
    clock = Clock(load())
    workers = Workers(plan, options)
    shards = lay_out(output_tensors(plan), shard_bytes, plan.layout)
    identity = identity_of(plan, shards, allow_nonfinite=allow_nonfinite)
    place = opened(out, shards, identity, overwrite=overwrite, resume=resume, progress=options.heard)
    with PeakMemory() as peak, place as (writer, journal):
        workers.run(plan.steps, writer, journal)
        record = write_record(plan, writer, workers, options, hash_inputs=hash_inputs)
        if history:
            record = with_provenance(record, stages=list(history))
        if has_masks(plan):
            masks = write_masks(plan, writer, threads=workers.workers, progress=options.heard)
            record = with_provenance(record, masks=[asdict(mask) for mask in masks])
        figures = Figures(
            seconds=clock.seconds(),
            compile_seconds=clock.compile_seconds(),
            bytes_read=workers.bytes_read,
            bytes_written=sum(shard.nbytes for shard in shards),
            peak_memory_bytes=peak.bytes(),
            cast_loss=cast_loss(record, journal.contents.finished),
        )
        workers.inputs.check()
        digest = finish(writer, record, journal.contents.finished, figures)
    warnings = (*plan.warnings, *without_masks(plan, split=False), *journal.warnings())
    return MergeResult(named, digest, figures, warnings, plan.notes)
