"""A merge spread over the slots of an executor: each file of the output is a part, and a lost slot costs one part.

Every machine needs the inputs, and the folder in which the output will be, under the same paths.
"""

from collections import Counter, deque
from contextlib import chdir
from pathlib import Path
from typing import Any

from cuvee.addition import language
from cuvee.checkpoint.write import lay_out, refuse_existing
from cuvee.engine.finish import output_tensors
from cuvee.engine.partial import Part
from cuvee.engine.parts import join, merge_part
from cuvee.engine.run import MergeResult
from cuvee.engine.workers import DEFAULT_SHARD
from cuvee.errors import CheckpointError, PlatformError, RecipeError
from cuvee.executor import Executor
from cuvee.hub import Hub
from cuvee.plan import make_plan
from cuvee.progress import Progress, Silent
from cuvee.recipe.load import parse_recipe
from cuvee.recipe.recipe import Recipe

MOST_ATTEMPTS = 3
"""How often a part may be lost."""


def merge_by_shards(
    recipe: Recipe,
    out: Path,
    executor: Executor,
    *,
    shard_bytes: int = DEFAULT_SHARD,
    overwrite: bool = False,
    offline: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> MergeResult:
    """Merge a recipe over an executor, to the bytes that `merge` gives with the same `shard_bytes`.

    What an earlier run left of the same parts is taken up. Options are others of `run_plan`, and `custom_code`.
    Raises what planning raises, CheckpointError for a part that fails, PlatformError for one that is lost again and
    again.
    """
    if recipe.align is not None:
        hint = "merge without it, and use `cuvee align` then"
        raise RecipeError("'align' works on a whole merge, not on parts of it", where=recipe.source, hint=hint)
    place = out.absolute()
    refuse_existing(place, overwrite=overwrite)
    plan = make_plan(recipe, hub=Hub(offline=offline), custom_code=bool(options.get("custom_code", False)))
    count = len(lay_out(output_tensors(plan), shard_bytes, plan.layout))
    options |= {"shard_bytes": shard_bytes, "overwrite": overwrite}
    arguments = (recipe.text, recipe.source, recipe.folder and recipe.folder.absolute(), Path.cwd(), place, offline)
    heard = progress or Silent()
    heard.start("merge", count, "parts")
    try:
        _run_parts(executor, [Part(number, count) for number in range(1, count + 1)], (*arguments, options), heard)
    finally:
        heard.finish()
    return join(place, overwrite=overwrite)


def _run_parts(executor: Executor, parts: list[Part], arguments: tuple[Any, ...], progress: Progress) -> None:
    """Run all parts, each in the next slot that is free, and those that were lost again."""
    waiting, free = deque(parts), list(range(executor.slots))
    running: dict[int, Part] = {}
    losses: Counter[Part] = Counter()
    while waiting or running:
        while waiting and free:
            slot = free.pop()
            running[slot] = waiting.popleft()
            executor.submit(slot, run_named_part, running[slot], *arguments)
        done = executor.next_done()
        part = running.pop(done.slot)
        free.append(done.slot)
        if done.lost and losses[part] + 1 < MOST_ATTEMPTS:
            losses[part] += 1
            waiting.append(part)
        elif done.lost:
            message = f"part {part} was lost {MOST_ATTEMPTS} times: {done.failure}"
            raise PlatformError(message, hint="the same command goes on with what is left to do")
        elif done.failure:
            raise CheckpointError(done.failure, where=f"part {part}")
        else:
            progress.advance(1)


def run_named_part(
    part: Part,
    text: str,
    source: str,
    folder: Path | None,
    current: Path,
    out: Path,
    offline: bool,
    options: dict[str, Any],
) -> None:
    """Run one part of a recipe that is given as text, with the current folder of the caller: a function to submit."""
    with chdir(current):
        recipe = parse_recipe(text, language(), source=source, folder=folder)
        merge_part(recipe, out, part, hub=Hub(offline=offline), **options)
