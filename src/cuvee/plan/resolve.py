"""References -> opened checkpoints, with every problem of every input found at once."""

from collections.abc import Mapping
from pathlib import Path

from cuvee.checkpoint import TensorSource, open_checkpoint
from cuvee.errors import CheckpointError, CuveeError, RecipeError, several
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef, parse_reference


def place_of(model: ModelRef, folder: Path | None) -> Path:
    """Find a model: from the current folder, as mergekit does, or else from the recipe's. Raises CheckpointError."""
    if model.adapter:
        raise CheckpointError("adapters (`model+adapter`) are not supported", where=str(model))
    try:
        here = Path(model.path).expanduser()
        beside = folder / here if folder is not None else here
        is_here, is_beside = here.exists(), beside.exists()
    except (OSError, RuntimeError) as error:  # a name too long; a home of nobody
        raise CheckpointError(f"this is not a path: {error}", where=str(model)) from error
    if (is_here or is_beside) and model.revision:
        hint = f"name the folder of '{model.revision}' itself"
        raise CheckpointError("a folder has no revisions", where=str(model), hint=hint)
    if is_here:
        if is_beside and beside.resolve() != here.resolve():
            message = f"'{model.path}' is both in the current folder and beside the recipe"
            raise CheckpointError(message, where=str(model), hint="give the whole path")
        return here
    if is_beside:
        return beside
    looked = dict.fromkeys([Path.cwd(), *([folder.resolve()] if folder is not None else [])])
    hint = f"looked in {' and '.join(map(str, looked))}"
    if model.looks_like_hub_name:
        hint += "; models of a hub are not downloaded: download it and name its folder"
    raise CheckpointError(f"no folder or file '{model.path}'", where=str(model), hint=hint)


def open_model(written: str) -> tuple[Path, TensorSource]:
    """Find and open one model by its headers. Raises RecipeError for a bad reference, CheckpointError for the rest."""
    try:
        place = place_of(parse_reference(written), None)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    return place, open_checkpoint(place)


def open_models(recipe: Recipe) -> tuple[tuple[Path, ...], tuple[TensorSource, ...]]:
    """Open every model of a recipe by its headers."""
    places: list[Path] = []
    opened: list[TensorSource] = []
    problems: list[CuveeError] = []
    for model in recipe.models():
        try:
            place = place_of(model, recipe.folder)
            checkpoint = open_checkpoint(place)
            refuse_unmergeable(checkpoint, str(place))
            places.append(place)
            opened.append(checkpoint)
        except CheckpointError as error:
            problems.extend(error.problems or (error,))
    if problems:
        raise several(problems)
    refuse_two_names(recipe, places)
    return tuple(places), tuple(opened)


def refuse_two_names(recipe: Recipe, places: list[Path]) -> None:
    """Raise RecipeError if two references are one place: the model would count as two."""
    seen: dict[Path, ModelRef] = {}
    for model, place in zip(recipe.models(), places, strict=True):
        first = seen.setdefault(place.resolve(), model)
        if first != model:
            message = f"'{first}' and '{model}' are the same place: {place.resolve()}"
            raise RecipeError(message, where=recipe.source, hint="write it the same way everywhere")


def given_models(recipe: Recipe, models: Mapping[ModelRef, TensorSource]) -> tuple[TensorSource, ...]:
    """Take every model of a recipe from `models`."""
    missing = [str(model) for model in recipe.models() if model not in models]
    if missing:
        raise CheckpointError(f"expected every model of the recipe, found no {', '.join(missing)}")
    for model in recipe.models():
        refuse_unmergeable(models[model], str(model))
    return tuple(models[model] for model in recipe.models())


def refuse_unmergeable(checkpoint: TensorSource, where: str) -> None:
    """Raise CheckpointError for adapters and for weights that are codes: averaged they would be nonsense."""
    adapter = next((name for name in checkpoint.tensors if ".lora_A." in name or ".lora_B." in name), None)
    if adapter is not None:
        hint = "apply it to its base first, for example with PEFT's merge_and_unload"
        raise CheckpointError(f"this is an adapter (LoRA), not a model: it holds '{adapter}'", where=where, hint=hint)
    scheme = checkpoint.config.get("quantization_config")
    if scheme:
        name = scheme.get("quant_method", "unknown") if isinstance(scheme, dict) else scheme
        hint = "merge the unquantised model and quantise the result"
        raise CheckpointError(f"its weights are quantised ({name}): codes, not numbers", where=where, hint=hint)
    for spec in checkpoint.tensors.values():
        last = spec.name.rpartition(".")[2]
        if spec.dtype.startswith("F8") or (spec.dtype in ("I8", "U8", "I32") and "weight" in last):
            message = f"'{spec.name}' is {spec.dtype}: quantised codes, not numbers"
            raise CheckpointError(message, where=where, hint="merge the unquantised model")
