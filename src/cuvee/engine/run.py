"""Runs a plan: workers take steps, tensors go to known offsets, the folder appears when all of it is there."""

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cuvee.checkpoint.companions import copy_companions, merged_config
from cuvee.checkpoint.digest import digest_of_entries
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out, refuse_existing
from cuvee.engine.blocks import Blocks
from cuvee.engine.card import model_card
from cuvee.engine.measures import with_measured_scales, with_measured_weights
from cuvee.engine.peak import PeakMemory
from cuvee.engine.provenance import Figures, as_mergekit, provenance
from cuvee.engine.step import Context, Loss, Norms, measure_step, run_step
from cuvee.engine.surveys import fold_blocks, survey_model
from cuvee.errors import OutOfBudget, RecipeError
from cuvee.kernels import prepare
from cuvee.ops.survey import Fold
from cuvee.plan import MergeStep, Plan, make_plan
from cuvee.plan.memory import DEFAULT_MEMORY, computing_dtype, fit
from cuvee.progress import Progress, Silent
from cuvee.recipe.recipe import Recipe

DEFAULT_SHARD = 5_000_000_000

SPARE_DISK = 16_000_000
"""Bytes beyond the weights that must be free: headers, companions, file system."""

Write = Callable[[str, int, np.ndarray], None]
"""Takes bytes of an output tensor: its name, the position of the first, the bytes."""

_T = TypeVar("_T")
_S = TypeVar("_S")


@dataclass(frozen=True)
class MergeResult:
    """A finished merge: where it is, its weights' digest, what it took, what a reader should know."""

    folder: Path
    digest: str
    figures: Figures
    warnings: tuple[str, ...]


def merge(recipe: Recipe, out: Path | str, **options: Any) -> MergeResult:
    """Plan and run a recipe. Options are those of `run_plan`."""
    return run_plan(make_plan(recipe), Path(out), **options)


def run_plan(
    plan: Plan,
    out: Path,
    *,
    memory_bytes: int = DEFAULT_MEMORY,
    threads: int = 1,
    shard_bytes: int = DEFAULT_SHARD,
    chunk: int | None = None,
    overwrite: bool = False,
    allow_nonfinite: bool = False,
    progress: Progress | None = None,
) -> MergeResult:
    """Write the merged model to the folder `out`, which appears complete or not at all.

    `memory_bytes` bounds the private memory of buffers; `chunk` (elements) overrides the size that fits it. Raises
    OutOfBudget for too little memory or disk, CheckpointError for bad inputs, MethodError for a method that fails.
    """
    named, out = out, out.absolute()
    if not out.name:
        raise RecipeError("the output is a folder with a name", where=str(named))
    run = _Run(plan, memory_bytes, threads, chunk, allow_nonfinite, progress or Silent())
    tensors = [OutputTensor(step.name, step.dtype, step.shape) for step in plan.steps]
    shards = lay_out(tensors, shard_bytes)
    refuse_existing(out, overwrite=overwrite)
    _check_disk(out, sum(shard.nbytes for shard in shards))
    started = time.perf_counter()
    with PeakMemory() as peak, CheckpointWriter(out, shards, overwrite=overwrite) as writer:
        digests, loss = run.steps(writer.write)
        entries = [(s.name, s.dtype, s.shape, digests[s.name]) for s in plan.steps]
        figures = Figures(
            seconds=time.perf_counter() - started,
            bytes_read=run.bytes_read,
            bytes_written=sum(shard.nbytes for shard in shards),
            peak_memory_bytes=peak.bytes(),
            cast_loss=(loss.lost / loss.moved) ** 0.5 if loss.moved else None,
        )
        digest = digest_of_entries(entries)
        _write_companions(plan, writer, digest, figures)
        writer.finish()
    return MergeResult(named, digest, figures, plan.warnings)


def run_steps(plan: Plan, write: Write, *, threads: int = 1) -> None:
    """Run all steps of a plan whose inputs are in memory, without a limit of memory."""
    _Run(plan, sys.maxsize, threads, None, False, Silent()).steps(write)


