"""A file system of limited size for what a job writes: deep, unlinked, sparse or many files cost nothing beyond it.

It is an image in a file, formatted as ext4 and mounted by a loop device, or else a tmpfs. Both need root. The file of
an image has no name any more once it is mounted, so to unmount it is to remove it.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
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


class NoFileSystem(Exception):
    """No file system of limited size can be mounted here, for the reason that the message names."""


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


@cache
def find_mount() -> Mount:
    """Return what mounts limited file systems on this machine, tried out. Raises NoFileSystem."""
    if os.geteuid() != 0:
        raise NoFileSystem("only root can mount one")
    reasons: list[str] = []
    for mount in (mount_image, mount_tmpfs):
        reason = cannot_mount(mount)
        if reason is None:
            return mount
        reasons.append(reason)
    raise NoFileSystem("; ".join(reasons))


def cannot_mount(mount: Mount) -> str | None:
    """Return why a file system cannot be mounted on this machine; None if it can."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        try:
            with limited_folder(out, 1 << 20, mount=mount):
                (out / "file").write_bytes(b"x")
        except PlatformError as error:
            return error.message
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
    """Mount a folder in memory. What lies there counts as memory of the job that writes it."""
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
    """Return what is taken of a file system: its blocks, or all of them if it has no room for another file."""
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
