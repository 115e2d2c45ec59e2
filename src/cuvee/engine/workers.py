"""Workers that take a plan's steps, read, compute and write, and note finished tensors in the journal."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial, reduce
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.write import CheckpointWriter
from cuvee.device import TorchDevice
from cuvee.engine.blocks import Blocks, Scratch
from cuvee.engine.eight_bits import Encoder, is_finished
from cuvee.engine.journal import Finished, Journal
from cuvee.engine.known_changes import KnownChanges
from cuvee.engine.known_folds import KnownFolds
from cuvee.engine.measures import is_measured, with_measured_scales, with_measured_weights
from cuvee.engine.options import Options
from cuvee.engine.rules import Context
from cuvee.engine.step import Loss, Norms, measure_step, run_step
from cuvee.engine.surveys import Found, fold_blocks, survey_model
from cuvee.engine.unchanged import InputFiles
from cuvee.errors import RecipeError
from cuvee.kernels import prepare
from cuvee.ops.blas import one_thread_a_matrix
from cuvee.ops.survey import Fold
from cuvee.plan import MergeStep, Plan
from cuvee.plan.memory import (
    computing_dtype,
    default_memory,
    fit,
    fits_whole,
    keeps,
    loaded_dtype,
    readings,
    worker_bytes,
)
from cuvee.plan.plan import merged_steps
from cuvee.plan.statistics import check_statistics

_MATRICES_AHEAD = 16
"""How many steps a worker may run ahead of the oldest unfinished step, where the steps are whole matrices."""

Write = Callable[[str, int, np.ndarray], None]
"""Takes bytes of an output tensor: its name, the position of the first, the bytes."""

_T = TypeVar("_T")
_S = TypeVar("_S")


class Workers:
    """A run of a plan. State: bytes read so far, and whether to stop.

    `changes` keeps the results of matrix methods, for other merges of models that stay as they are.
    """

    def __init__(self, plan: Plan, options: Options, *, changes: KnownChanges | None = None) -> None:
        if plan.recipe.align is not None:
            message = "the recipe says 'align', and this merges without it"
            hint = "`cuvee merge` does both; in Python `cuvee.calibrate.merge_aligned`"
            raise RecipeError(message, where=plan.recipe.source, hint=hint)
        self.plan = plan
        self.inputs = InputFiles(plan.sources)
        self.steps = plan.steps
        """The plan's steps; once run, with what was measured."""
        memory = default_memory(plan.steps, options.threads) if options.memory_bytes is None else options.memory_bytes
        fitting, self.workers = fit(plan.steps, memory, options.threads)
        self.chunk = options.chunk or fitting
        # with a chunk size of one's own steps are read as often as their surveys ask, whatever would fit
        self.granted = 0 if options.chunk else memory // self.workers
        self.allow_nonfinite = options.allow_nonfinite
        self.progress = options.heard
        self.cache = options.cache
        self.changes = changes
        self.wide = computing_dtype(plan.steps)
        self.kernels = prepare(options.heard, self._entries(), simple=plan.method.kind == "coefficient")
        self.bytes_read = 0
        self.asked = len(plan.steps)
        """Steps of this run, and how many of them are done."""
        self.done = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._own = threading.local()

    def _entries(self) -> int | None:
        """Return how many entries the inputs have; None where numbers are not computed in float32."""
        if self.wide != np.float32 or self.plan.recipe.compute_dtype != "float32":
            return None
        return sum(step.elements * len(step.all_inputs) for step in self.steps)

    def run(self, steps: Sequence[MergeStep], writer: CheckpointWriter, journal: Journal) -> None:
        """Run the unfinished steps. Surveys of whole models read all inputs of the plan for it."""
        tensors = {tensor.name for tensor in chain.from_iterable(shard.tensors for shard in writer.shards)}
        finished = [step for step in steps if is_finished(step, self.plan, tensors, journal.contents.finished)]
        done = {step.name for step in finished}
        unfinished = {step.name for step in steps} - done
        self.asked = len(steps)
        self.done = len(finished)
        self.progress.start("merge", self._forecast(steps), "bytes")
        self.progress.advance(self._forecast(finished))
        if unfinished or is_measured(self.plan):
            encoder = Encoder(self.plan, tensors, writer.write, journal.add)
            self._run(unfinished, encoder.write, encoder.note)
        self.progress.finish()

    def run_all(self, write: Write) -> dict[str, Finished]:
        """Run all steps, hand their bytes to `write`, and return the record of each output by its name.

        Raises CheckpointError if an input changed meanwhile.
        """
        if self.plan.coded:
            hint = "`cuvee merge` writes it; or say bfloat16 here, and use `cuvee export fp8`"
            recipe = self.plan.recipe
            raise RecipeError(f"'out_dtype: {recipe.out_dtype}' is for folders", where=recipe.source, hint=hint)
        finished: dict[str, Finished] = {}
        self._run({step.name for step in self.plan.steps}, write, finished.__setitem__)
        self.inputs.check()
        return finished

    def _run(self, names: Collection[str], write: Write, note: Callable[[str, Finished], None]) -> None:
        """Run the steps of these names. Measurements over the whole model come first."""
        with one_thread_a_matrix() if self._on_matrices else nullcontext():
            self._run_all(names, write, note)

    @property
    def _on_matrices(self) -> bool:
        return any(step.cut for step in self.steps)

    def _run_all(self, names: Collection[str], write: Write, note: Callable[[str, Finished], None]) -> None:
        context, left = self.begin(names)
        for _ in self.in_order(partial(self.run_step, context, write, note), left):
            pass

    def begin(self, names: Collection[str]) -> tuple[Context, list[MergeStep]]:
        """Measure the facts of the whole model; return the context of all steps, and the steps of these names."""
        recipe = self.plan.recipe
        check_statistics(self.plan)
        steps = with_measured_weights(
            self.plan, lambda fold: self._known(["norms"], partial(self._over_all_steps, fold))
        )
        known = survey_model(
            self.plan.method,
            steps,
            self.kernels,
            recipe.semantics,
            self._surveyed(),
            self._over_all_steps,
            self._known,
        )
        context = self._context(known)
        steps = with_measured_scales(self.plan, steps, partial(self.in_order, partial(self._measure, context)))
        self.steps = steps
        return context, [step for step in steps if step.name in names]

    def follow(self, lead: "Workers") -> None:
        """Do steps in the threads of another run, with its memory, and stop with it."""
        self.workers, self.granted, self.chunk = lead.workers, lead.granted, lead.chunk
        self._own, self._stop = lead._own, lead._stop

    def _context(self, known: Found) -> Context:
        plan, recipe = self.plan, self.plan.recipe
        return Context(
            method=plan.method,
            semantics=recipe.semantics,
            seed=recipe.seed,
            kernels=self.kernels,
            allow_nonfinite=self.allow_nonfinite,
            known=known,
            rounding=recipe.rounding,
            post=recipe.post,
            device=None if plan.device == "cpu" else TorchDevice(plan.device),
            statistics=plan.statistics,
            changes=None if self.changes is None else self.changes.of(plan),
        )

    def _forecast(self, steps: Sequence[MergeStep]) -> int:
        share = sum(map(_input_bytes, steps)) / max(sum(map(_input_bytes, self.plan.steps)), 1)
        return round(self.plan.forecast.bytes_read * share)

    def run_step(self, context: Context, write: Write, note: Callable[[str, Finished], None], step: MergeStep) -> None:
        """Run a step on blocks of its own."""
        blocks = self.blocks(step, trusting=self.shows_nonfinite(step))
        self.note_step(step, run_step(step, blocks, context, partial(write, step.name)), note, blocks)

    def note_step(
        self, step: MergeStep, result: tuple[str, Loss], note: Callable[[str, Finished], None], blocks: Blocks
    ) -> None:
        """Note a finished step, with the digest and the loss that are its result."""
        note(step.name, Finished(*result))
        forecast = readings(step, self._sources(step), self.granted) * _input_bytes(step)
        with self._lock:
            self.done += 1
            self.progress.advance(max(forecast - blocks.bytes_read, 0))  # surveys may end early
            self.progress.note(f"{self.done} of {self.asked} tensors")

    def _measure(self, context: Context, step: MergeStep) -> Norms:
        return measure_step(step, self.blocks(step), context)

    def _over_all_steps(self, fold: Fold) -> Any:
        wide = self._surveyed()
        alone = wide if wide.itemsize == 8 else None  # the bits of float64 numbers cannot be counted with others
        merges = merged_steps(self.plan.steps)
        states = self.in_order(lambda step: fold_blocks(fold, self.blocks(step, alone)), merges)
        return reduce(fold.merge, states)

    def _known(self, question: Sequence[object], run: Callable[[], Any]) -> Any:
        return KnownFolds(self.cache, self.plan).get(question, run) if self.cache else run()

    def _surveyed(self) -> np.dtype:
        """Return the type in which the whole model is surveyed: float64 where any step is computed in it."""
        widths = {self.computed_in(step).itemsize for step in merged_steps(self.plan.steps)}
        return np.dtype(np.float64 if 8 in widths else np.float32)

    def computed_in(self, step: MergeStep) -> np.dtype:
        """Return the type that a step is computed in."""
        loaded = loaded_dtype(self.plan.recipe, step) if step.is_merged else None
        return self.wide if loaded is None else loaded

    def blocks(
        self, step: MergeStep, dtype: np.dtype | None = None, *, trusting: bool = False, shared: bool = False
    ) -> Blocks:
        """Return the blocks of a step. Those that several runs share stay in memory between them, where they fit."""
        kept = fits_whole(step, self.granted) if shared else keeps(step, self._sources(step), self.granted)
        if not kept and worker_bytes(step, self.chunk) + self._scratch().nbytes > self.granted:
            self._scratch().give_back()  # what another step kept must not add to what this one holds
        return Blocks(
            step,
            self.plan.sources,
            self.kernels,
            chunk=self.chunk,
            kept=kept,
            spare=self.granted - worker_bytes(step, self.chunk, kept=kept),
            scratch=self._scratch(),
            dtype=self.computed_in(step) if dtype is None else dtype,
            trusting=self.allow_nonfinite or trusting,
            count_bytes=self._count,
            shared=shared,
        )

    def _sources(self, step: MergeStep) -> list[TensorSource]:
        return [self.plan.sources[given.model] for given in step.all_inputs]

    def shows_nonfinite(self, step: MergeStep) -> bool:
        """Say whether the merged tensor is not finite wherever an input is not, so that to look at it is enough."""
        method, recipe = self.plan.method, self.plan.recipe
        of_model = method.surveying(recipe.semantics, step.settings, whole_model=True)
        return method.kind == "coefficient" and not of_model and not step.whole and recipe.rounding == "nearest"

    def _scratch(self) -> Scratch:
        if not hasattr(self._own, "scratch"):
            self._own.scratch = Scratch()
        scratch: Scratch = self._own.scratch
        return scratch

    def _count(self, nbytes: int) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        with self._lock:
            self.bytes_read += nbytes
            self.progress.advance(nbytes)

    def count_shared(self, blocks: Blocks) -> None:
        """Count the bytes that another run has read for this run, too."""
        with self._lock:
            self.bytes_read += blocks.bytes_read

    def in_order(self, work: Callable[[_S], _T], items: Sequence[_S]) -> Iterator[_T]:
        """Give work(item) for each item in order, with as many workers as fit; few results wait at a time."""
        if self.workers == 1:
            yield from map(work, items)
            return
        waiting: deque[Future[_T]] = deque()
        # matrices take from moments to minutes: while one takes long, the other workers go on with more of them
        ahead = self.workers * (_MATRICES_AHEAD if self._on_matrices else 1)
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(work, item))
                    if len(waiting) > ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BaseException:
                self._stop.set()
                for future in waiting:
                    future.cancel()
                raise


def _input_bytes(step: MergeStep) -> int:
    return sum(step.elements * NUMPY[given.dtype].itemsize for given in step.all_inputs)
