"""`Lock`: every model that a recipe names, pinned by commit and by the SHA-256 of its files; and all else that decides.

The recipe itself is never rewritten: references in it keep their meaning, and the lock pins their files.
"""

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from cuvee.catalogue import registry
from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.companions import companions_of, files_below
from cuvee.checkpoint.folders import ENDING, folders_on_disk, split
from cuvee.checkpoint.hashes import sha256_of
from cuvee.checkpoint.naming import INDICES
from cuvee.documents.checked import first_problem
from cuvee.errors import CheckpointError, SubmissionError
from cuvee.hub import Hub, Repository, cached, weight_names
from cuvee.plan.adapters import WANTED, find_adapter
from cuvee.plan.resolve import find_on_hub, place_of
from cuvee.progress import Progress, Silent
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.submission.asked import METHOD_SEPARATOR, Asked, asked_by_stages
from cuvee.submission.competition import Competition
from cuvee.submission.sandbox.runtime import PACKAGE
from cuvee.version import __version__

CARDS = ("README.md", "LICENSE")
MOST_MODELS = 200
MOST_FILES = 2000


def inside(name: str) -> str:
    """Refuse a name that leads out of the folder."""
    if any(part in (".", "..") for part in name.split("/")):
        raise ValueError("expected a file within the model's folder")
    return name


_strict = with_config(ConfigDict(extra="forbid", strict=True))
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
HubName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}$")]
FileName = Annotated[
    str, Field(pattern=r"^[^/\\\x00-\x1f]+(/[^/\\\x00-\x1f]+)*$", max_length=255), AfterValidator(inside)
]
"""A file of a model's folder or of a sub-folder of it."""


@_strict
@dataclass(frozen=True)
class LockedFile:
    """A file's size and hash."""

    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


@_strict
@dataclass(frozen=True)
class LockedModel:
    """A model: the recipe's reference, where it is on a hub if it is there, and its files.

    The reference of an adapter is the part behind the base's, "+" and all.
    """

    reference: Annotated[str, Field(min_length=1, max_length=1000)]
    files: Mapping[FileName, LockedFile]
    hub: HubName | None = None
    commit: Commit | None = None
    adapter: "LockedModel | None" = None

    def weights(self) -> dict[str, str]:
        """Return the SHA-256 of the files of weights, by name."""
        return {name: file.sha256 for name, file in self.files.items() if name.endswith(".safetensors")}


@_strict
@dataclass(frozen=True)
class Lock:
    """The files that decide a merge besides the recipe. `code` is the digest of this package's sources, `method` that
    of the file of the merge method; a judge with other sources says so. `texts` are SHA-256 of the competition's texts
    that the recipe names, by name."""

    recipe: Sha256
    merge_method: str
    method: Sha256 | None
    code: Sha256
    cuvee: str
    tasks: Mapping[str, str]
    models: tuple[LockedModel, ...]
    texts: Mapping[str, Sha256] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `read_lock` reads. Locks without texts are written as before there were texts."""
        content = asdict(self)
        if not self.texts:
            del content["texts"]
        return content


_LOCK = TypeAdapter(Lock)


def make_lock(
    recipe: Recipe | Sequence[Recipe],
    competition: Competition | None = None,
    *,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Lock:
    """Pin all models of a recipe, or of the stages of a recipe. Hashes of large files are asked of the hub; those of
    folders are computed. Raises SubmissionError for texts and statistics that are not the competition's."""
    stages = (recipe,) if isinstance(recipe, Recipe) else tuple(recipe)
    return lock_asked(asked_by_stages(stages), competition, hub=hub, progress=progress)


def lock_asked(
    asked: Asked, competition: Competition | None, *, hub: Hub | None = None, progress: Progress | None = None
) -> Lock:
    """Pin all models of what is asked. Raises like `make_lock`."""
    hub = hub or Hub()
    asked.hashes(competition)
    models = tuple(lock_model(model, asked.folder, hub, progress or Silent()) for model in asked.models)
    return lock_of(asked, models, competition)


def lock_of(asked: Asked, models: tuple[LockedModel, ...], competition: Competition | None) -> Lock:
    """Return the lock of what is asked, whose models are pinned. Raises SubmissionError for texts of the author's."""
    return Lock(
        recipe=asked.digest,
        merge_method=asked.methods,
        method=method_digest(asked.methods),
        code=code_digest(),
        cuvee=__version__,
        tasks=task_digests(competition) if competition else {},
        models=models,
        texts=asked.hashes(competition),
    )


