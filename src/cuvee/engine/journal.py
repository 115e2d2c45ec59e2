"""The journal of a merge: which tensors are finished, so that a stopped merge goes on where it was.

One JSON object a line. The first line says which merge it is; each of the following lines says that a tensor is
written to its last byte; the last line says that a part of a split merge is complete. A reader drops a line that a
kill cut short. The writer holds a lock on the file, so that two merges to one output do not mix.
"""

import json
import os
import threading
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cuvee.checkpoint.write import remove_empty, write_error
from cuvee.descriptors import BINARY, lock
from cuvee.engine.step import Loss
from cuvee.errors import RecipeError

Identity = Mapping[str, Any]
"""What must be equal for two runs to be the same merge; plain JSON."""


@dataclass(frozen=True)
class Finished:
    """A tensor that is written: the digest of its bytes, and the loss of the cast."""

    digest: str
    loss: Loss


@dataclass
class Contents:
    """The content of a journal. `complete` is that of its last line; `nbytes` is where the readable lines end."""

    identity: Identity | None = None
    finished: dict[str, Finished] = field(default_factory=dict)
    complete: dict[str, Any] | None = None
    nbytes: int = 0

    @property
    def begun(self) -> bool:
        """Whether there is anything that would be lost."""
        return bool(self.finished) or self.complete is not None

    @property
    def is_complete(self) -> bool:
        """Whether the part that it is of was written to its end."""
        return self.identity is not None and self.complete is not None


def read_journal(path: Path) -> Contents:
    """Read a journal up to its first line that is torn or damaged. A file that is not there says nothing."""
    contents = Contents()
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return contents
    for line in raw.splitlines(keepends=True):
        try:
            _take(contents, line)
        except (ValueError, KeyError, TypeError, RecursionError):
            break
        contents.nbytes += len(line)
    return contents


def _take(contents: Contents, line: bytes) -> None:
    if not line.endswith(b"\n"):
        raise ValueError("torn")
    said = json.loads(line)
    if contents.identity is None:
        contents.identity = dict(said["merge"])
    elif "complete" in said:
        contents.complete = dict(said["complete"])
    else:
        loss = Loss(float(said["lost"]), float(said["moved"]))
        contents.finished[str(said["tensor"])] = Finished(str(said["digest"]), loss)


class Journal:
    """A journal that is being written, locked until it is closed; `contents` is its content so far.

    `damaged` are tensors that it called finished and whose bytes were others when they were read back.

    Raises RecipeError if another merge holds the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: tuple[str, ...] = ()
        self._guard = threading.Lock()
        try:
            self._descriptor = _open_locked(path)
            self.contents = read_journal(path)
            os.ftruncate(self._descriptor, self.contents.nbytes)
        except OSError as error:
            raise write_error(error, path) from error

    def begin(self, identity: Identity) -> None:
        """Write the first line."""
        self._append({"merge": identity})

    def add(self, tensor: str, done: Finished) -> None:
        """Say that a tensor is written. Call it after its last byte, from any thread."""
        self._append({"tensor": tensor, "digest": done.digest, "lost": done.loss.lost, "moved": done.loss.moved})

    def end(self, complete: Mapping[str, Any]) -> None:
        """Say that all there is to do is done."""
        self._append({"complete": complete})

    def clear(self) -> None:
        """Forget everything; the lock stays."""
        with self._guard:
            os.ftruncate(self._descriptor, 0)
            self.contents = Contents()

    def keep_only(self, tensors: Container[str]) -> None:
        """Forget finished tensors that are not among `tensors`. A kill meanwhile forgets more, never less."""
        kept = {name: done for name, done in self.contents.finished.items() if name in tensors}
        identity = self.contents.identity
        if len(kept) == len(self.contents.finished) or identity is None:
            return
        self.clear()
        self.begin(identity)
        for name, done in kept.items():
            self.add(name, done)

    def warnings(self) -> tuple[str, ...]:
        """Say that tensors had to be merged again, if any had."""
        if not self.damaged:
            return ()
        count = len(self.damaged)
        which = f"'{self.damaged[0]}'" if count == 1 else f"{count} tensors, '{self.damaged[0]}' first,"
        return (f"{which} had changed on the disk since an earlier run wrote it; merged again: is the disk sound?",)

    def close(self) -> None:
        """Let go of the lock."""
        with self._guard:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def remove(self) -> None:
        """Remove the file, and its folder if nothing else is in it."""
        with suppress(OSError):
            self.path.unlink()
        self.close()
        if os.name == "nt":  # where an open file cannot be removed
            with suppress(OSError):
                self.path.unlink()
        remove_empty(self.path.parent)

    def _append(self, said: Mapping[str, Any]) -> None:
        line = json.dumps(said, separators=(",", ":")).encode() + b"\n"
        with self._guard:
            try:
                _write_whole(self._descriptor, line)
            except OSError as error:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self.contents.nbytes)
                raise write_error(error, self.path) from error
            _take(self.contents, line)
            self.contents.nbytes += len(line)


def _write_whole(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]


def _open_locked(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | BINARY, 0o644)
        except FileNotFoundError:  # the one before us has just removed the folder
            continue
        try:
            _lock(descriptor, path)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:  # the one before us has just finished
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        lock(descriptor)
    except BlockingIOError as error:
        hint = "wait for it, or name another output"
        raise RecipeError("another merge is writing this output now", where=str(path.parent), hint=hint) from error
    except OSError:
        pass  # a file system without locks; two merges at once are then the author's to avoid
