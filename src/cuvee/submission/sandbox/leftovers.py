"""Things that would be left on this machine if we died now: noted in a file, and cleaned up in any case.

A note is a file that its maker holds locked. Its number is nobody else's while it is held, so it is also the source of
users for jobs. Three clean up: the maker at the end; the keeper, a process of its own, at once when the maker dies; and
whoever takes the number next, or sweeps, if the keeper died as well.
"""

import contextlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cuvee.descriptors import NOTHING_ELSE, lock
from cuvee.errors import PlatformError
from cuvee.submission.sandbox import keeper

MOST_NOTES = 10_000
ROOT_NOTES = Path("/run/cuvee")
FIRST_USER = 2_000_000_000
"""Users of jobs have numbers from here on, which no other account has."""


@dataclass(frozen=True)
class Note:
    """A note that is held. `number` is below MOST_NOTES, and no other process on this machine holds it.

    `user` is for a job, whose processes are all that it ever has; None where there are no such users.
    """

    number: int
    user: int | None = None


@dataclass(frozen=True)
class Contained:
    """A container by its name, the engine that runs it, and the part of our environment that the engine needs."""

    engine: Path
    name: str
    environment: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {"engine": str(self.engine), "name": self.name, "environment": dict(self.environment)}


@contextlib.contextmanager
def noted(
    *,
    groups: Sequence[Path] = (),
    mounts: Sequence[Path] = (),
    containers: Sequence[Contained] = (),
    has_user: bool = False,
) -> Iterator[Note]:
    """Note groups, mounts and containers before they are made; at the end they are ended, removed and unmounted.

    With `has_user`, for root, the note has a user, whose processes are ended, too. Raises PlatformError if there is no
    room for notes.
    """
    content: dict[str, Any] = {
        "groups": list(map(str, groups)),
        "mounts": list(map(str, mounts)),
        "containers": [container.to_json() for container in containers],
    }
    number, descriptor = _free_note()
    gets_own_user = has_user and has_own_users()
    user = FIRST_USER + number if gets_own_user else None
    if user is not None:
        content["user"] = user
    try:
        _fill(descriptor, content)
        guard = _start_keeper(content, descriptor)
        try:
            yield Note(number, user)
        finally:
            if keeper.clean(content):
                _fill(descriptor, {})
            _end_keeper(guard)
    finally:
        os.close(descriptor)


def sweep() -> None:
    """Clean up the leavings of makers of notes that died without a keeper. Notes that are held stay as they are."""
    folder = notes_folder()
    for place in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        descriptor = _held(place)
        if descriptor is not None:
            os.close(descriptor)


@cache
def has_own_users() -> bool:
    """Say whether root has a range of users for jobs: it may be root of a container with few."""
    last = FIRST_USER + MOST_NOTES
    for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines():
        first, _, count = map(int, line.split())
        if first <= FIRST_USER and last <= first + count:
            return True
    return False


def notes_folder() -> Path:
    """Return the folder of this user's notes."""
    user = os.geteuid()
    return ROOT_NOTES if user == 0 else Path(tempfile.gettempdir()) / f"cuvee-notes-{user}"


def _free_note() -> tuple[int, int]:
    folder = notes_folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise PlatformError(f"no notes on running jobs can be kept: {error}", where=str(folder)) from error
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_ours or status.st_mode & 0o022:
        raise PlatformError("the folder for notes on running jobs can be written by others", where=str(folder))
    for number in range(MOST_NOTES):
        descriptor = _held(folder / f"{number}.json")
        if descriptor is not None:
            return number, descriptor
    raise PlatformError(f"{MOST_NOTES} jobs run on this machine; there is no number left", where=str(folder))


def _held(place: Path) -> int | None:
    """Lock a note, clean up all that it names, and return its descriptor; None if it is held or cannot be cleaned."""
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | NOTHING_ELSE, 0o600)
    try:
        lock(descriptor)
        content = os.read(descriptor, 1 << 16)
        if not content or keeper.clean(json.loads(content)):
            _fill(descriptor, {})
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _fill(descriptor: int, content: Mapping[str, Any]) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(content).encode())


def _start_keeper(content: Mapping[str, Any], descriptor: int) -> "subprocess.Popen[bytes]":
    """Start a keeper. It inherits the note, which stays held until it is done, so nobody takes the number before."""
    command = [sys.executable, "-I", "-S", keeper.__file__]
    guard = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=keeper.PATHS,
        cwd="/",
        pass_fds=(descriptor,),
        start_new_session=True,  # so that what ends our terminal or group does not end it
    )
    assert guard.stdin is not None, "it is a pipe"
    guard.stdin.write(json.dumps(content).encode())
    guard.stdin.flush()
    return guard


def _end_keeper(guard: "subprocess.Popen[bytes]") -> None:
    assert guard.stdin is not None, "it is a pipe"
    with contextlib.suppress(BrokenPipeError):
        guard.stdin.close()
    guard.wait()
