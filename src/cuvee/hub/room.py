"""Keeps a cache of models within a size: models that nobody has asked for the longest are removed first.

All that lies in a model's folder counts and goes with it, also parts of stopped downloads, which `scan_cache_dir` of
the client library does not see. Only for a cache that has no other owner.
"""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from cuvee.amounts import bytes_text
from cuvee.descriptors import NOTHING_ELSE, allocated_bytes, wait_for_lock
from cuvee.errors import CheckpointError
from cuvee.hub.access import Hub
from cuvee.hub.download import missing_bytes
from cuvee.hub.repository import Repository, storage

MODELS = "models--*"
LOCK = ".cuvee-in-use"
REMOVED = "removed-"


def make_room(hub: Hub, repository: Repository | None = None, names: Collection[str] = ()) -> None:
    """Remove models until these files fit below the hub's `most_bytes` and on the disk; a model's own folder goes last.

    Waits until no process uses the cache. Without a bound nothing is removed. Raises CheckpointError for files that
    take more than the bound, and removes nothing then.
    """
    most = hub.most_bytes
    if most is None:
        return
    own = storage(hub, repository.name) if repository else None
    if repository is not None:
        _check_size(repository, names, most)
    with _locked(hub, alone=True):
        for left in hub.cache_folder.glob(f"{REMOVED}*"):  # by a process that died
            shutil.rmtree(left)
        folders = by_use(hub.cache_folder)
        sizes = {folder: folder_bytes(folder) for folder in sorted(folders, key=lambda folder: folder == own)}
        total = sum(sizes.values())
        for folder, size in sizes.items():
            needed = missing_bytes(repository, names) if repository else 0
            if total + needed <= most and needed <= hub.free_bytes(hub.cache_folder):
                return
            _remove(folder)
            total -= size


def _check_size(repository: Repository, names: Collection[str], most: int) -> None:
    wanted = sum(repository.files[name].size for name in repository.files.keys() & set(names))
    if wanted > most:
        message = f"its files take {bytes_text(wanted)}, and all models of a hub at most {bytes_text(most)} here"
        raise CheckpointError(message, where=repository.shown, hint="judge it on a worker with a larger --hub-cache")


@contextmanager
def in_use(hub: Hub) -> Iterator[None]:
    """Keep models from being removed meanwhile. Any number of processes may use a cache at once."""
    if hub.most_bytes is None:
        yield
        return
    with _locked(hub, alone=False):
        yield


def note_use(hub: Hub, repository: Repository) -> None:
    """Note that a model in the cache is used now."""
    os.utime(storage(hub, repository.name))


def by_use(cache: Path) -> list[Path]:
    """List the folders of models in a cache, those first whose last use is the longest ago."""
    return sorted(cache.glob(MODELS), key=lambda folder: (folder.lstat().st_mtime_ns, folder.name))


def folder_bytes(folder: Path) -> int:
    """Return what a folder takes on the disk; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            total += allocated_bytes(os.lstat(os.path.join(place, name)))
    return total


def _remove(folder: Path) -> None:
    """Remove a folder: it has another name first, so that half of it is never taken for a model."""
    removed = folder.with_name(f"{REMOVED}{folder.name}")
    folder.rename(removed)
    shutil.rmtree(removed)


@contextmanager
def _locked(hub: Hub, *, alone: bool) -> Iterator[None]:
    """Hold the cache's lock, alone or with others."""
    hub.cache_folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(hub.cache_folder / LOCK, os.O_RDWR | os.O_CREAT | NOTHING_ELSE, 0o600)
    try:
        wait_for_lock(descriptor, shared=not alone)
        yield
    finally:
        os.close(descriptor)
