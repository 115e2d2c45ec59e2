"""References -> opened checkpoints, with every problem of every input found at once."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cuvee.adapters import Adapted
from cuvee.checkpoint import Checkpoint, TensorSource
from cuvee.errors import CheckpointError, CuveeError, RecipeError, several
from cuvee.foreign import open_files, open_files_partly, readable
from cuvee.hub import (
    Hub,
    Repository,
    download,
    find_repository,
    missing_bytes,
    open_repository,
    refuse_small_disk,
    weight_names,
)
from cuvee.nearest import nearest
from cuvee.plan.adapters import FoundAdapter, adapted, fetched_adapter, find_adapter, readable_base
from cuvee.progress import Progress
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef, parse_reference

WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
"""Files that can be a model by themselves: what a mistyped name may have meant."""


@dataclass(frozen=True)
class Opening:
    """The models of a recipe, as far as they could be opened, and what is wrong with them.

    `places` are folders or files, None for models that are given or still on a hub. `unseen` are a model's tensors
    that exist but of which nothing more is known, because of one of the problems.
    """

    sources: tuple[TensorSource, ...]
    places: tuple[Path | None, ...]
    repositories: tuple[Repository | None, ...]
    bytes_downloaded: int = 0
    problems: tuple[CuveeError, ...] = ()
    unseen: Mapping[ModelRef, frozenset[str]] = field(default_factory=dict)
    adapters: tuple[FoundAdapter | None, ...] = ()


@dataclass(frozen=True)
class _Stored:
    """A model as it is stored: nothing decoded, and without its adapter."""

    source: TensorSource
    place: Path | None
    repository: Repository | None = None


def place_of(model: ModelRef, folder: Path | None) -> Path | None:
    """Find a model on the disk: from the current folder, as mergekit does, or else from the recipe's.

    Returns None for what is not there but may be a name on a hub. Raises CheckpointError.
    """
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
    if model.looks_like_hub_name:
        return None
    hint = nearest(model.path, folder, suffixes=WEIGHTS) or _looked(folder)
    raise CheckpointError(f"no folder or file '{model.path}'", where=str(model), hint=hint)


def _missing(hub: Hub, repository: Repository) -> int:
    return missing_bytes(repository, repository.wanted(weight_names(hub, repository)))


def _given(reference: str, given: Mapping[str, Path]) -> Path:
    if reference not in given:
        raise CheckpointError("no place was given for this model", where=reference)
    return given[reference]


def _looked(folder: Path | None) -> str:
    looked = dict.fromkeys([Path.cwd(), *([folder.resolve()] if folder is not None else [])])
    return f"looked in {' and '.join(map(str, looked))}"


def find_on_hub(model: ModelRef, folder: Path | None, hub: Hub) -> Repository:
    """Find a model on the hub. Raises CheckpointError that says where else was looked."""
    try:
        return find_repository(hub, model.path, model.revision)
    except CheckpointError as error:
        if guess := nearest(model.path, folder, suffixes=WEIGHTS):
            raise CheckpointError(f"no such folder, and {error.message}", where=error.where, hint=guess) from error
        hint = f"{error.hint}; if you mean a folder: {_looked(folder)}" if error.hint else _looked(folder)
        raise CheckpointError(f"no such folder, and {error.message}", where=error.where, hint=hint) from error


def open_model(written: str, hub: Hub, folder: Path | None = None) -> TensorSource:
    """Find one model from the current folder or from `folder`, and open it by its headers.

    Raises RecipeError for a bad reference, CheckpointError for the rest.
    """
    try:
        model = parse_reference(written)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    place = place_of(model, folder)
    if place is not None:
        source = open_files(place)
    else:
        found = open_repository(hub, find_on_hub(model, folder, hub))
        if found.problems:
            raise several(found.problems)
        source = found.checkpoint
    return adapted(readable_base(source, model.path), model, folder, hub)[0] if model.adapter else source


def open_models(
    recipe: Recipe,
    hub: Hub,
    stages: Mapping[ModelRef, TensorSource] | None = None,
    given: Mapping[str, Path] | None = None,
) -> Opening:
    """Open every model of a recipe by its headers. Raises CheckpointError if of some model nothing can be known.

    `stages` are models that earlier recipes make, by the names that they have there. With `given` its folders are the
    only places that are looked at: of models by reference as the recipe has it, of adapters by what follows the base,
    "+" and all.
    """
    stages = stages or {}
    stored: dict[ModelRef, _Stored] = {}
    problems: list[CuveeError] = []
    unseen: dict[ModelRef, frozenset[str]] = {}
    for model in recipe.models():
        if model in stages:
            stored[model] = _Stored(stages[model], stages[model].place)
            continue
        try:
            place = place_of(model, recipe.folder) if given is None else _given(str(model), given)
            if place is not None:
                source, wrong, unseen[model] = open_files_partly(place)
                stored[model] = _Stored(source, place)
            else:
                repository = find_on_hub(model, recipe.folder, hub)
                found = open_repository(hub, repository)
                source, wrong, unseen[model] = found.checkpoint, found.problems, found.unseen
                stored[model] = _Stored(source, source.place, repository)
            problems += wrong
        except CheckpointError as error:
            problems.extend(error.problems or (error,))
    opened: list[TensorSource] = []
    adapters: list[FoundAdapter | None] = []
    shared = with_shared_folders({model: own.source for model, own in stored.items()})
    for model, source in shared.items():
        adapter = None
        place = stored[model].place
        try:
            if model.adapter:
                source = readable_base(source, str(place or model.path))
                place_of_adapter = None if given is None else _given(f"+{model.adapter_text}", given)
                source, adapter = adapted(source, model, recipe.folder, hub, place_of_adapter)
            elif model not in stages:
                source = readable(source, str(place or model))
        except CheckpointError as error:
            problems.extend(error.problems or (error,))
        adapters.append(adapter)
        opened.append(source)
    if len(opened) < len(recipe.models()):
        raise several(problems)
    places = [own.place for own in stored.values()]
    repositories = [own.repository for own in stored.values()]
    refuse_two_names(recipe, places, repositories, adapters, stages)
    missing = sum(_missing(hub, repository) for repository in repositories if repository is not None)
    missing += sum(adapter.missing_bytes for adapter in adapters if adapter is not None)
    try:
        refuse_small_disk(hub, missing)
    except CuveeError as error:
        problems.append(error)
    return Opening(tuple(opened), tuple(places), tuple(repositories), missing, tuple(problems), unseen, tuple(adapters))


def with_shared_folders(sources: Mapping[ModelRef, TensorSource]) -> dict[ModelRef, TensorSource]:
    """Return the models without sub-folders of weights that nothing names as parts and that not all models have.

    They are then left out as other files of weights are. All models have one if names and shapes in it are the same.
    """
    shared = dict(sources)
    for model, source in sources.items():
        if isinstance(source, Checkpoint) and source.others:
            alone = [folder for folder in source.others if not _all_have(folder, sources.values())]
            shared[model] = source.without(alone)
    return shared


def _all_have(folder: str, sources: Iterable[TensorSource]) -> bool:
    shapes = [_shapes_in(folder, source) for source in sources]
    return all(own == shapes[0] for own in shapes)


def _shapes_in(folder: str, source: TensorSource) -> dict[str, tuple[int, ...]]:
    return {name: spec.shape for name, spec in source.tensors.items() if name.startswith(folder)}


def refuse_two_names(
    recipe: Recipe,
    places: list[Path | None],
    repositories: list[Repository | None],
    adapters: list[FoundAdapter | None],
    made: Container[ModelRef],
) -> None:
    """Raise RecipeError if two references are one place: the model would count as two."""
    seen: dict[tuple[Path, Path | None], ModelRef] = {}
    for model, place, repository, adapter in zip(recipe.models(), places, repositories, adapters, strict=True):
        if model in made:
            continue
        resolved = repository.folder if repository is not None else place.resolve() if place is not None else Path()
        first = seen.setdefault((resolved, adapter.place if adapter is not None else None), model)
        if first != model:
            message = f"'{first}' and '{model}' are the same place: {resolved}"
            raise RecipeError(message, where=recipe.source, hint="write it the same way everywhere")


def given_models(recipe: Recipe, models: Mapping[ModelRef, TensorSource]) -> Opening:
    """Take every model of a recipe from `models`."""
    missing = [str(model) for model in recipe.models() if model not in models]
    if missing:
        raise CheckpointError(f"expected every model of the recipe, found no {', '.join(missing)}")
    sources = tuple(readable(models[model], str(model)) for model in recipe.models())
    nothing = (None,) * len(sources)
    return Opening(sources, nothing, nothing, adapters=nothing)


@dataclass(frozen=True)
class FoundModel:
    """A model whose files are all here: the name it was asked for by, its folder or file, and its commit on a hub."""

    name: str
    place: Path
    repository: Repository | None = None


def folder_of(model: str, hub: Hub, progress: Progress, *, wanted: Callable[[str], bool] = lambda _: True) -> Path:
    """Return the folder or file of a model, downloading the `wanted` files of one on a hub. Raises CuveeError."""
    return find_model(model, hub, progress, wanted=wanted).place


def find_model(
    model: str,
    hub: Hub,
    progress: Progress,
    *,
    folder: Path | None = None,
    wanted: Callable[[str], bool] = lambda _: True,
) -> FoundModel:
    """Find a model from the current folder or from `folder`, or download the `wanted` files of one on a hub.

    Raises CuveeError.
    """
    try:
        reference = parse_reference(model)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if reference.adapter:
        hint = "write the two as one model first: cuvee adapters apply BASE ADAPTER OUT"
        raise RecipeError(f"'{model}' is a base and an adapter; this needs a model's own folder", hint=hint)
    return _found(reference, hub, progress, folder, wanted)


def _found(
    reference: ModelRef, hub: Hub, progress: Progress, folder: Path | None, wanted: Callable[[str], bool]
) -> FoundModel:
    place = place_of(reference, folder)
    if place is not None:
        return FoundModel(str(reference), place)
    repository = find_on_hub(reference, folder, hub)
    if not hub.is_offline:
        names = repository.wanted(weight_names(hub, repository))
        download(hub, repository, [name for name in names if wanted(name)], progress)
    return FoundModel(str(reference), repository.folder, repository)


def model_to_read(written: str, hub: Hub, progress: Progress) -> TensorSource:
    """Return a model, with its adapter if it has one, whose tensors can be read: what the cache lacks is downloaded."""
    try:
        model = parse_reference(written)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    place = _found(model, hub, progress, None, lambda _: True).place
    if not model.adapter:
        return readable(open_files(place), str(place))
    found = find_adapter(model.adapter, model.adapter_revision, None, hub)
    return Adapted(readable_base(open_files(place), model.path), fetched_adapter(hub, found, progress).adapter)