class _Run:
    """One run of a plan. State: bytes read so far, and whether to stop."""

    def __init__(
        self,
        plan: Plan,
        memory_bytes: int,
        threads: int,
        chunk: int | None,
        allow_nonfinite: bool,
        progress: Progress,
    ) -> None:
        self.plan = plan
        fitting, self.workers = fit(plan.steps, memory_bytes, threads)
        self.chunk = chunk or fitting
        self.allow_nonfinite = allow_nonfinite
        self.progress = progress
        self.kernels = prepare(progress)
        self.wide = computing_dtype(plan.steps)
        self.bytes_read = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def steps(self, write: Write) -> tuple[dict[str, str], Loss]:
        """Run all steps and return each tensor's digest and what the cast lost in all."""
        self.progress.start("merge", self.plan.forecast.bytes_read, "bytes")
        method, semantics, rounding = self.plan.method, self.plan.recipe.semantics, self.plan.recipe.rounding
        steps = with_measured_weights(self.plan, self._over_all_steps)
        known = survey_model(method, steps, self.kernels, semantics, self.wide, self._over_all_steps)
        context = Context(method, semantics, self.plan.recipe.seed, self.kernels, self.allow_nonfinite, known, rounding)
        steps = with_measured_scales(self.plan, steps, partial(self._in_order, partial(self._measure, context)))
        digests: dict[str, str] = {}
        total = Loss()
        work = partial(self._run_step, context, write)
        for step, (digest, loss) in zip(steps, self._in_order(work, steps), strict=True):
            digests[step.name] = digest
            total.lost += loss.lost
            total.moved += loss.moved
        self.progress.finish()
        return digests, total

    def _run_step(self, context: Context, write: Write, step: MergeStep) -> tuple[str, Loss]:
        return run_step(step, self._blocks(step), context, partial(write, step.name))

    def _measure(self, context: Context, step: MergeStep) -> Norms:
        return measure_step(step, self._blocks(step), context)

    def _over_all_steps(self, fold: Fold) -> Any:
        merges = [step for step in self.plan.steps if step.action == "merge"]
        state = None
        for found in self._in_order(lambda step: fold_blocks(fold, self._blocks(step)), merges):
            state = found if state is None else fold.merge(state, found)
        return state

    def _blocks(self, step: MergeStep) -> Blocks:
        recipe = self.plan.recipe
        rounding = _loaded_dtype(self.plan, step) if recipe.compute_dtype == "as_loaded" else None
        return Blocks(
            step,
            self.plan.sources,
            self.kernels,
            chunk=self.chunk,
            wide=self.wide,
            compute_dtype=rounding,
            allow_nonfinite=self.allow_nonfinite,
            count_bytes=self._count,
        )

    def _count(self, nbytes: int) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        with self._lock:
            self.bytes_read += nbytes
            self.progress.advance(nbytes)

    def _in_order(self, work: Callable[[_S], _T], items: Sequence[_S]) -> Iterator[_T]:
        """Give work(item) for each item in order, with as many workers as fit; few results wait at a time."""
        if self.workers == 1:
            yield from map(work, items)
            return
        waiting: deque[Future[_T]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(work, item))
                    if len(waiting) > 2 * self.workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BaseException:
                self._stop.set()
                for future in waiting:
                    future.cancel()
                raise


def _loaded_dtype(plan: Plan, step: MergeStep) -> str | None:
    """Return the type that inputs are cast to when loaded, as in mergekit: the recipe's dtype, or the inputs' own."""
    from cuvee.checkpoint.dtypes import WORDS, promoted

    return plan.recipe.dtype or WORDS[promoted([given.dtype for given in step.all_inputs])]


def _check_disk(out: Path, nbytes: int) -> None:
    parent = out.absolute().parent
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if free < nbytes + SPARE_DISK:
        message = f"the output takes {nbytes / 1e9:.2f} GB and {free / 1e9:.2f} GB are free"
        raise OutOfBudget(message, where=str(parent), hint="free some space, or write elsewhere")


def _write_companions(plan: Plan, writer: CheckpointWriter, digest: str, figures: Figures) -> None:
    donor = plan.sources[plan.donor]
    copied = copy_companions(donor.place, writer.partial) if donor.place is not None else []
    if donor.config:
        writer.write_file("config.json", merged_config(donor.config, dict(plan.config_changes)))
    writer.write_file("recipe.yaml", plan.recipe.text)
    if (mergekit := as_mergekit(plan.recipe)) is not None:
        writer.write_file("mergekit_config.yml", mergekit)
    writer.write_file("README.md", model_card(plan, digest, copied))
    writer.write_file("cuvee.json", provenance(plan, digest, figures))
