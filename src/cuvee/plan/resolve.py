"""References -> opened checkpoints, with every problem of every input found at once."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cuvee.adapters import Adapted, Adapter
from cuvee.adapters.quantised import plain_name
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
from cuvee.yielding import result_of

WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
"""Files that can be a model by themselves, and that a mistyped name may have meant."""


FileOpener = Callable[[Path], tuple[TensorSource, tuple[CuveeError, ...], frozenset[str]]]
"""Opens a folder or file as far as it can be opened, with its problems and the tensors that they hide."""


@dataclass(frozen=True)
class OpenedModel:
    """A model of a recipe, opened by its headers.

    - `place`: its folder or file; None for a model that is handed over or still on a hub.
    - `repository`: its repository, if it is on a hub.
    - `adapter`: the adapter that `source` adds to the base, for a reference `base+adapter`.
    - `unseen`: tensors that exist but whose headers cannot be read, because of a problem of the opening.
    """

    reference: ModelRef
    source: TensorSource
    place: Path | None = None
    repository: Repository | None = None
    adapter: FoundAdapter | None = None
    unseen: frozenset[str] = frozenset()

    @property
    def identity(self) -> tuple[Path, Path | None]:
        """The places of model and adapter: two models with the same identity are the same model."""
        if self.repository is not None:
            place = self.repository.folder
        else:
            place = self.place.resolve() if self.place is not None else Path()
        return place, self.adapter.place if self.adapter is not None else None

    def missing_bytes(self, hub: Hub) -> int:
        """Return the bytes of model and adapter that a merge would download."""
        missing = 0
        if self.repository is not None:
            names = self.repository.wanted(weight_names(hub, self.repository))
            missing += missing_bytes(self.repository, names)
        if self.adapter is not None:
            missing += self.adapter.missing_bytes
        return missing


@dataclass(frozen=True)
class Opening:
    """The models of a recipe in its order, and the problems found while they were opened."""

    models: tuple[OpenedModel, ...]
    bytes_downloaded: int = 0
    problems: tuple[CuveeError, ...] = ()

    @property
    def sources(self) -> tuple[TensorSource, ...]:
        return tuple(model.source for model in self.models)

    def with_sources(self, sources: Iterable[TensorSource]) -> "Opening":
        """Return the same models with other tensors."""
        pairs = zip(self.models, sources, strict=True)
        return replace(self, models=tuple(replace(model, source=source) for model, source in pairs))

    def with_problems(self, *problems: CuveeError) -> "Opening":
        """Return the opening with further problems."""
        return replace(self, problems=(*self.problems, *problems))


def place_of(model: ModelRef, folder: Path | None) -> Path | None:
    """Find a model on the disk: from the current folder, as mergekit does, or else from the recipe's.

    Returns None for a reference that is not on the disk but may be a name on a hub. Raises CheckpointError.
    """
    places = _existing(model, folder)
    if not places and model.looks_like_hub_name:
        return None
    if not places:
        raise _no_such_place(model, folder)
    if model.revision:
        hint = f"name the folder of '{model.revision}' itself"
        raise CheckpointError("a folder has no revisions", where=str(model), hint=hint)
    if places[0].resolve() != places[-1].resolve():
        message = f"'{model.path}' is both in the current folder and beside the recipe"
        raise CheckpointError(message, where=str(model), hint="give the whole path")
    return places[0]


def _existing(model: ModelRef, folder: Path | None) -> list[Path]:
    """List the places that a path may mean and that exist: from the current folder, and then beside the recipe.

    Raises CheckpointError.
    """
    try:
        here = Path(model.path).expanduser()
        places = [here]
        if folder is not None:
            places.append(folder / here)
        return [place for place in places if place.exists()]
    except (OSError, RuntimeError) as error:  # a name too long; a home of nobody
        raise CheckpointError(f"this is not a path: {error}", where=str(model)) from error


def _no_such_place(model: ModelRef, folder: Path | None) -> CheckpointError:
    hint = nearest(model.path, folder, suffixes=WEIGHTS) or _looked(folder)
    if "\\" in model.path:
        path = model.path.replace("\\", "/")
        hint = f"write '/' between folders: '{path}'"
    return CheckpointError(f"no folder or file '{model.path}'", where=str(model), hint=hint)


def _looked(folder: Path | None) -> str:
    folders = [Path.cwd()]
    if folder is not None:
        folders.append(folder.resolve())
    shown = " and ".join(map(str, dict.fromkeys(folders)))
    return f"looked in {shown}"


def find_on_hub(model: ModelRef, folder: Path | None, hub: Hub) -> Repository:
    """Find a model on the hub. Raises CheckpointError that names the folders in which it is not either."""
    try:
        return find_repository(hub, model.path, model.revision)
    except CheckpointError as error:
        hint = nearest(model.path, folder, suffixes=WEIGHTS)
        if hint is None:
            hint = _looked(folder)
            if error.hint:
                hint = f"{error.hint}; if you mean a folder: {hint}"
        raise CheckpointError(f"no such folder, and {error.message}", where=error.where, hint=hint) from error


def open_model(written: str, hub: Hub, folder: Path | None = None) -> TensorSource:
    """Find a model from the current folder or from `folder`, and open it by its headers.

    Raises RecipeError for a bad reference, CheckpointError for the rest.
    """
    model = _reference(written)
    place = place_of(model, folder)
    if place is not None:
        source = open_files(place)
    else:
        partly = open_repository(hub, find_on_hub(model, folder, hub))
        if partly.problems:
            raise several(partly.problems)
        source = partly.checkpoint
    if not model.adapter:
        return source
    source, _ = adapted(readable_base(source, model.path), model, folder, hub)
    return source


def _reference(written: str) -> ModelRef:
    try:
        return parse_reference(written)
    except ValueError as error:
        raise RecipeError(str(error)) from error


def open_models(
    recipe: Recipe,
    hub: Hub,
    stages: Mapping[ModelRef, TensorSource] | None = None,
    places: Mapping[str, Path] | None = None,
    open_place: FileOpener = open_files_partly,
) -> Opening:
    """Open every model of a recipe by its headers.

    - `stages`: models that earlier recipes make, by the names that they have there.
    - `places`: if given, nothing else is searched: the folders of models by reference as the recipe has it, and the
      folders of adapters by the text that follows the base, "+" and all.
    - `open_place`: opens folders and files; plans of the same pass share a function that remembers what it opened.

    Raises CheckpointError with all problems if a model could not be opened at all. Other problems are in the opening.
    """
    search = _Search(recipe.folder, hub, stages or {}, places, open_place)
    problems: list[CuveeError] = []
    stored = result_of(search.all_stored(recipe.models()), problems.append)
    models = result_of(search.all_adapted(with_shared_folders(stored)), problems.append)
    if len(models) < len(recipe.models()):
        raise several(problems)
    refuse_two_names(recipe, [model for model in models if model.reference not in search.stages])
    missing = sum(model.missing_bytes(hub) for model in models)
    try:
        refuse_small_disk(hub, missing)
    except CuveeError as error:
        problems.append(error)
    return Opening(tuple(models), missing, tuple(problems))


@dataclass(frozen=True)
class _Search:
    """Where the models of a recipe are searched: among the stages, in `places` only if there are any, else anywhere."""

    folder: Path | None
    hub: Hub
    stages: Mapping[ModelRef, TensorSource]
    places: Mapping[str, Path] | None
    open_place: FileOpener

    def all_stored(self, references: Iterable[ModelRef]) -> Generator[CuveeError, None, list[OpenedModel]]:
        """Open models as they are stored; yields problems, and leaves out models that cannot be opened at all."""
        models = []
        for reference in references:
            try:
                model, broken = self.stored(reference)
                models.append(model)
                yield from broken
            except CheckpointError as error:
                yield from error.problems or (error,)
        return models

    def all_adapted(self, models: Iterable[OpenedModel]) -> Generator[CuveeError, None, list[OpenedModel]]:
        """Decode models and add their adapters; yields problems, with which a model stays as it is stored."""
        adapted_models = []
        for model in models:
            try:
                model = self.readable(model)
                model = self.adapted(model)
            except CheckpointError as error:
                yield from error.problems or (error,)
            adapted_models.append(model)
        return adapted_models

    def stored(self, reference: ModelRef) -> tuple[OpenedModel, tuple[CuveeError, ...]]:
        """Open a model as it is stored, nothing decoded and without its adapter; return it with problems of its files.

        Raises CheckpointError.
        """
        if reference in self.stages:
            source = self.stages[reference]
            return OpenedModel(reference, source, source.place), ()
        if self.places is not None:
            place: Path | None = self._place(str(reference))
        else:
            place = place_of(reference, self.folder)
        if place is not None:
            source, problems, unseen = self.open_place(place)
            return OpenedModel(reference, source, place, unseen=unseen), problems
        repository = find_on_hub(reference, self.folder, self.hub)
        partly = open_repository(self.hub, repository)
        source = partly.checkpoint
        return OpenedModel(reference, source, source.place, repository, unseen=partly.unseen), partly.problems

    def readable(self, model: OpenedModel) -> OpenedModel:
        """Decode a model's numbers, those of a stage but for a base excepted. Raises CheckpointError."""
        reference = model.reference
        if reference.adapter:
            where = str(model.place or reference.path)
            return replace(model, source=readable_base(model.source, where))
        if reference in self.stages:
            return model
        return replace(model, source=readable(model.source, str(model.place or reference)))

    def adapted(self, model: OpenedModel) -> OpenedModel:
        """Add the adapter that a model's reference names, if it names any. Raises CheckpointError."""
        reference = model.reference
        if not reference.adapter:
            return model
        place = None if self.places is None else self._place(f"+{reference.adapter_text}")
        source, adapter = adapted(model.source, reference, self.folder, self.hub, place)
        return replace(model, source=source, adapter=adapter)

    def _place(self, reference: str) -> Path:
        if self.places is None or reference not in self.places:
            raise CheckpointError("no place was given for this model", where=reference)
        return self.places[reference]


