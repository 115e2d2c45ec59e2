"""Control groups of Linux: the kernel holds all that a job takes, mapped or not, to one limit.

Version 2 has one tree of groups, version 1 a tree for each resource; a machine may have both. A group of a job is made
below that of this process, or the nearest above it that can limit others, so limits from there on hold for jobs, too.
The first process of a job joins before it runs anything of the job, and its children are in the group by themselves.
"""

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cuvee.submission.cores import written_cores
from cuvee.submission.sandbox import keeper

CONTROLLERS = {"memory", "pids"}
BESIDES = ("cpu", "cpuset")
"""Controllers that version 2 may give on besides."""

OPTIONAL = ("accounts", "cpu", "cpuset")
"""Fields of a tree that may be None."""

PERIOD_MICROSECONDS = 100_000
"""Of a quota, which is a share of it times the number of cores. It is the kernel's own default."""

OURS = "cuvee-workers"
"""A group for the processes of a delegated group, which may hold none itself once it gives controllers on."""


class NoGroup(Exception):
    """No control group can be made here, for the reason that the message names."""


@dataclass(frozen=True)
class Tree:
    """Groups below which those of jobs are made: for memory, for processes, and a group that can kill and count.

    All are the same in version 2. `unified` is None where there is version 1 alone; there `accounts` counts the
    processor's seconds. `cpu` shares processors out fairly and bounds them, `cpuset` holds jobs to some cores. Each of
    these three is None where it takes no groups of ours.
    """

    memory: Path
    processes: Path
    unified: Path | None
    version: Literal[1, 2]
    accounts: Path | None = None
    cpu: Path | None = None
    cpuset: Path | None = None

    @property
    def counts_cpu(self) -> bool:
        """Say whether the processor's seconds of a job are counted."""
        return self.unified is not None or self.accounts is not None


