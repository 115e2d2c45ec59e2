"""A merge spread over the slots of an executor: each file of the output is a part, and a lost slot costs one part.

Every machine needs the inputs, and the folder in which the output will be, under the same paths.
"""

from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from cuvee.arguments import checks_options
from cuvee.catalogue import language
from cuvee.checkpoint.write import lay_out, refuse_existing
from cuvee.engine.options import Options, RunOptions
from cuvee.engine.partial import Part
from cuvee.engine.parts import join, run_part_with
from cuvee.engine.run import MergeResult
from cuvee.errors import CheckpointError, PlatformError, RecipeError
from cuvee.executor import Executor, call_each
from cuvee.executor.each import MOST_ATTEMPTS
from cuvee.hub import Hub
from cuvee.plan import make_plan
from cuvee.plan.eight_bits import written_tensors
from cuvee.progress import Progress
from cuvee.recipe.load import parse_recipe
from cuvee.recipe.recipe import Recipe


@dataclass(frozen=True)
class SharedMerge:
    """A merge as its parts need it in other processes: plain values, and the recipe as text.

    `current` is the current folder of the caller, from which relative paths are meant.
    """

    text: str
    source: str
    folder: Path | None
    current: Path
    out: Path
    offline: bool
    custom_code: bool
    options: Options


@checks_options
def merge_by_shards(
    recipe: Recipe,
    out: Path,
    executor: Executor,
    *,
    offline: bool = False,
    custom_code: bool = False,
    **options: Unpack[RunOptions],
) -> MergeResult:
    """Merge a recipe over an executor, to the bytes that `merge` gives with the same `shard_bytes`.

    The merge takes up complete parts of an earlier run. `Options` describes the options.
    Raises the errors of planning, CheckpointError for a part that fails, PlatformError for a part that is lost
    three times.
    """
    if recipe.align is not None:
        hint = "merge without it, and use `cuvee align` then"
        raise RecipeError("'align' works on a whole merge, not on parts of it", where=recipe.source, hint=hint)
    chosen, place = Options(**options), out.absolute()
    refuse_existing(place, overwrite=chosen.overwrite)
    plan = make_plan(recipe, hub=Hub(offline=offline), custom_code=custom_code)
    count = len(lay_out(written_tensors(plan), chosen.shard_bytes, plan.layout))
    shared = SharedMerge(
        recipe.text,
        recipe.source,
        recipe.folder and recipe.folder.absolute(),
        Path.cwd(),
        place,
        offline,
        custom_code,
        replace(chosen, progress=None),  # it hears in this process only
    )
    progress = chosen.heard
    progress.start("merge", count, "parts")
    try:
        _run_parts(executor, [Part(number, count) for number in range(1, count + 1)], shared, progress)
    finally:
        progress.finish()
    return join(place, overwrite=chosen.overwrite)


def _run_parts(executor: Executor, parts: list[Part], shared: SharedMerge, progress: Progress) -> None:
    """Run all parts, each in the next slot that is free, and those that were lost again."""
    for place, done in call_each(executor, run_shared_part, [(part, shared) for part in parts]):
        if done.lost:
            message = f"part {parts[place]} was lost {MOST_ATTEMPTS} times: {done.failure}"
            raise PlatformError(message, hint="the same command goes on with what is left to do")
        if done.failure:
            raise CheckpointError(done.failure, where=f"part {parts[place]}")
        progress.advance(1)


def run_shared_part(work: tuple[Part, SharedMerge]) -> None:
    """Run one part of a merge in the current folder of its caller: a function to submit to an executor."""
    part, shared = work
    with chdir(shared.current):
        recipe = parse_recipe(shared.text, language(), source=shared.source, folder=shared.folder)
        plan = make_plan(recipe, hub=Hub(offline=shared.offline), custom_code=shared.custom_code)
        run_part_with(shared.options, plan, shared.out, part)