def with_shared_folders(models: Sequence[OpenedModel]) -> list[OpenedModel]:
    """Leave out sub-folders of weights that no index names as parts of a model and that not all models have.

    They are then treated like other files of weights. All models have a folder if its names and shapes are the same.
    """
    sources = [model.source for model in models]
    shared = []
    for model in models:
        if isinstance(model.source, Checkpoint):
            alone = [folder for folder in model.source.others if not _all_have(folder, sources)]
            if model.source.others:
                model = replace(model, source=model.source.without(alone))
        shared.append(model)
    return shared


def _all_have(folder: str, sources: Iterable[TensorSource]) -> bool:
    shapes = [_shapes_in(folder, source) for source in sources]
    return all(own == shapes[0] for own in shapes)


def _shapes_in(folder: str, source: TensorSource) -> dict[str, tuple[int, ...]]:
    names = [name for name in source.tensors if name.startswith(folder)]
    return {name: source.tensors[name].shape for name in names}


def refuse_two_names(recipe: Recipe, models: Iterable[OpenedModel]) -> None:
    """Raise RecipeError if two references are the same place: the model would count as two."""
    seen: dict[tuple[Path, Path | None], ModelRef] = {}
    for model in models:
        first = seen.setdefault(model.identity, model.reference)
        if first != model.reference:
            message = f"'{first}' and '{model.reference}' are the same place: {model.identity[0]}"
            raise RecipeError(message, where=recipe.source, hint="write it the same way everywhere")


