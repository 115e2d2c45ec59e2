"""References to adapters -> opened adapters, from folders or from a hub."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from cuvee.adapters import Adapted, Adapter, open_adapter
from cuvee.adapters.adapter import INDEX, WEIGHTS, is_of_mlx
from cuvee.adapters.config import CONFIG, parse_config
from cuvee.adapters.mlx import WEIGHTS as MLX_WEIGHTS
from cuvee.adapters.quantised import plain_name
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.recut import RecutCheckpoint
from cuvee.errors import CheckpointError, RecipeError, several
from cuvee.foreign import readable
from cuvee.hub import Hub, Repository, cached, download, find_repository, missing_bytes, open_repository
from cuvee.progress import Progress
from cuvee.recipe.reference import ModelRef, parse_reference
from cuvee.tokenizers.read import FILES, SETTINGS, TEMPLATE
from cuvee.tokenizers.rows import AlignedCheckpoint

WANTED = (
    CONFIG, WEIGHTS, "README.md", *FILES, SETTINGS, "special_tokens_map.json", TEMPLATE, "chat_template.json",
)  # fmt: skip
"""The files of an adapter that are downloaded from a hub, if they are there. The tokenizer is that of the training."""

SHARDS = "adapter_model[-.]*safetensors*"
"""How the files of an adapter in shards are called, with their index."""


@dataclass(frozen=True)
class FoundAdapter:
    """An adapter and, if it is on a hub, its repository at a commit."""

    adapter: Adapter
    repository: Repository | None = None

    @property
    def place(self) -> Path:
        """The folder that it is in, or will be."""
        return self.repository.folder if self.repository is not None else Path(self.adapter.name).resolve()

    @property
    def missing_bytes(self) -> int:
        return missing_bytes(self.repository, wanted(self.repository.files)) if self.repository is not None else 0


def find_adapter(path: str, revision: str | None, folder: Path | None, hub: Hub) -> FoundAdapter:
    """Open an adapter by its config and headers: of a folder, from here or beside the recipe, or else of a hub."""
    here = Path(path).expanduser()
    places = [here] if folder is None else [here, folder / here]
    for place in places:
        if not place.exists():
            continue
        if revision:
            raise CheckpointError("a folder has no revisions", where=f"{path}@{revision}")
        return FoundAdapter(open_adapter(place, str(place)))
    if not ModelRef(path).looks_like_hub_name:
        raise CheckpointError(f"no folder '{path}', where an adapter should be", where=path)
    return on_hub(find_repository(hub, path, revision), hub)


def on_hub(repository: Repository, hub: Hub) -> FoundAdapter:
    """Open an adapter of a hub. Only its config is downloaded, unless all of it is in the cache already."""
    if CONFIG not in repository.files:
        raise CheckpointError(f"expected {CONFIG}, found none: is this an adapter?", where=repository.shown)
    has_other_form = INDEX in repository.files or is_of_mlx(repository.files)
    if WEIGHTS not in repository.files and has_other_form:
        for name in wanted(repository.files):
            cached(hub, repository, name)
        return FoundAdapter(open_adapter(repository.folder, repository.shown), repository)
    text = cached(hub, repository, CONFIG).read_text(encoding="utf-8")
    config = parse_config(text, f"{repository.shown}/{CONFIG}")
    if repository.has(WEIGHTS):
        opened = open_adapter(repository.folder, repository.shown)
        return FoundAdapter(opened, repository)
    if WEIGHTS not in repository.files:
        raise CheckpointError(f"expected {WEIGHTS}, found none", where=repository.shown)
    source = open_repository(hub, repository)
    if source.problems:
        raise several(source.problems)
    return FoundAdapter(Adapter(repository.shown, config, source.checkpoint), repository)


def wanted(files: Collection[str]) -> list[str]:
    """List the files of an adapter that are downloaded from a hub: also shards, and what mlx-lm writes."""
    listed = [name for name in WANTED if name in files]
    if is_of_mlx(files):
        return [*listed, MLX_WEIGHTS]
    if WEIGHTS in files:
        return listed
    return [*listed, *sorted(name for name in files if fnmatch(name, SHARDS))]


def held_bytes(source: TensorSource, name: str) -> int:
    """Return the bytes that reading a tensor of a model keeps in memory beside the numbers asked for."""
    plain = _unwrapped(source)
    return plain.held_bytes(name) if isinstance(plain, Adapted) else 0


def tokenizer_place(source: TensorSource) -> Path | None:
    """Return the folder of a model's adapter if that has a tokenizer of its own, which then is the model's."""
    plain = _unwrapped(source)
    return plain.tokenizer_place if isinstance(plain, Adapted) else None


def _unwrapped(source: TensorSource) -> TensorSource:
    plain = source
    while isinstance(plain, AlignedCheckpoint | RecutCheckpoint):
        plain = plain.source
    return plain


def adapted(
    source: TensorSource, model: ModelRef, folder: Path | None, hub: Hub, place: Path | None = None
) -> tuple[Adapted, FoundAdapter]:
    """Add the adapter that a reference names to its base. With a `place` it is there, and nothing is searched."""
    assert model.adapter is not None, "only called for `base+adapter`"
    if place is not None:
        adapter = FoundAdapter(open_adapter(place, str(place)))
    else:
        adapter = find_adapter(model.adapter, model.adapter_revision, folder, hub)
    whole = Adapted(source, adapter.adapter)
    whole.warnings += tuple(other_name(adapter.adapter, model.path, place=source.place))
    return whole, adapter


def other_name(adapter: Adapter, base: str, place: Path | None) -> Iterator[str]:
    """Say that an adapter names another base: neither the name that is given nor the folder is called as that is."""
    named = adapter.config.base
    if named is None:
        return
    own = {_last(base), _last(str(place or base))}
    if own.isdisjoint({_last(named), _last(plain_name(named) or named)}):
        yield f"the adapter names {named} as its base, and is added to {base}: it belongs to the same weights alone"


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


def fetched_adapter(hub: Hub, adapter: FoundAdapter, progress: Progress) -> FoundAdapter:
    """Download the files of an adapter on a hub that the cache lacks."""
    repository = adapter.repository
    if repository is None:
        return adapter
    if not hub.is_offline:
        download(hub, repository, wanted(repository.files), progress)
    return FoundAdapter(open_adapter(repository.folder, repository.shown), repository)


def adapter_of(written: str, hub: Hub, progress: Progress) -> FoundAdapter:
    """Find an adapter by its reference, `path_or_hub_name[@revision]`, and download it if need be."""
    try:
        reference = parse_reference(written)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if reference.adapter:
        raise RecipeError(f"expected an adapter alone, found '{written}'", hint="name the base with --base")
    return fetched_adapter(hub, find_adapter(reference.path, reference.revision, None, hub), progress)


def readable_base(source: TensorSource, where: str) -> TensorSource:
    """Return a base's numbers. The refusal of a quantised base names the repository that likely has the numbers."""
    try:
        return readable(source, where)
    except CheckpointError as error:
        plain = plain_name(where)
        if plain is None:
            raise
        hint = f"{error.hint}; the unquantised model is likely {plain}" if error.hint else f"likely {plain}"
        raise CheckpointError(error.message, where=error.where, hint=hint) from error
