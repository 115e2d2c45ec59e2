"""Reads, writes and locks by file descriptor, on systems that lack calls of Linux: macOS and Windows.

Linux takes the direct way. Elsewhere the same is done by the calls that there are, one thread at a time if need be.
"""

import importlib
import os
import threading
from collections.abc import Sequence

BINARY: int = getattr(os, "O_BINARY", 0)
"""A flag for `os.open`: without it Windows changes line ends."""

NOTHING_ELSE: int = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))
"""Flags for `os.open` that follow no link and wait for no device, as far as the system has them."""

_LOCKED_BYTE = 1 << 30
_position_lock = threading.Lock()


def read_at(descriptor: int, views: Sequence[memoryview], position: int) -> int:
    """Fill views with the bytes from a position on; return how many were read, which may be fewer than they hold."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, views, position)
    data = read_bytes_at(descriptor, len(views[0]), position)
    views[0][: len(data)] = data
    return len(data)


def read_bytes_at(descriptor: int, nbytes: int, position: int) -> bytes:
    """Return up to so many bytes from a position on."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, nbytes, position)
    with _position_lock:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.read(descriptor, nbytes)


def write_at(descriptor: int, data: memoryview, position: int) -> int:
    """Write bytes to a position; return how many were written, which may be fewer."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, position)
    with _position_lock:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.write(descriptor, data)


def lock(descriptor: int) -> None:
    """Lock a file until its descriptor is closed. Raises BlockingIOError if another process holds the lock.

    Raises another OSError on a file system without locks.
    """
    try:
        import fcntl
    except ImportError:
        _lock_on_windows(descriptor)
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def wait_for_lock(descriptor: int, *, shared: bool) -> None:
    """Lock a file until its descriptor is closed, alone or with others, and wait for it as long as it takes.

    Where the system has no such locks nothing is locked.
    """
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def _lock_on_windows(descriptor: int) -> None:
    """Lock one byte beyond all contents: nobody else can read or write there then."""
    try:
        msvcrt = importlib.import_module("msvcrt")
    except ImportError as error:
        raise OSError("this system has no locks") from error
    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        raise BlockingIOError(*error.args) from error


def allocated_bytes(status: os.stat_result) -> int:
    """Return the bytes that a file takes on the disk; its size where the system does not tell."""
    if hasattr(status, "st_blocks"):
        return status.st_blocks * 512
    return status.st_size
