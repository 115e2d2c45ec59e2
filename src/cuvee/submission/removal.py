"""Removes a folder that a job wrote to, whatever depth, rights and names it has left there."""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it. Links are removed and not followed; files that may not be removed stay.

    Folders are opened by descriptors, two of them at a time, so that no depth and no length is too much: a folder
    in a folder is moved to the top before it is emptied. Where the system has no such calls, `shutil` does it.
    """
    if os.unlink not in os.supports_dir_fd:
        shutil.rmtree(folder, ignore_errors=True)
        return
    with suppress(OSError):
        if stat.S_ISDIR(folder.lstat().st_mode):
            folder.chmod(stat.S_IRWXU)
    try:
        top = os.open(folder, FOLDER)
    except OSError:
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    with suppress(OSError):
        os.rmdir(folder)


def _empty(top: int) -> None:
    moved = 0
    while True:
        names = os.listdir(top)
        left = [name for name in names if not _unlinked(name, top)]
        if not left:
            return
        progress = False
        for name in left:
            moved += 1
            progress |= _lifted(name, top, f"removed-{moved}-")
        if not progress:
            return


def _lifted(name: str, top: int, prefix: str) -> bool:
    """Move the content of a folder to the top and remove the folder. Return whether anything was moved or removed."""
    progress = False
    with suppress(OSError):
        os.chmod(name, stat.S_IRWXU, dir_fd=top)
    try:
        inner = os.open(name, FOLDER, dir_fd=top)
    except OSError:
        return False
    try:
        for number, entry in enumerate(os.listdir(inner)):
            if _unlinked(entry, inner):
                progress = True
                continue
            with suppress(OSError):
                os.rename(entry, f"{prefix}{number}", src_dir_fd=inner, dst_dir_fd=top)
                progress = True
    finally:
        os.close(inner)
    with suppress(OSError):
        os.rmdir(name, dir_fd=top)
        progress = True
    return progress


def _unlinked(name: str, folder: int) -> bool:
    """Remove a file or link. Return whether it is gone."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return False
    return True