def read_lock(content: Any, where: str) -> Lock:
    """Read plain data. Raises SubmissionError for anything but a lock."""
    try:
        found = _LOCK.validate_json(json.dumps(content))
    except ValidationError as error:
        raise SubmissionError(first_problem(error), where=where) from error
    references = [model.reference for model in found.models]
    if len(set(references)) < len(references):
        raise SubmissionError("a model is locked twice", where=where)
    files = sum(len(model.files) for model in found.models)
    if len(references) > MOST_MODELS or files > MOST_FILES:
        raise SubmissionError(f"more than {MOST_MODELS} models or {MOST_FILES} files", where=where)
    return found


def lock_model(model: ModelRef, folder: Path | None, hub: Hub, progress: Progress) -> LockedModel:
    """Pin a model, and its adapter if it has any. Raises CheckpointError for a model that cannot be found."""
    adapter = lock_adapter(model, folder, hub, progress) if model.adapter else None
    place = place_of(model, folder)
    if place is None:
        repository = find_on_hub(model, folder, hub)
        files = remote_files(hub, repository, repository.wanted(weight_names(hub, repository)))
        return LockedModel(str(model), files, repository.name, repository.commit, adapter)
    return LockedModel(str(model), locked_files(place, progress), adapter=adapter)


def lock_adapter(model: ModelRef, folder: Path | None, hub: Hub, progress: Progress) -> LockedModel:
    """Pin the adapter of a reference: its config and its weights."""
    assert model.adapter is not None, "only called for `base+adapter`"
    found = find_adapter(model.adapter, model.adapter_revision, folder, hub)
    reference = f"+{model.adapter_text}"
    if found.repository is None:
        wanted = [name for name in WANTED if name not in CARDS]
        files = _hashed(found.place, [name for name in wanted if (found.place / name).is_file()], progress)
        return LockedModel(reference, files)
    files = remote_files(hub, found.repository, WANTED)
    return LockedModel(reference, files, found.repository.name, found.repository.commit)


def remote_files(hub: Hub, repository: Repository, names: Iterable[str]) -> dict[str, LockedFile]:
    """Return size and hash of files of a hub. Small files are downloaded, of large files the hub says the hash."""
    wanted = sorted(set(names) - set(CARDS))
    return {name: _remote(hub, repository, name) for name in wanted if name in repository.files}


def locked_files(place: Path, progress: Progress | None = None) -> dict[str, LockedFile]:
    """Return size and hash of the files that a merge reads of a folder or a file: weights, config, companions."""
    if not place.is_dir():
        return _hashed(place.parent, [place.name], progress)
    files = files_below(place)
    folders = folders_on_disk(place, files)
    read = {*folders.declared}
    if folders.others:
        read |= {*open_checkpoint(place).others}
    own = [name for name in files if split(name)[0] in read]
    weights = [name for name in own if name.endswith(ENDING)]
    configs = [name for name in own if name == "config.json"]
    indices = [name for name in own if fnmatch(name, INDICES)]
    names = {*weights, *configs, *indices, *companions_of(place, weights).copied}
    return _hashed(place, sorted(name for name in names if name not in CARDS), progress)


def _hashed(folder: Path, names: Sequence[str], progress: Progress | None) -> dict[str, LockedFile]:
    paths = [folder / name for name in names]
    hashes = sha256_of(paths, progress=progress)
    return {name: LockedFile((folder / name).stat().st_size, hashes[folder / name]) for name in names}


def method_digest(keys: str) -> str | None:
    """Return the SHA-256 of the files that define merge methods, None if any is not installed."""
    hashed = hashlib.sha256()
    for key in keys.split(METHOD_SEPARATOR):
        method = registry().get(key)
        source = inspect.getsourcefile(inspect.unwrap(method.rule)) if method else None
        if source is None:
            return None
        hashed.update(Path(source).read_bytes())
    return hashed.hexdigest()


def code_digest() -> str:
    """Return the SHA-256 of the names and contents of this package's sources."""
    hashed = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py"), key=lambda path: path.relative_to(PACKAGE).as_posix()):
        data = path.read_bytes()
        hashed.update(f"{path.relative_to(PACKAGE).as_posix()}\0{len(data)}\0".encode() + data)
    return hashed.hexdigest()


def task_digests(competition: Competition) -> dict[str, str]:
    """Return the digest of each public part, by task. The empty text stands for a file that is not there."""
    from cuvee.evaluation import load_task

    places = {task.name: competition.folder / task.public for task in competition.tasks}
    digests = {}
    for name, place in places.items():
        digests[name] = load_task(place).digest if place.is_file() else ""
    return digests


def _remote(hub: Hub, repository: Repository, name: str) -> LockedFile:
    file = repository.files[name]
    if file.sha256 is not None:
        return LockedFile(file.size, file.sha256)
    if name.endswith(".safetensors"):
        raise CheckpointError(f"the hub does not say the SHA-256 of {name}", where=repository.shown)
    place = cached(hub, repository, name)
    return LockedFile(place.stat().st_size, sha256_of([place])[place])