def given_models(recipe: Recipe, models: Mapping[ModelRef, TensorSource]) -> Opening:
    """Take every model of a recipe from `models`. Raises CheckpointError if any is not there."""
    missing = [str(model) for model in recipe.models() if model not in models]
    if missing:
        raise CheckpointError(f"expected every model of the recipe, found no {', '.join(missing)}")
    opened = []
    for reference in recipe.models():
        source = readable(models[reference], str(reference))
        opened.append(OpenedModel(reference, source))
    return Opening(tuple(opened))


@dataclass(frozen=True)
class FoundModel:
    """A model whose files are all here: the name by which it was asked for, its folder or file, its hub commit."""

    name: str
    place: Path
    repository: Repository | None = None


def folder_of(model: str, hub: Hub, progress: Progress, *, wanted: Callable[[str], bool] = lambda _: True) -> Path:
    """Return the folder or file of a model; of a model on a hub, download the `wanted` files. Raises CuveeError."""
    return find_model(model, hub, progress, wanted=wanted).place


def find_model(
    model: str,
    hub: Hub,
    progress: Progress,
    *,
    folder: Path | None = None,
    wanted: Callable[[str], bool] = lambda _: True,
) -> FoundModel:
    """Find a model from the current folder or from `folder`, or download its `wanted` files from a hub.

    Raises CuveeError.
    """
    reference = _reference(model)
    if reference.adapter:
        hint = "write the two as one model first: cuvee adapters apply BASE ADAPTER OUT"
        raise RecipeError(f"'{model}' is a base and an adapter; this needs a model's own folder", hint=hint)
    return _downloaded(reference, hub, progress, folder, wanted)


def _downloaded(
    reference: ModelRef, hub: Hub, progress: Progress, folder: Path | None, wanted: Callable[[str], bool]
) -> FoundModel:
    place = place_of(reference, folder)
    if place is not None:
        return FoundModel(str(reference), place)
    repository = find_on_hub(reference, folder, hub)
    if not hub.is_offline:
        names = repository.wanted(weight_names(hub, repository))
        download(hub, repository, list(filter(wanted, names)), progress)
    return FoundModel(str(reference), repository.folder, repository)


def model_to_read(written: str, hub: Hub, progress: Progress) -> TensorSource:
    """Return a model, with its adapter if the reference names any, downloading files that the cache lacks."""
    model = _reference(written)
    place = _downloaded(model, hub, progress, None, lambda _: True).place
    if not model.adapter:
        return readable(open_files(place), str(place))
    adapter = find_adapter(model.adapter, model.adapter_revision, None, hub)
    adapter = fetched_adapter(hub, adapter, progress)
    return Adapted(readable_base(open_files(place), model.path), adapter.adapter)


def _is_only_on_hub(name: str) -> bool:
    return ModelRef(name).looks_like_hub_name and not Path(name).exists()


def named_base(adapters: Sequence[Adapter], hub: Hub, progress: Progress) -> TensorSource | None:
    """Open the base that the adapters name, if they agree and it is on a hub. A path of a stranger is not opened.

    For a quantised base it is the likely name of the weights themselves. None where nothing is named.
    """
    names = {adapter.config.base for adapter in adapters}
    name = names.pop() if len(names) == 1 else None
    if name is None or not _is_only_on_hub(name):
        return None
    plain = plain_name(name)
    try:
        return model_to_read(plain or name, hub, progress)
    except CheckpointError as error:
        if plain is None:
            return None
        message = f"the adapters were trained on the quantised {name}; its weights are likely those of {plain}"
        raise CheckpointError(message, hint=f"name the base with --base ({error.message})") from error
