"""Inputs must stay as they are while a merge reads them: their files are looked at before the first byte and after it.

A file that was written over in place, with numbers as good as those before, would otherwise give a mixture of both.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError

HINT = "wait until nobody writes to the inputs, and merge again"


@dataclass(frozen=True)
class FileState:
    """The file system's record of a file; times are in nanoseconds."""

    size: int
    modified: int
    inode: tuple[int, int]
    changed: int
    rights: tuple[int, int, int, int]

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """Look at a file, not at a link to it. Raises OSError where there is none."""
        status = os.stat(path)
        inode = (status.st_dev, status.st_ino)
        rights = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink)
        return cls(status.st_size, status.st_mtime_ns, inode, status.st_ctime_ns, rights)

    def difference(self, later: "FileState") -> str | None:
        """Say how a file differs from its record, None if it does not.

        The time of the last change of any kind counts only where rights, owner and links, which are of the same
        record, are as before: a file may be linked elsewhere meanwhile.
        """
        if self.size != later.size:
            return f"it has {later.size:,} bytes and had {self.size:,}"
        if self.inode != later.inode:
            return "another file is in its place"
        if self.modified != later.modified:
            return "it was written to"
        if self.changed != later.changed and self.rights == later.rights:
            return "it was written to, and its time set back"
        return None


class InputFiles:
    """The files of the models that are merged, as they are before the first byte is read.

    Raises CheckpointError for a file that has changed since it was opened.
    """

    def __init__(self, sources: Iterable[TensorSource]) -> None:
        self._states: dict[Path, FileState] = {}
        for source in sources:
            for file in source.files().values():
                if file.path is None:
                    continue
                state = _state_now(file.path)
                if file.modified_ns is not None and (state.size, state.modified) != (file.size, file.modified_ns):
                    raise CheckpointError("the file has changed since it was opened", where=str(file.path), hint=HINT)
                self._states[file.path] = state

    def check(self) -> None:
        """Raise CheckpointError if a file is another file than before, or has been written to."""
        for path, state in self._states.items():
            difference = state.difference(_state_now(path))
            if difference is not None:
                message = f"the file changed while it was merged: {difference}"
                raise CheckpointError(message, where=str(path), hint=HINT)


def _state_now(path: Path) -> FileState:
    try:
        return FileState.of(path)
    except OSError as error:
        message = f"the file is gone while it is merged: {error.strerror}"
        raise CheckpointError(message, where=str(path), hint=HINT) from error
