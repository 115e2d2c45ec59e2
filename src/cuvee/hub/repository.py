"""A model on a hub at a commit: its name resolved once, its files listed, with the files that the cache has."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from cuvee.checkpoint.companions import sort_out
from cuvee.checkpoint.folders import split
from cuvee.checkpoint.naming import INDICES
from cuvee.errors import CheckpointError
from cuvee.hub.access import Hub

KEPT = ("config.json", "README.md", "cuvee.json", "recipe.yaml")
"""What a copy of a model has besides weights, their indices and companions."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file. `sha256` is known of large files; `blob` is its name in the cache, which changes with the content."""

    name: str
    size: int
    blob: str

    @property
    def sha256(self) -> str | None:
        return self.blob if _SHA256.fullmatch(self.blob) else None


@dataclass(frozen=True)
class Repository:
    """A model on a hub, pinned. `folder` is where the cache has or will have its files."""

    name: str
    revision: str | None
    commit: str
    files: Mapping[str, RemoteFile]
    folder: Path

    @property
    def shown(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def has(self, name: str) -> bool:
        """Say whether a file is in the cache."""
        return (self.folder / name).exists()

    def wanted(self, weights: Collection[str]) -> list[str]:
        """List the files that a copy of the model needs: config, companions, the card for its licence, and `weights`.

        `weights` are the names of the files whose numbers are merged.
        """
        folders = {"", *(split(name)[0] for name in weights)}
        own = [name for name in self.files if split(name)[0] in folders]
        small = [name for name in own if name in KEPT or fnmatch(name, INDICES)]
        return [*sort_out(self.files, weights).copied, *small, *weights]

    @property
    def hashes(self) -> dict[str, str]:
        return {name: file.sha256 for name, file in self.files.items() if file.sha256 is not None}


def find_repository(hub: Hub, name: str, revision: str | None) -> Repository:
    """Resolve a model's name and revision to a commit: by a single request, or offline by the cache alone."""
    if revision is not None and not _REVISION.fullmatch(revision):
        raise CheckpointError("a revision is a branch, a tag or a commit", where=f"{name}@{revision}")
    return _in_cache(hub, name, revision) if hub.is_offline else _on_hub(hub, name, revision)


def _on_hub(hub: Hub, name: str, revision: str | None) -> Repository:
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=hub.endpoint)
    where = f"{name}@{revision}" if revision else name
    seconds = constants.HF_HUB_ETAG_TIMEOUT
    info = hub.patiently(lambda: api.model_info(name, revision=revision, files_metadata=True, timeout=seconds), where)
    files = {}
    for sibling in info.siblings or ():
        size, blob = sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        files[sibling.rfilename] = RemoteFile(sibling.rfilename, size, blob or "")
    if info.sha is None or not _COMMIT.fullmatch(info.sha):
        raise CheckpointError(f"{hub.address} does not say which commit this is", where=where)
    return Repository(name, revision, info.sha, files, storage(hub, name) / "snapshots" / info.sha)


def storage(hub: Hub, name: str) -> Path:
    """Return the cache's folder of a model."""
    return hub.cache_folder / "--".join(["models", *name.split("/")])


def _in_cache(hub: Hub, name: str, revision: str | None) -> Repository:
    where = f"{name}@{revision}" if revision else name
    wanted = revision or "main"
    ref = storage(hub, name) / "refs" / wanted
    commit = wanted if _COMMIT.fullmatch(wanted) else None
    if commit is None and ref.is_file():
        commit = ref.read_text().strip()
    folder = storage(hub, name) / "snapshots" / (commit or "")
    if commit is None or not folder.is_dir():
        hint = "run it once without --offline (and without HF_HUB_OFFLINE)"
        raise CheckpointError(f"not in the cache {hub.cache_folder}, and offline", where=where, hint=hint)
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            own = path.relative_to(folder).as_posix()
            files[own] = RemoteFile(own, path.stat().st_size, path.resolve().name)
    return Repository(name, revision, commit, files, folder)
