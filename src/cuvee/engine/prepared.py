"""A plan made ready to run: its inputs are here, its workers stand by, and its output is laid out in files.

The merge in one go and each part of a split merge begin with this.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from cuvee.checkpoint.write import CheckpointWriter, Shard, lay_out
from cuvee.device import device_called
from cuvee.engine.clock import Clock
from cuvee.engine.fetch import fetched
from cuvee.engine.finish import Record, write_record
from cuvee.engine.gguf_tokenizer import with_gguf_tokenizer
from cuvee.engine.identity import identity_of
from cuvee.engine.journal import Identity, Journal
from cuvee.engine.options import Options
from cuvee.engine.partial import Part, opened
from cuvee.engine.peak import PeakMemory
from cuvee.engine.provenance import Figures
from cuvee.engine.workers import Workers
from cuvee.kernels import load
from cuvee.plan import Plan
from cuvee.plan.eight_bits import written_tensors
from cuvee.plan.matrices import on_device
from cuvee.plan.memory import default_memory, fit


@dataclass(frozen=True)
class Prepared:
    """A plan that can run now.

    - `plan`: the plan, with its models on the disk and its steps on their device.
    - `workers`: they take its steps.
    - `shards`: all files of the output.
    - `identity`: an output that was begun with another identity is refused.
    - `clock`: it runs since the models are on the disk.
    """

    plan: Plan
    options: Options
    workers: Workers
    shards: tuple[Shard, ...]
    identity: Identity
    clock: Clock

    def open_output(
        self, out: Path, shards: Sequence[Shard], part: Part | None = None
    ) -> AbstractContextManager[tuple[CheckpointWriter, Journal]]:
        """Open the hidden folder beside `out`, to write these of the output's files."""
        return opened(
            out,
            shards,
            self.identity,
            part=part,
            overwrite=self.options.overwrite,
            resume=self.options.resume,
            progress=self.options.heard,
        )

    def write_record(self, writer: CheckpointWriter, *, hash_inputs: bool) -> Record:
        """Write the companions of the merged weights; return the record of the merge."""
        return write_record(self.plan, writer, self.workers, self.options, hash_inputs=hash_inputs)

    def figures(self, peak: PeakMemory, shards: Sequence[Shard], cast_loss: float | None = None) -> Figures:
        """Return the figures of a run up to now that has written `shards`."""
        return Figures(
            seconds=self.clock.seconds(),
            compile_seconds=self.clock.compile_seconds(),
            bytes_read=self.workers.bytes_read,
            bytes_written=sum(shard.nbytes for shard in shards),
            peak_memory_bytes=peak.bytes(),
            cast_loss=cast_loss,
        )


def prepare(plan: Plan, out: Path, options: Options) -> Prepared:
    """Make a plan ready to write to the absolute path `out`, and download the models that are still on a hub.

    Raises OutOfBudget for too little memory or disk, CuveeError for models or a device that cannot be had.
    """
    _check_memory(plan, options)  # before any download
    local = with_gguf_tokenizer(fetched(plan, out, options.heard, overwrite=options.overwrite))
    device = device_called(options.device, useful=any(step.cut for step in local.steps))
    ready = on_device(local, device)
    clock = Clock(load())
    workers = Workers(ready, options)
    shards = lay_out(written_tensors(ready), options.shard_bytes, ready.layout)
    identity = identity_of(ready, shards, allow_nonfinite=options.allow_nonfinite)
    return Prepared(ready, options, workers, shards, identity, clock)


def _check_memory(plan: Plan, options: Options) -> None:
    memory = options.memory_bytes
    if memory is None:
        memory = default_memory(plan.steps, options.threads)
    fit(plan.steps, memory, options.threads)
