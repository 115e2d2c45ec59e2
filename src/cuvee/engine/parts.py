"""A merge split by output files: each part writes its share, anywhere and in any order; `join` makes them one model.

A part depends on the plan only, not on other parts. It needs the folder in which OUT will be, and the inputs.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Unpack

from cuvee.arguments import as_path, checks_options, refused
from cuvee.checkpoint.write import (
    CheckpointWriter,
    Shard,
    bring_back,
    is_set_out,
    lay_out,
    partial_folder,
    refuse_existing,
)
from cuvee.engine.eight_bits import coding_losses, steps_of, told_loss
from cuvee.engine.finish import (
    Record,
    cast_loss,
    finish,
    recorded_layout,
    recorded_tensors,
    with_provenance,
)
from cuvee.engine.identity import difference
from cuvee.engine.journal import Finished, Journal, read_journal
from cuvee.engine.masks import without_masks
from cuvee.engine.options import Options, RunOptions
from cuvee.engine.partial import WHOLE, Part, journal_path
from cuvee.engine.peak import PeakMemory
from cuvee.engine.prepared import prepare
from cuvee.engine.provenance import Figures
from cuvee.engine.run import MergeResult
from cuvee.engine.vouched import damaged_tensors
from cuvee.errors import CheckpointError, RecipeError
from cuvee.hub import Hub
from cuvee.plan import Plan, make_plan
from cuvee.progress import Within
from cuvee.recipe.recipe import Recipe

MOST_SHOWN = 12
"""Missing parts in one message; more are counted."""

_NAME = re.compile(r"journal-(\d+)-of-(\d+)\.jsonl")


@dataclass(frozen=True)
class PartResult:
    """A finished part of a merge.

    - `part`: which of how many it is.
    - `files`: the names of its files of weights; `tensors`: how many tensors are in them.
    - `figures`: as of a `MergeResult`.
    - `missing`: the parts that are not complete yet; if there are none, `join` makes them a model.
    - `warnings`: possible loss and faults.
    """

    part: Part
    files: tuple[str, ...]
    tensors: int
    figures: Figures
    missing: tuple[Part, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()


@checks_options
def merge_part(
    recipe: Recipe | Path | str,
    out: Path | str,
    part: Part,
    *,
    hub: Hub | None = None,
    custom_code: bool = False,
    **options: Unpack[RunOptions],
) -> PartResult:
    """Plan a recipe, or the recipe in a file, and run a part of it. `Options` describes the options."""
    _check_part(part)
    place = as_path(out, "out")
    return run_part(make_plan(recipe, hub=hub, custom_code=custom_code), place, part, **options)


@checks_options
def run_part(plan: Plan, out: Path | str, part: Part, **options: Unpack[RunOptions]) -> PartResult:
    """Write a part's share of the output's files. A complete part stays as it is. `Options` describes the options."""
    _check_part(part)
    return run_part_with(Options(**options), plan, as_path(out, "out"), part)


def run_part_with(options: Options, plan: Plan, out: Path, part: Part) -> PartResult:
    """Run a part as `run_part` does."""
    prepared = prepare(plan, out.absolute(), replace(options, progress=Within(options.heard, f"part {part}")))
    plan, workers = prepared.plan, prepared.workers
    shards = share(prepared.shards, part)
    names = {tensor.name for tensor in chain.from_iterable(shard.tensors for shard in shards)}
    with PeakMemory() as peak, prepared.open_output(out, shards, part) as (writer, journal):
        if journal.contents.complete is None:
            workers.run(steps_of(names, plan), writer, journal)
            # the record of the first part is the one that counts
            record = prepared.write_record(writer, hash_inputs=options.hash_inputs and part.number == 1)
            workers.inputs.check()
            writer.close()
            journal.end({"figures": asdict(prepared.figures(peak, shards)), "record": record})
        figures = _figures(journal)
        writer.keep = True
    missing = tuple(other for other in _parts(part.count) if not _is_complete(out, other))
    warnings = (*plan.warnings, *without_masks(plan, split=True), *journal.warnings())
    return PartResult(part, tuple(shard.file for shard in shards), len(names), figures, missing, warnings, plan.notes)


def _check_part(part: object) -> None:
    if not isinstance(part, Part):
        raise refused(part, "part", "a Part", "Part(2, 3) is the second of three")
    if not 1 <= part.number <= part.count:
        raise RecipeError(f"there is no part {part}", hint="parts are 1/3, 2/3 and 3/3, say")


def share(shards: Sequence[Shard], part: Part) -> tuple[Shard, ...]:
    """Return a part's share of the shards: the largest go first, each to the part that has least."""
    loads = [0] * part.count
    mine: set[str] = set()
    for shard in sorted(shards, key=lambda shard: -shard.nbytes):
        least = loads.index(min(loads))
        loads[least] += shard.nbytes
        if least == part.number - 1:
            mine.add(shard.file)
    return tuple(shard for shard in shards if shard.file in mine)


