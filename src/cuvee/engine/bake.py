"""A model that was saved with an adapter inside -> a plain model, streamed."""

import hashlib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from cuvee.adapters import Adapted
from cuvee.adapters.config import CONFIG, read_json
from cuvee.adapters.inside import parts_of, settings_of
from cuvee.arguments import as_path, as_reference, checks_options
from cuvee.checkpoint import TensorSource
from cuvee.engine.options import Options, RunOptions
from cuvee.engine.run import MergeResult, run_with
from cuvee.errors import CheckpointError, RecipeError
from cuvee.foreign import open_files, readable
from cuvee.hub import Hub
from cuvee.plan import Making, Parent, make_plan
from cuvee.plan.recipes import copy_recipe
from cuvee.plan.resolve import folder_of
from cuvee.progress import Silent


@checks_options
def bake_adapter(
    model: Path | str,
    out: Path | str,
    *,
    alpha: float | None = None,
    rslora: bool = False,
    hub: Hub | None = None,
    **options: Unpack[RunOptions],
) -> MergeResult:
    """Write a plain model from one whose files hold `base_layer` and `lora_A`.

    Args:
        alpha: The adapter's alpha, where the folder has no adapter_config.json that says it; ranks are as stored.
        rslora: Whether the scale is alpha / sqrt(r) and not alpha / r; only with an alpha.

    Raises CheckpointError where nothing tells the scale, and where no adapter is inside.
    """
    hub, name, place = hub or Hub(), as_reference(model, "model"), as_path(out, "out")
    folder = folder_of(name, hub, options.get("progress") or Silent())
    source = open_files(folder)
    base, adapter = parts_of(source, name, _settings(folder, source, name, alpha, rslora=rslora))
    whole = Adapted(readable(base, name), adapter)
    recipe = copy_recipe(name, source="bake")
    plan = make_plan(recipe, models={recipe.models()[0]: whole}, hub=hub)
    made = replace(plan, recipe=replace(plan.recipe, text=""), making=_making(name, source, alpha, rslora=rslora))
    return run_with(replace(Options(**options), resume=False), made, place)


def _settings(folder: Path, source: TensorSource, name: str, alpha: float | None, *, rslora: bool) -> dict[str, Any]:
    file = folder / CONFIG
    if alpha is not None:
        return settings_of(source, alpha, rslora=rslora)
    if rslora:
        raise RecipeError("--rslora says what an alpha means, and none is given")
    if not file.is_file():
        hint = "put adapter_config.json into the folder, or give --alpha"
        raise CheckpointError("nothing tells the adapter's scale", where=name, hint=hint)
    return read_json(file)


def _making(name: str, source: TensorSource, alpha: float | None, *, rslora: bool) -> Making:
    words = ["--alpha", f"{alpha:g}"] if alpha is not None else []
    words += ["--rslora"] if rslora else []
    command = " ".join(["cuvee adapters bake", shlex.quote(name), "OUT", *words])
    return Making(
        command=command,
        title=f"{Path(name).name} with its adapter added",
        how=f"The model `{name}` with the adapter that was saved inside it.",
        parents=(Parent(name, source, None),),
        recipe_digest=hashlib.sha256(command.encode()).hexdigest(),
        reproducible="tolerance",
        tags=("bake",),
        record={"kind": "bake", "command": command},
    )