class Group:
    """The control group of one job, which is held to some `cores`, or to none in particular.

    Make it with `made`, which also removes it.
    """

    def __init__(self, tree: Tree, name: str, cores: frozenset[int] | None = None) -> None:
        self.cores = cores
        self.version = tree.version
        self.memory = tree.memory / name
        self.processes = tree.processes / name
        self.unified = tree.unified / name if tree.unified else None
        self.accounts = tree.accounts / name if tree.accounts else None
        self.cpu = tree.cpu / name if tree.cpu else None
        self.cpuset = tree.cpuset / name if tree.cpuset and cores else None
        self._joining: list[int] = []

    @property
    def folders(self) -> list[Path]:
        """The group's folders, each once."""
        folders = (self.memory, self.processes, self.unified, self.accounts, self.cpu, self.cpuset)
        return list(dict.fromkeys(folder for folder in folders if folder))

    def make(self, memory_bytes: int, processes: int) -> None:
        """Make the group with its limits. Raises OSError."""
        for folder in self.folders:
            folder.mkdir()
        if self.version == 2:
            (self.memory / "memory.max").write_text(str(memory_bytes))
            keeper.write(self.memory / "memory.swap.max", "0")  # absent where nothing is swapped
            keeper.write(self.memory / "memory.oom.group", "1")
        else:
            (self.memory / "memory.limit_in_bytes").write_text(str(memory_bytes))
            keeper.write(self.memory / "memory.memsw.limit_in_bytes", str(memory_bytes))
        (self.processes / "pids.max").write_text(str(processes))
        if self.cores is not None:
            self._hold_to(self.cores)
        self._joining = [os.open(folder / "cgroup.procs", os.O_WRONLY) for folder in self.folders]

    def _hold_to(self, cores: frozenset[int]) -> None:
        quota = len(cores) * PERIOD_MICROSECONDS
        if self.cpu is not None and self.version == 2:
            (self.cpu / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
        elif self.cpu is not None:
            (self.cpu / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
            (self.cpu / "cpu.cfs_quota_us").write_text(str(quota))
        if self.cpuset is None:
            return
        (self.cpuset / "cpuset.cpus").write_text(written_cores(cores))
        if self.version == 1:  # a new group has no memory to begin with, and takes nobody then
            nodes = (self.cpuset.parent / "cpuset.effective_mems").read_text(encoding="ascii")
            (self.cpuset / "cpuset.mems").write_text(nodes)

    def join(self) -> None:
        """Put the calling process into the group: system calls alone, for a process that is about to run a command."""
        for descriptor in self._joining:
            os.write(descriptor, b"0")

    def close(self) -> None:
        """Let nobody join any more."""
        while self._joining:
            os.close(self._joining.pop())

    def end(self) -> None:
        """Kill all that runs in the group and wait until it is gone."""
        keeper.end_groups(self.folders)

    def members(self) -> int:
        """Count the processes of the group."""
        return len(keeper.processes(self.processes))

    def memory_bytes(self) -> int:
        """Return the memory that the group holds now, without copies of files that the system can drop."""
        if self.version == 2:
            statistics = _numbers(self.memory / "memory.stat")
            return _number(self.memory / "memory.current") - statistics["file"] + statistics["shmem"]
        statistics = _numbers(self.memory / "memory.stat")
        return _number(self.memory / "memory.usage_in_bytes") - statistics["total_cache"] + statistics["total_shmem"]

    def held_memory_bytes(self) -> int | None:
        """Return the most memory that the group has ever held, copies of files too; None where it is not told."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        if not (self.memory / name).exists():
            return None
        return _number(self.memory / name)

    def cpu_seconds(self) -> float | None:
        """Return the processor's seconds that the group has used; None where nothing counts them."""
        if self.accounts is not None:
            return _number(self.accounts / "cpuacct.usage") / 1e9
        if self.unified is not None:
            return _numbers(self.unified / "cpu.stat")["usage_usec"] / 1e6
        return None

    def verdict(self) -> Literal["memory", "processes"] | None:
        """Return the limit at which the kernel has stopped the job, if any."""
        events = "memory.events" if self.version == 2 else "memory.oom_control"
        if _numbers(self.memory / events)["oom_kill"]:
            return "memory"
        return "processes" if _numbers(self.processes / "pids.events")["max"] else None


@contextlib.contextmanager
def made(group: Group, memory_bytes: int, processes: int) -> Iterator[Group]:
    """Make a group, and end and remove it at last. Raises OSError if it cannot be made."""
    try:
        group.make(memory_bytes, processes)
        yield group
    finally:
        group.close()
        group.end()
        for folder in group.folders:
            keeper.remove_group(folder)


def group_of_job(tree: Tree, cores: frozenset[int] | None = None) -> Group:
    """Return a group for a job, not made yet, under a name that no other has and that tells who watches it."""
    return Group(tree, f"cuvee-job-{os.getpid()}-{uuid.uuid4().hex}", cores)


def find_tree() -> Tree:
    """Return where groups of jobs can be made, tried out. Raises NoGroup."""
    mounts = _Mounts.read()
    reasons: list[str] = []
    for whole in (mounts.second(), mounts.first()):
        if whole is None:
            continue
        tree = _without_what_fails(whole)
        try:
            _try(tree)
        except (OSError, subprocess.SubprocessError, KeyError) as error:
            reasons.append(f"version {tree.version}: {error}")
        else:
            return tree
    raise NoGroup("; ".join(reasons) or "there are no controllers for memory and processes")


def _without_what_fails(tree: Tree) -> Tree:
    """Leave out the trees that we can do without, and that do not work where the others are left out."""
    bare = replace(tree, accounts=None, cpu=None, cpuset=None)
    working = bare
    for name in OPTIONAL:
        place = {name: getattr(tree, name)}
        with contextlib.suppress(OSError, subprocess.SubprocessError, KeyError):
            _try(replace(bare, **place))
            working = replace(working, **place)
    return working


def _try(tree: Tree) -> None:
    """Run a process in a group, held to all our cores, and read all its counters."""
    cores = frozenset(os.sched_getaffinity(0))
    with made(group_of_job(tree, cores), 64 << 20, 16) as group:
        subprocess.run(["/bin/true"], preexec_fn=group.join, check=True, timeout=10)
        group.memory_bytes()
        group.held_memory_bytes()
        group.cpu_seconds()
        group.verdict()


@dataclass(frozen=True)
class _Mounts:
    """Where trees of groups are mounted, by controller; the empty name stands for version 2. Our groups in them."""

    mounts: Mapping[str, tuple[Path, str]]
    groups: Mapping[str, str]

    @classmethod
    def read(cls) -> "_Mounts":
        mounts: dict[str, tuple[Path, str]] = {}
        for line in _lines("/proc/self/mountinfo"):
            before, _, after = line.partition(" - ")
            root, place = before.split()[3:5]
            system, _, options = after.split(" ", 2)
            if system == "cgroup2":
                mounts.setdefault("", (Path(place), root))
            elif system == "cgroup":
                for name in options.split(","):
                    mounts.setdefault(name, (Path(place), root))
        groups: dict[str, str] = {}
        for line in _lines("/proc/self/cgroup"):
            _, names, group = line.split(":", 2)
            groups.update(dict.fromkeys(names.split(","), group))
        return cls(mounts, groups)

    def own(self, controller: str) -> Path | None:
        """Return the folder of our own group in a controller's tree; that of its root if ours is not shown here."""
        if controller not in self.mounts or controller not in self.groups:
            return None
        place, root = self.mounts[controller]
        group = self.groups[controller]
        inner = place / os.path.relpath(group, root) if Path(group).is_relative_to(root) else place
        return inner if inner.is_dir() else place

    def first(self) -> Tree | None:
        """Return our groups in version 1."""
        memory, processes = self.own("memory"), self.own("pids")
        if memory is None or processes is None:
            return None
        return Tree(memory, processes, self.own(""), 1, self.own("cpuacct"), self.own("cpu"), self.own("cpuset"))

    def second(self) -> Tree | None:
        """Return the group in version 2 that is nearest to ours and gives controllers to groups below it."""
        own = self.own("")
        if own is None or not _words(own / "cgroup.controllers") >= CONTROLLERS:
            return None
        if own.name == OURS:
            own = own.parent  # another process of ours has moved us
        _give_controllers(own)
        _give_others(own)
        top = self.mounts[""][0]
        for group in (own, *own.parents):
            given = _words(group / "cgroup.subtree_control")
            if given >= CONTROLLERS:
                cpu, cpuset = (group if name in given else None for name in BESIDES)
                return Tree(group, group, group, 2, cpu=cpu, cpuset=cpuset)
            if group == top:
                break
        return Tree(own, own, own, 2)


def _give_controllers(own: Path) -> None:
    """Let groups below ours have limits. A group with processes cannot, so ours go to a group below it first."""
    if _have_controllers(own) or not _delegated(own):
        return
    inner = own / OURS
    with contextlib.suppress(OSError):
        inner.mkdir(exist_ok=True)
    for pid in keeper.processes(own):
        keeper.write(inner / "cgroup.procs", str(pid))
    if not _have_controllers(own):
        for pid in keeper.processes(inner):
            keeper.write(own / "cgroup.procs", str(pid))
        keeper.remove_group(inner)


def _give_others(own: Path) -> None:
    """Let groups below ours have the controllers, too, that we can do without."""
    if _have_controllers(own) and _delegated(own):
        for name in BESIDES:
            keeper.write(own / "cgroup.subtree_control", f"+{name}")


def _have_controllers(own: Path) -> bool:
    given = _words(own / "cgroup.subtree_control") >= CONTROLLERS
    return given or keeper.write(own / "cgroup.subtree_control", "+memory +pids")


def _delegated(own: Path) -> bool:
    """Say whether a group is ours to arrange: given to our user, marked by systemd, or the root of a container."""
    if not (own / "cgroup.type").exists():
        return False  # the root of the whole machine
    if os.geteuid() != 0:
        return own.stat().st_uid == os.geteuid()
    for name in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            return os.getxattr(own, name) == b"1"
    return own.is_mount()


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _words(file: Path) -> set[str]:
    try:
        return set(file.read_text(encoding="ascii").split())
    except OSError:
        return set()


def _number(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))


def _numbers(file: Path) -> dict[str, int]:
    pairs = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return {name: int(number) for name, number in pairs}
