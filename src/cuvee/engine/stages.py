"""Runs recipes that follow each other. The output of a stage is kept under a name that identifies its inputs."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from cuvee.arguments import as_path, checks_options
from cuvee.checkpoint import TensorSource, open_checkpoint
from cuvee.checkpoint.write import lay_out, refuse_existing, remove_empty
from cuvee.engine.identity import identity_of
from cuvee.engine.options import Options, RunOptions
from cuvee.engine.run import MergeResult, run_with
from cuvee.errors import CheckpointError
from cuvee.hub import Hub
from cuvee.plan import Plan, make_plan
from cuvee.plan.eight_bits import written_tensors
from cuvee.plan.recipes import as_stages
from cuvee.plan.stages import plan_stages, used
from cuvee.progress import Progress, Within
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef

_TOLD = ("recipe_digest", "plan_digest", "inputs", "weights_digest", "reproducible")


@checks_options
def merge_stages(
    recipes: Sequence[Recipe] | Recipe | Path | str,
    out: Path | str,
    *,
    folder: Path | None = None,
    places: Mapping[str, Path] | None = None,
    statistics: Mapping[str, Path] | None = None,
    hub: Hub | None = None,
    custom_code: bool = False,
    **options: Unpack[RunOptions],
) -> MergeResult:
    """Merge recipes of which later recipes use the outputs of earlier recipes; the last recipe's output is `out`.

    `recipes` may be the path of a file that holds them.

    All stages are planned before the first stage runs. A stage that uses an earlier output is planned again when that
    is written, because headers and tokenizer files are only known then. The outputs of earlier stages go to `folder`,
    under names with a digest of recipe, inputs and layout, and a later merge uses them again. Without `folder` they go
    beside the output, and the merge removes them at its end. `make_plan` describes `places` and `statistics`,
    `Options` the other options.
    """
    recipes = as_stages(recipes)
    named = as_path(out, "out")
    out = named.absolute()
    chosen = Options(**options)
    if len(recipes) > 1:
        refuse_existing(out, overwrite=chosen.overwrite)
    forecast = plan_stages(recipes, places=places, statistics=statistics, hub=hub, custom_code=custom_code)
    kept = folder if folder is not None else out.parent / f".{out.name}.stages"
    made: dict[ModelRef, TensorSource] = {}
    history: list[Mapping[str, Any]] = []

    def settled(plan: Plan) -> Plan:
        """Return the plan over the outputs that earlier stages have written."""
        if not plan.recipe.stages:
            return plan
        stages = used(plan.recipe, made)
        return make_plan(
            plan.recipe, stages=stages, places=places, statistics=statistics, hub=hub, custom_code=custom_code
        )

    for number, recipe in enumerate(recipes[:-1], 1):
        plan = settled(forecast[number - 1])
        place = kept / f"{recipe.name}-{_key(plan, chosen)}"
        if not (place / "cuvee.json").is_file():
            kept.mkdir(parents=True, exist_ok=True)
            own = replace(chosen, overwrite=False, progress=_of_stage(number, len(recipes), chosen.heard))
            run_with(own, plan, place, history=_told(history, recipe))
        made[ModelRef(str(recipe.name))] = open_checkpoint(place)
        history.append({"name": recipe.name, **_record(place)})
    last = recipes[-1]
    plan = settled(forecast[-1])
    own = replace(chosen, progress=_of_stage(len(recipes), len(recipes), chosen.heard))
    result = run_with(own, plan, named, history=_told(history, last))
    if folder is None:
        shutil.rmtree(kept, ignore_errors=True)
        remove_empty(kept)
    return result


def _of_stage(number: int, count: int, progress: Progress) -> Progress:
    """Return progress that says which of how many stages it is of, where there are several."""
    return Within(progress, f"stage {number} of {count}") if count > 1 else progress


def _key(plan: Plan, options: Options) -> str:
    """Return a name for a plan's output: inputs count by size, time and header, earlier stages by their digest."""
    shards = lay_out(written_tensors(plan), options.shard_bytes, plan.layout)
    identity = identity_of(plan, shards, allow_nonfinite=options.allow_nonfinite)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _told(history: Sequence[Mapping[str, Any]], recipe: Recipe) -> list[Mapping[str, Any]]:
    """Return the records of the stages that a recipe uses, and of those that they use."""
    wanted = set(recipe.stages)
    told = []
    for entry in reversed(history):
        if entry["name"] in wanted:
            told.append(entry)
            wanted |= {given["model"] for given in entry["inputs"]}
    return told[::-1]


def _record(place: Path) -> dict[str, Any]:
    try:
        said = json.loads((place / "cuvee.json").read_text(encoding="utf-8"))
        return {key: said[key] for key in _TOLD}
    except (OSError, ValueError, KeyError) as error:
        hint = "remove the folder: the stage is then made again"
        raise CheckpointError(f"this is no finished stage: {error!r}", where=str(place), hint=hint) from error
