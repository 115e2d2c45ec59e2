"""A file system of limited size for a job's files: deep, unlinked, sparse or many files cost nothing beyond it.

It is an image in a file, formatted as ext4 and mounted by a loop device, or else a tmpfs. Both need root. The file of
an image has no name any more once it is mounted, so to unmount it is to remove it.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cuvee.errors import PlatformError
from cuvee.submission.sandbox.leftovers import noted

BLOCK = 4096
"""Bytes of a block. A file or a folder takes at least one, as the watch counts them."""

MOST_ENTRIES = 1_000_000
FEWEST_ENTRIES = 64
BYTES_PER_ENTRY = 256
SPARE_BYTES = 1 << 20
"""Room beyond the limit for the system's own, and so that it is seen who went over it."""

OPTIONS = "nosuid,nodev,noatime"
SECONDS = 120.0

Mount = Callable[[Path, int], None]
"""Mounts a file system that holds so many bytes on a folder. Raises OSError or SubprocessError."""


@dataclass(frozen=True)
class Scratch:
    """The mounts that a folder for scratch can have in it; `mount` is None where there is none.

    `lacks` says why not: `image` for an image in the folder's own file system, `filesystem` for anything at all.
    """

    mount: Mount | None
    lacks: Mapping[str, str]


@contextlib.contextmanager
def limited_folder(folder: Path, disk_bytes: int, *, mount: Mount | None) -> Iterator[None]:
    """Make a new folder that holds so many bytes and no more, and take it away at the end; without `mount` it is plain.

    Raises PlatformError if it cannot be mounted.
    """
    folder.mkdir(parents=True)
    if mount is None:
        yield
        return
    with noted(mounts=[folder]):
        try:
            mount(folder, disk_bytes)
        except (OSError, subprocess.SubprocessError) as error:
            raise PlatformError(f"no limited file system can be mounted: {_said(error)}", where=str(folder)) from error
        yield


def look_at_scratch(folder: Path) -> Scratch:
    """Find out which mounts a folder for scratch can have. It is made: tried out, once for each file system.

    Raises PlatformError if nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder):
            device = folder.stat().st_dev
    except OSError as error:
        message = f"nothing can be written to the folder for scratch: {error.strerror}"
        raise PlatformError(message, where=str(folder), hint="name another one") from error
    return _scratch_on(_Disk(device, folder))


@dataclass(frozen=True)
class _Disk:
    """A file system by its number; any folder of it will do to try it out."""

    device: int
    folder: Path = field(compare=False)


@cache
def _scratch_on(disk: _Disk) -> Scratch:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return Scratch(None, {"filesystem": "only root can mount one"})
    no_image = cannot_mount(mount_image, disk.folder)
    if no_image is None:
        return Scratch(mount_image, {})
    no_tmpfs = cannot_mount(mount_tmpfs, disk.folder)
    if no_tmpfs is None:
        return Scratch(mount_tmpfs, {"image": no_image})
    return Scratch(None, {"filesystem": f"{no_image}; {no_tmpfs}"})


def cannot_mount(mount: Mount, scratch: Path) -> str | None:
    """Return why a file system cannot be mounted in a folder; None if it can."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        out = Path(folder) / "out"
        try:
            with limited_folder(out, 1 << 20, mount=mount):
                (out / "file").write_bytes(b"x")
        except PlatformError as error:
            return f"in {scratch}: {error.message}"
    return None


def mount_image(folder: Path, disk_bytes: int) -> None:
    """Mount a new image, sparse in the folder's own file system. Its file lies beside the folder for a moment."""
    entries = entries_in(disk_bytes)
    size = disk_bytes + SPARE_BYTES + disk_bytes // 64 + entries * BYTES_PER_ENTRY
    with tempfile.NamedTemporaryFile(dir=folder.parent, prefix=".image-") as image:
        image.truncate(size)
        plain = ["-q", "-F", "-m", "0", "-b", str(BLOCK), "-I", str(BYTES_PER_ENTRY), "-N", str(entries)]
        _run("mkfs.ext4", *plain, "-O", "^has_journal,^resize_inode", image.name)
        _run("mount", "-t", "ext4", "-o", f"loop,{OPTIONS}", image.name, str(folder))
    (folder / "lost+found").rmdir()


def mount_tmpfs(folder: Path, disk_bytes: int) -> None:
    """Mount a folder in memory. Files there count as memory of the job that writes them."""
    size = f"size={disk_bytes + SPARE_BYTES},nr_inodes={entries_in(disk_bytes)}"
    _run("mount", "-t", "tmpfs", "-o", f"{size},{OPTIONS},mode=0755", "cuvee", str(folder))


def entries_in(disk_bytes: int) -> int:
    """Return how many files and folders there may be in so many bytes."""
    return min(MOST_ENTRIES, max(FEWEST_ENTRIES, disk_bytes // BLOCK))


def is_limited(folder: Path) -> bool:
    """Say whether a folder is a file system of its own."""
    return os.path.ismount(folder)


def is_in_memory(folder: Path) -> bool:
    """Say whether a folder is a file system of its own in memory."""
    if not is_limited(folder):
        return False
    escaped = str(folder.resolve()).replace(" ", "\\040")
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    systems = [line.partition(" - ")[2].split()[0] for line in lines if line.split()[4] == escaped]
    return systems[-1:] == ["tmpfs"]


def used_bytes(folder: Path) -> int:
    """Return the used part of a file system: its blocks, or all of them if it has no room for another file."""
    status = os.statvfs(folder)
    free = status.f_bfree if status.f_ffree else 0
    return (status.f_blocks - free) * status.f_frsize


def _run(*command: str) -> None:
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}
    subprocess.run(command, capture_output=True, check=True, timeout=SECONDS, env=environment)


def _said(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return error.stderr.decode("utf-8", "replace").strip() or str(error)
    return str(error)
