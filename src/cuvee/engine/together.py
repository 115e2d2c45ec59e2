"""Several recipes merged in one pass: each tensor of their models is read once, and all outputs are made of it."""

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Unpack

from cuvee.arguments import as_path, checks_options, refused
from cuvee.checkpoint import Checkpoint
from cuvee.checkpoint.write import CheckpointWriter, refuse_existing
from cuvee.engine.finish import Record
from cuvee.engine.journal import Journal
from cuvee.engine.options import Options, RunOptions
from cuvee.engine.partial import check_disk
from cuvee.engine.peak import PeakMemory
from cuvee.engine.prepared import Prepared, prepare
from cuvee.engine.provenance import Figures, inputs_of, provenance
from cuvee.engine.rules import Context
from cuvee.engine.run import MergeResult, finished_merge
from cuvee.engine.step import Output, run_steps
from cuvee.engine.workers import Workers
from cuvee.errors import RecipeError
from cuvee.foreign import open_files_partly
from cuvee.hub import Hub
from cuvee.ops.blas import one_thread_a_matrix
from cuvee.plan import MergeStep, Plan, make_plan
from cuvee.plan.memory import default_memory, worker_bytes
from cuvee.progress import Progress, Silent
from cuvee.recipe.recipe import Recipe


@checks_options
def merge_together(
    recipes: Mapping[str, Recipe],
    out: Path | str,
    *,
    hub: Hub | None = None,
    custom_code: bool = False,
    **options: Unpack[RunOptions],
) -> dict[str, MergeResult]:
    """Merge several recipes in one pass over their models, each into the folder of its name in `out`.

    The outputs have the bytes that they have alone. Recipes over the same models share the reading of them. A pass that
    was stopped goes on when it is run again; models that it had finished stay. `Options` describes the options.

    Raises RecipeError for recipes that cannot be merged together, and the errors of `merge`, before anything is read.
    """
    place = as_path(out, "out").absolute()
    chosen = Options(**options)
    plans: dict[str, Plan] = {}
    open_once = cache(open_files_partly)
    for name, recipe in recipes.items():
        if not isinstance(recipe, Recipe):
            raise refused(recipe, f"recipes[{name!r}]", "a Recipe", "`load_sweep` reads a file of several")
        plans[name] = make_plan(recipe, hub=hub, custom_code=custom_code, open_place=open_once)
    return run_together(plans, place, chosen)


def run_together(plans: Mapping[str, Plan], out: Path, options: Options) -> dict[str, MergeResult]:
    """Run plans in one pass, each into the folder of its name in `out`."""
    _check(plans)
    results: dict[str, MergeResult] = {}
    for name, plan in plans.items():
        if result := _earlier(plan, out / name, options):
            results[name] = result
        else:
            refuse_existing(out / name, overwrite=options.overwrite)
    left = {name: plan for name, plan in plans.items() if name not in results}
    if left:
        results |= _run(left, out, options)
    return {name: results[name] for name in plans}


def _check(plans: Mapping[str, Plan]) -> None:
    if not plans:
        raise refused(plans, "recipes", "at least one Recipe")
    for name, plan in plans.items():
        if plan.recipe.align is not None:
            hint = "merge it alone"
            raise RecipeError("'align' repairs one merge, not several in one pass", where=plan.recipe.source, hint=hint)
        if plan.coded:
            message = f"'out_dtype: {plan.recipe.out_dtype}' is for one merge, not several in one pass"
            raise RecipeError(message, where=plan.recipe.source, hint="merge it alone")
        if not name or Path(name).name != name:
            raise RecipeError(f"'{name}' is no name of a folder", where=plan.recipe.source)


def _earlier(plan: Plan, place: Path, options: Options) -> MergeResult | None:
    """Return the result of an earlier run of the same pass, which was stopped when this output was finished."""
    if options.overwrite or not options.resume:
        return None
    try:
        record = json.loads((place / "cuvee.json").read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps(_identifying(provenance(plan, inputs_of(plan)))))
        if _identifying(record) != wanted:
            return None
        return MergeResult(place, record["weights_digest"], Figures(**record["figures"]), (), plan.notes)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _identifying(record: Record) -> dict[str, Any]:
    return {key: record[key] for key in ("cuvee", "recipe_digest", "plan_digest", "inputs")}


