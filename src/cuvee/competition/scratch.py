"""Folders that a worker judges in. One that a killed worker has left is removed when the next is made beside it."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cuvee.descriptors import NOTHING_ELSE, lock
from cuvee.submission.removal import remove_tree

PREFIX = "cuvee-judge-"
LOCK = ".lock"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder in `parent`, by default the system's place for such, and remove it with all in it at the end.

    A locked file beside it, its guard, tells others that we live. The system unlocks it when we die, however that
    comes.
    """
    place = parent or Path(tempfile.gettempdir())
    remove_abandoned(place)
    guard, descriptor = _new_guard(place)
    folder = _folder_of(guard)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        remove_tree(folder)
        os.close(descriptor)
        _forget(guard)


def remove_abandoned(place: Path) -> None:
    """Remove the folders whose makers are dead. Those of other users stay, and those with something mounted in them."""
    for guard in place.glob(f"{PREFIX}*{LOCK}"):
        try:
            descriptor = os.open(guard, os.O_RDWR | NOTHING_ELSE)
        except OSError:  # gone meanwhile, another user's, or no file of ours
            continue
        try:
            lock(descriptor)
            remove_tree(_folder_of(guard))
            _forget(guard)
        except BlockingIOError:  # its maker lives, or somebody else removes it
            pass
        finally:
            os.close(descriptor)


def _new_guard(place: Path) -> tuple[Path, int]:
    """Make a guard and lock it. Whoever looks for abandoned ones may come between; then another one is made."""
    while True:
        guard = place / f"{PREFIX}{uuid.uuid4().hex}{LOCK}"
        descriptor = os.open(guard, os.O_RDWR | os.O_CREAT | os.O_EXCL | NOTHING_ELSE, 0o600)
        with suppress(BlockingIOError):
            lock(descriptor)
            if guard.exists():
                return guard, descriptor
        os.close(descriptor)


def _folder_of(guard: Path) -> Path:
    return guard.with_name(guard.name.removesuffix(LOCK))


def _forget(guard: Path) -> None:
    """Remove the guard of a folder that is gone; where it is not, the next worker tries again."""
    if not _folder_of(guard).exists():
        with suppress(PermissionError):  # Windows removes no open file
            guard.unlink(missing_ok=True)
