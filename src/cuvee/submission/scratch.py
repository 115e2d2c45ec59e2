"""Folders to judge in, each marked by its owner, so that those which dead owners left can be told from all others.

The mark is a file that the owner holds locked as long as it lives; the system lets go of the lock when it dies.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cuvee.descriptors import NOTHING_ELSE, lock
from cuvee.submission.removal import remove_tree
from cuvee.submission.sandbox.leftovers import sweep

PREFIX = "cuvee-judge-"
MARK = ".owner"


@contextmanager
def own_folder(scratch: Path | None) -> Iterator[Path]:
    """Make a folder below `scratch`, by default the system's temporary folder, and remove it and all in it at the end.

    Raises OSError where none can be made.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=scratch))
    try:
        mark = os.open(folder / MARK, os.O_RDWR | os.O_CREAT | os.O_EXCL | NOTHING_ELSE, 0o600)
        try:
            lock(mark)
            yield folder
        finally:
            os.close(mark)
    finally:
        remove_tree(folder)


def sweep_scratch(scratch: Path | None) -> list[Path]:
    """Remove the folders that dead owners left below `scratch`, and return them.

    Processes and mounts there are ended first. Folders of other users, of living owners, and without a mark stay.
    """
    if os.name != "nt":
        sweep()
    folder = scratch or Path(tempfile.gettempdir())
    if not folder.is_dir():
        return []
    left = [place for place in sorted(folder.glob(f"{PREFIX}*")) if _is_left(place)]
    for place in left:
        remove_tree(place)
    return left


def _is_left(folder: Path) -> bool:
    """Say whether a folder is ours and nobody holds its mark."""
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode) or not _is_ours(folder.lstat()):
            return False
        mark = os.open(folder / MARK, os.O_RDWR | NOTHING_ELSE)
    except OSError:
        return False
    try:
        lock(mark)
    except OSError:
        return False
    finally:
        os.close(mark)
    return True


def _is_ours(status: os.stat_result) -> bool:
    """Say whether something is our user's, and nobody else may write to it."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