def _run(plans: Mapping[str, Plan], out: Path, options: Options) -> dict[str, MergeResult]:
    options = replace(options, memory_bytes=_memory(plans.values(), options))
    prepared = {name: prepare(plan, out / name, options) for name, plan in plans.items()}
    with ExitStack() as stack:
        peak = stack.enter_context(PeakMemory())
        runs = {}
        for name, own in prepared.items():
            writer, journal = stack.enter_context(own.open_output(out / name, own.shards))
            runs[name] = _Run(own, writer, journal)
        check_disk([run.writer for run in runs.values()])
        _Pass(list(runs.values()), options.heard).run()
        results = {}
        for name, run in runs.items():
            results[name] = finished_merge(run.prepared, out / name, run.writer, run.journal, peak)
        return results


def _memory(plans: Iterable[Plan], options: Options) -> int:
    """Return the budget for all recipes: that of the recipe that needs most."""
    if options.memory_bytes is not None:
        return options.memory_bytes
    return max(default_memory(plan.steps, options.threads) for plan in plans)


@dataclass(frozen=True)
class _Run:
    """One recipe of the pass, with its output open."""

    prepared: Prepared
    writer: CheckpointWriter
    journal: Journal

    @property
    def workers(self) -> Workers:
        return self.prepared.workers


@dataclass(frozen=True)
class _Job:
    """A step of a recipe of the pass."""

    run: _Run
    context: Context
    step: MergeStep

    def output(self) -> Output:
        return Output(self.step, self.context, partial(self.run.writer.write, self.step.name))

    def reads(self) -> Hashable:
        """Return a key that is equal for steps whose blocks are the same."""
        step, workers = self.step, self.run.workers
        read = []
        for given in step.all_inputs:
            source = workers.plan.sources[given.model]
            rows = given.rows.digest if given.rows is not None else None
            where = str(source.path) if isinstance(source, Checkpoint) else id(source)
            read.append((where, given.tensor, given.dtype, rows))
        form = (step.action == "copy", step.base is not None, step.block, step.chunk(workers.chunk))
        return (tuple(read), workers.computed_in(step), form)


class _Pass:
    """One pass over the models for several recipes: tensor after tensor, all recipes on each."""

    def __init__(self, runs: Sequence[_Run], progress: Progress) -> None:
        self.runs = runs
        self.progress = progress
        workers = [run.workers for run in runs]
        self.lead = min(workers, key=lambda own: own.workers)
        self.lead.chunk = min(own.chunk for own in workers)
        for own in workers:
            own.progress = Silent()
            own.follow(self.lead)

    def run(self) -> None:
        """Make all tensors that are not finished yet."""
        steps = chain.from_iterable(run.workers.steps for run in self.runs)
        on_matrices = any(step.cut for step in steps)
        with one_thread_a_matrix() if on_matrices else nullcontext():
            tensors = self._tensors()
            self.progress.start("merge", sum(map(len, tensors)), "tensors")
            for _ in self.lead.in_order(self._make, tensors):
                pass
            self.progress.finish()

    def _tensors(self) -> list[list[_Job]]:
        """List the jobs by the tensor that they make, once whole models are measured."""
        tensors: dict[str, list[_Job]] = defaultdict(list)
        for run in self.runs:
            names = {step.name for step in run.workers.steps} - set(run.journal.contents.finished)
            context, steps = run.workers.begin(names)
            for step in steps:
                tensors[step.name].append(_Job(run, context, step))
        return list(tensors.values())

    def _make(self, jobs: Sequence[_Job]) -> None:
        alike: dict[Hashable, list[_Job]] = defaultdict(list)
        for job in jobs:
            alike[job.reads()].append(job)
        for shared in alike.values():
            self._make_alike(shared)

    def _make_alike(self, jobs: Sequence[_Job]) -> None:
        first = max(jobs, key=lambda job: worker_bytes(job.step, self.lead.chunk, kept=True))
        trusting = all(job.run.workers.shows_nonfinite(job.step) for job in jobs)
        blocks = first.run.workers.blocks(first.step, trusting=trusting, shared=len(jobs) > 1)
        room = blocks.room
        for together in _at_once(jobs):
            blocks.room = room // len(together)
            results = run_steps([job.output() for job in together], blocks)
            for job, result in zip(together, results, strict=True):
                job.run.workers.note_step(job.step, result, job.run.journal.add, blocks)
                self.progress.advance(1)
        for job in jobs:
            if job is not first:
                job.run.workers.count_shared(blocks)


def _at_once(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Group jobs on the same blocks: those that hold a tensor between passes are alone, so that memory is for one."""
    light: list[_Job] = []
    groups = [light]
    for job in jobs:
        if job.step.whole or job.step.holds:
            groups.append([job])
        else:
            light.append(job)
    return groups if light else groups[1:]
