"""Keeps a cache of models within a size: models that nobody has asked for the longest are removed first.

All that lies in a model's folder counts and goes with it, also parts of stopped downloads, which `scan_cache_dir` of
the client library does not see. Only for a cache that has no other owner.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cuvee.amounts import bytes_text
from cuvee.descriptors import NOTHING_ELSE, allocated_bytes, wait_for_lock
from cuvee.errors import CheckpointError
from cuvee.hub.access import Hub

MODELS = "models--*"
LOCK = ".cuvee-in-use"


def make_room(hub: Hub, needed: int = 0, model: Path | None = None) -> None:
    """Remove models until `needed` bytes fit below the hub's `most_bytes` and on the disk; `model`'s folder stays.

    Waits until no process uses the cache. Without a bound nothing is removed. Raises CheckpointError for more than the
    bound, and removes nothing then.
    """
    most = hub.most_bytes
    if most is None:
        return
    kept = 0 if model is None else folder_bytes(model)
    if kept + needed > most:
        message = f"its files take {bytes_text(kept + needed)}, and all models of a hub at most {bytes_text(most)} here"
        raise CheckpointError(message, where=str(model), hint="judge it on a worker with a larger --hub-cache")
    with _locked(hub, alone=True):
        sizes = {folder: folder_bytes(folder) for folder in by_use(hub.cache_folder)}
        total = sum(sizes.values())
        for folder, size in sizes.items():
            if total + needed <= most and needed <= hub.free_bytes(hub.cache_folder):
                return
            if folder != model:
                _remove(folder)
                total -= size


@contextmanager
def in_use(hub: Hub) -> Iterator[None]:
    """Keep models from being removed meanwhile. Any number of processes may use a cache at once."""
    if hub.most_bytes is None:
        yield
        return
    with _locked(hub, alone=False):
        yield


def note_use(model: Path) -> None:
    """Note that a model's folder is used now."""
    if model.is_dir():
        os.utime(model)


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
    doomed = folder.with_name(f"removed-{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


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