@checks_options
def join(out: Path | str, *, overwrite: bool = False) -> MergeResult:
    """Make the parts in `.OUT.partial` the folder `out`. Neither recipe nor inputs are needed.

    Raises CheckpointError if parts are missing, not complete, or of different merges, and if a tensor's bytes, which
    are all read back, are not those that its part wrote.
    """
    out = as_path(out, "out")
    bring_back(out)
    refuse_existing(out, overwrite=overwrite)
    parts = _found(out)
    with ExitStack() as stack:
        journals = [stack.enter_context(closing(Journal(journal_path(out, part)))) for part in parts]
        record, finished = _checked(out, parts, journals)
        coded: Mapping[str, str] = record["coded"]
        shards = lay_out(recorded_tensors(record), record["shard_bytes"], recorded_layout(record))
        figures = replace(_sum([_figures(journal) for journal in journals]), cast_loss=cast_loss(record, finished))
        writer = CheckpointWriter(out, shards, overwrite=overwrite, resume=True)
        writer.keep = True
        writer.take_as_written(finished)
        _check_files(writer)
        _check_bytes(writer, journals, parts)
        with writer:
            if coded:
                record = with_provenance(record, eight_bits=coding_losses(coded, finished))
            digest = finish(writer, record, finished, figures)
        for journal in journals:
            journal.remove()
    said = record["provenance"]
    notes = (*said.get("notes", ()), *([told_loss(coded, finished)] if coded else []))
    return MergeResult(out, digest, figures, tuple(said["warnings"]), notes)


def _parts(count: int) -> list[Part]:
    return [Part(number, count) for number in range(1, count + 1)]


def _is_complete(out: Path, part: Part) -> bool:
    return read_journal(journal_path(out, part)).complete is not None


def _found(out: Path) -> list[Part]:
    """List the parts that there must be, once their journals are there."""
    partial = partial_folder(out)
    names = sorted(path.name for path in partial.glob("journal*.jsonl"))
    matches = filter(None, map(_NAME.fullmatch, names))
    found = [Part(int(match[1]), int(match[2])) for match in matches]
    if WHOLE in names:
        hint = "the same `cuvee merge` goes on"
        raise CheckpointError("this merge was begun in one go, not in parts", where=str(partial), hint=hint)
    counts = sorted({part.count for part in found})
    if not counts:
        hint = "make the parts: `cuvee merge RECIPE OUT --part 1/3`, and so on"
        raise CheckpointError("there are no parts to join", where=str(partial), hint=hint)
    if len(counts) > 1:
        raise CheckpointError(f"parts of different splits: {', '.join(map(str, found))}", where=str(partial))
    missing = [part for part in _parts(counts[0]) if not _is_complete(out, part)]
    if missing:
        verb, noun = ("is", "part") if len(missing) == 1 else ("are", "parts")
        more = f" and {len(missing) - MOST_SHOWN} more" if len(missing) > MOST_SHOWN else ""
        message = f"{noun} {', '.join(map(str, missing[:MOST_SHOWN]))}{more} {verb} missing or not complete"
        hint = f"make what is missing: `cuvee merge RECIPE OUT --part {missing[0]}`"
        raise CheckpointError(message, where=str(partial), hint=hint)
    return _parts(counts[0])


def _checked(out: Path, parts: Sequence[Part], journals: Sequence[Journal]) -> tuple[Record, Mapping[str, Finished]]:
    """Return the record of the merge and all finished tensors, once it is seen that the parts belong together."""
    where = str(partial_folder(out))
    finished: dict[str, Finished] = {}
    first = journals[0].contents
    for part, journal in zip(parts, journals, strict=True):
        own = journal.contents
        if not own.is_complete or not first.is_complete:
            raise CheckpointError(f"part {part} is not complete", where=where)
        problem = difference(first.identity or {}, own.identity or {})
        if problem:
            message = f"part {parts[0]} does not belong to part {part}: {problem}"
            raise CheckpointError(message, where=where, hint=f"make part {parts[0]} or {part} again, with --no-resume")
        finished |= own.finished
    assert first.complete is not None, "seen above"
    record: Record = first.complete["record"]
    missing = [name for name, _, _ in record["tensors"] if name not in finished]
    if missing:
        message = f"{len(missing)} tensors are in no part, '{missing[0]}' among them"
        raise CheckpointError(message, where=where, hint="make the parts again, with --no-resume")
    return record, finished


def _check_files(writer: CheckpointWriter) -> None:
    lost = [shard.file for shard in writer.shards if not is_set_out(writer.folder, shard)]
    if lost:
        hint = "give the command of its part again: it makes what is missing"
        raise CheckpointError(f"{lost[0]} is not what its part has written", where=str(writer.folder), hint=hint)


def _check_bytes(writer: CheckpointWriter, journals: Sequence[Journal], parts: Sequence[Part]) -> None:
    for part, journal in zip(parts, journals, strict=True):
        damaged = damaged_tensors(writer.folder, writer.shards, journal.contents.finished)
        if damaged:
            message = f"'{damaged[0]}' is not what part {part} has written"
            hint = "is the disk sound? The command of this part merges again what is damaged"
            raise CheckpointError(message, where=str(writer.folder), hint=hint)


def _figures(journal: Journal) -> Figures:
    complete = journal.contents.complete
    assert complete is not None, "only asked of complete parts"
    return Figures(**complete["figures"])


def _sum(parts: Sequence[Figures]) -> Figures:
    """Add up the figures of the parts. They may have run in turn or at once: the seconds are of work."""
    return Figures(
        seconds=sum(part.seconds for part in parts),
        compile_seconds=sum(part.compile_seconds for part in parts),
        bytes_read=sum(part.bytes_read for part in parts),
        bytes_written=sum(part.bytes_written for part in parts),
        peak_memory_bytes=max(part.peak_memory_bytes for part in parts),
        cast_loss=None,
    )
