"""The hidden folder in which an output is made: taken up where an earlier run stopped, and left so that another can.

`.OUT.partial` holds `model`, which becomes OUT, and a journal for the merge in one go or for each part of a split one.
It remains only if at least one tensor in it is finished and the same command can go on.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cuvee.amounts import bytes_text
from cuvee.checkpoint.write import (
    CheckpointWriter,
    Shard,
    bring_back,
    is_set_out,
    partial_folder,
    refuse_existing,
    remove_empty,
)
from cuvee.descriptors import allocated_bytes
from cuvee.engine.identity import difference
from cuvee.engine.journal import Contents, Identity, Journal, read_journal
from cuvee.engine.vouched import damaged_tensors
from cuvee.errors import OutOfBudget, PlatformError, RecipeError
from cuvee.progress import Progress

SPARE_DISK = 16_000_000
"""Bytes beyond the weights that must be free: headers, companions, file system."""


@dataclass(frozen=True)
class Part:
    """Part `number` (from 1) of `count`."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = "journal.jsonl"


def journal_path(out: Path, part: Part | None) -> Path:
    """Return where the journal of a merge to `out` is."""
    return partial_folder(out) / (f"journal-{part.number}-of-{part.count}.jsonl" if part else WHOLE)


@contextmanager
def opened(
    out: Path,
    shards: Sequence[Shard],
    identity: Identity,
    *,
    part: Part | None = None,
    overwrite: bool = False,
    resume: bool = True,
    progress: Progress,
) -> Iterator[tuple[CheckpointWriter, Journal]]:
    """Open the folder to write `shards`. At the end all of it goes, unless `writer.keep` is set.

    The finished tensors of an earlier run are read back first; `journal.damaged` are those that are to be merged again.

    After an interruption or a failure of the machine it stays if a tensor is finished, and the error says so. Raises
    RecipeError for an output that was begun with another recipe, other inputs or another layout.
    """
    journal = Journal(journal_path(out, part))
    writer = CheckpointWriter(out, shards, overwrite=overwrite, resume=True)
    writer.keep = True  # until it is known that what is there belongs to this merge
    keep_journal = False
    try:
        try:
            _take_up(writer, journal, identity, part, resume)
            _drop_damaged(writer, journal, progress)
            bring_back(out)
            refuse_existing(out, overwrite=overwrite)
            check_disk([writer])
        finally:
            keep_journal = _holds_something(journal.contents, writer)
        writer.take_as_written(journal.contents.finished)
        with writer:
            writer.keep = False
            try:
                yield writer, journal
            except (KeyboardInterrupt, MemoryError, PlatformError) as error:
                writer.keep = bool(journal.contents.finished) and writer.folder.exists()
                if writer.keep:
                    _say_that_it_goes_on(error, f"{len(journal.contents.finished)} of {writer.count} tensors are done")
                raise
            finally:
                keep_journal = writer.keep
    finally:
        journal.close() if keep_journal else _remove(journal, writer)


def _remove(journal: Journal, writer: CheckpointWriter) -> None:
    """Remove a journal. Without any, nothing can be taken up, and the rest goes too."""
    journal.remove()
    if not any(writer.partial.glob("journal*.jsonl")):
        shutil.rmtree(writer.folder, ignore_errors=True)
        remove_empty(writer.partial)


def _holds_something(contents: Contents, writer: CheckpointWriter) -> bool:
    return contents.begun and writer.folder.exists()


def _take_up(writer: CheckpointWriter, journal: Journal, identity: Identity, part: Part | None, resume: bool) -> None:
    """Check that the folder is of this merge, and keep its finished tensors."""
    if not resume:
        journal.clear()
    _check_others(writer, journal.path, identity, part, resume)
    begun = journal.contents
    if not _holds_something(begun, writer) or begun.identity is None:
        journal.clear()
    elif problem := difference(begun.identity, identity):
        raise _refused(writer, problem)
    ready: set[str] = set()
    for shard in writer.shards:
        if is_set_out(writer.folder, shard):
            ready.update(tensor.name for tensor in shard.tensors)
    journal.keep_only(ready)
    if journal.contents.identity is None:
        journal.begin(identity)


def _drop_damaged(writer: CheckpointWriter, journal: Journal, progress: Progress) -> None:
    """Forget finished tensors whose bytes on the disk are no longer those that were written."""
    finished = journal.contents.finished
    journal.damaged = tuple(damaged_tensors(writer.folder, writer.shards, finished, progress))
    if journal.damaged:
        journal.keep_only(finished.keys() - set(journal.damaged))


def _check_others(writer: CheckpointWriter, own: Path, identity: Identity, part: Part | None, resume: bool) -> None:
    """Check the other journals. Parts of the same merge stay; others go if they are worth nothing, or if asked to."""
    others = sorted(set(writer.partial.glob("journal*.jsonl")) - {own})
    for path in others:
        other = read_journal(path)
        problem = _unlike(path, other, identity, part)
        if problem is None:
            continue
        if resume and _holds_something(other, writer):
            raise _refused(writer, problem)
        Journal(path).remove()
    remain = any(path.exists() for path in others)
    if not resume and not remain:
        shutil.rmtree(writer.folder, ignore_errors=True)


def _unlike(path: Path, other: Contents, identity: Identity, part: Part | None) -> str | None:
    """Say why another journal is not of the same split of the same merge; None if it is."""
    if part is None or not path.name.endswith(f"-of-{part.count}.jsonl"):
        return f"it is not split into the same parts ({path.name})"
    return None if other.identity is None else difference(other.identity, identity)


def _refused(writer: CheckpointWriter, problem: str) -> RecipeError:
    message = f"a merge to this output was begun, but {problem}"
    hint = "go on with what it was begun with, or remove that and start anew: --no-resume"
    return RecipeError(message, where=str(writer.partial), hint=hint)


def check_disk(writers: Sequence[CheckpointWriter]) -> None:
    """Raise OutOfBudget if the disk of the first has too little room for the outputs of all, as far as they go."""
    needed = there = 0
    for writer in writers:
        needed += sum(shard.nbytes for shard in writer.shards)
        files = [writer.folder / shard.file for shard in writer.shards]
        there += sum(allocated_bytes(file.stat()) for file in files if file.exists())
    first = writers[0]
    free = shutil.disk_usage(first.partial).free
    spare = SPARE_DISK * len(writers)
    if free < max(needed - there, 0) + spare:
        what = "the output takes" if len(writers) == 1 else f"the {len(writers)} outputs take"
        amounts = f"{bytes_text(needed)}, and up to {bytes_text(spare)} for smaller files"
        message = f"{what} {amounts}; {bytes_text(free + there)} are free"
        hint = "free some space, or write elsewhere"
        raise OutOfBudget(message, where=str(first.out.absolute().parent), hint=hint)


def _say_that_it_goes_on(error: BaseException, done: str) -> None:
    if isinstance(error, PlatformError):
        free = "free some space; " if isinstance(error, OutOfBudget) else ""
        error.hint = f"{free}the same command then goes on: {done}"
    else:
        error.args = (f"interrupted; {done}, and the same command goes on",)
