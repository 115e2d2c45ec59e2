"""A command watched from outside: seconds, memory, disk, processes and output; killed with all its children.

A thread looks every few hundredths of a second: at the control group and the file system that hold the command, where
it has them, and else at the tree of processes and at the folder. The command's own figures of its use are not asked.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from cuvee.descriptors import allocated_bytes
from cuvee.errors import PlatformError
from cuvee.submission.cleaned import cleaned
from cuvee.submission.sandbox.cgroup import Group
from cuvee.submission.sandbox.filesystem import is_in_memory, is_limited, used_bytes
from cuvee.submission.sandbox.protocol import Ended, Ending, Hear, Limits

WATCH_SECONDS = 0.05
DISK_EVERY = 4
"""Looks at the processes for one at the disk, which takes longer."""

LOG_TAIL = 16 << 10
LONGEST_LINE = 64 << 10
AFTERMATH_SECONDS = 3.0
"""How long the outputs may stay open once the command has ended."""


def watch(
    command: Sequence[str],
    limits: Limits,
    writable: Path,
    hear: Hear,
    *,
    environment: Mapping[str, str],
    prepare: Callable[[], None] | None = None,
    stop: Callable[[], None] | None = None,
    group: Group | None = None,
    descriptors: Sequence[int] = (),
) -> Ended:
    """Run a command to its end or to any of the limits. `prepare` runs in the new process before the command.

    `stop` is called besides killing the process, for a command that only asks another program to run the job, whose
    memory and processes are then that program's to hold and nobody's to measure. The command runs in the `group`,
    which must be made, and inherits the `descriptors`.
    """
    started = time.monotonic()

    def enter() -> None:  # nothing but system calls, in a process that execs at once
        if group is not None:
            group.join()
        if prepare is not None:
            prepare()

    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=writable,
            start_new_session=True,
            pass_fds=descriptors,
            preexec_fn=enter if group or prepare else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PlatformError(f"the sandbox does not start: {error}", where=command[0]) from error
    written = _Written(limits.log_bytes)
    assert process.stdout is not None, "it is a pipe"
    assert process.stderr is not None, "it is a pipe"
    readers = [
        threading.Thread(target=written.read_lines, args=(process.stdout, hear), daemon=True),
        threading.Thread(target=written.read_tail, args=(process.stderr,), daemon=True),
    ]
    for reader in readers:
        reader.start()
    watched = _Watched(process.pid, limits, writable, started, group, measures=stop is None)
    try:
        ending = _until_end(process, watched, written, hear)
    finally:
        kill_tree(process)
        if group is not None:
            group.end()
        if stop is not None:
            stop()
        for reader in readers:
            reader.join(AFTERMATH_SECONDS)
    if written.stopped is not None:  # by the last lines of a command that has ended
        raise written.stopped
    watched.look_at_disk()
    watched.look_at_cpu()
    if ending == "finished" and watched.over() is not None:
        ending = watched.over() or ending
    if ending == "finished" and process.returncode != 0:
        ending = "crash"
    return Ended(
        ending,
        process.returncode,
        time.monotonic() - started,
        watched.peak_memory if stop is None else None,
        watched.disk,
        written.tail(),
        watched.cpu_seconds,
        group.held_memory_bytes() if group else None,
    )


def _until_end(process: "subprocess.Popen[bytes]", watched: "_Watched", written: "_Written", hear: Hear) -> Ending:
    """Wait for the end of a process or a limit. Raises errors of `hear`, also for the empty line of a silent job."""
    while True:
        if written.stopped is not None:
            raise written.stopped
        hear(b"")
        try:
            process.wait(WATCH_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        else:
            return "log" if written.too_much.is_set() else "finished"
        watched.look()
        if written.too_much.is_set():
            return "log"
        if (over := watched.over()) is not None:
            return over


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that descend from it, whatever groups and sessions they made; wait for the first."""
    tree = descendants(process.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        process.kill()
    for pid in tree:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Written:
    """The output of a command: lines of it are heard, the end of its errors is kept."""

    def __init__(self, most: int) -> None:
        self.too_much = threading.Event()
        self.stopped: BaseException | None = None
        self._most = most
        self._count = 0
        self._lock = threading.Lock()
        self._tail = bytearray()

    def read_lines(self, pipe: IO[bytes], hear: Hear) -> None:
        line = bytearray()
        for piece in self._pieces(pipe):
            line += piece
            *whole, rest = line.split(b"\n")
            for each in whole:
                if each and self.stopped is None:
                    self._tell(hear, bytes(each))
            line = bytearray(rest[-LONGEST_LINE:])

    def _tell(self, hear: Hear, line: bytes) -> None:
        """Hand a line to the listener. An error of the listener stops the job; reading goes on, so nobody waits."""
        try:
            hear(line)
        except BaseException as error:  # noqa: BLE001  # raised again where the job is watched
            self.stopped = error

    def read_tail(self, pipe: IO[bytes]) -> None:
        for piece in self._pieces(pipe):
            self._tail = (self._tail + piece)[-LOG_TAIL:]

    def tail(self) -> str:
        """Return the end of the output, without control characters."""
        return cleaned(bytes(self._tail).decode("utf-8", "replace"), LOG_TAIL)

    def _pieces(self, pipe: IO[bytes]) -> Iterator[bytes]:
        """Yield the output; beyond the limit it is read, so that nobody waits, and dropped."""
        while piece := os.read(pipe.fileno(), 1 << 16):
            with self._lock:
                self._count += len(piece)
                if self._count > self._most:
                    self.too_much.set()
            if not self.too_much.is_set():
                yield piece


class _Watched:
    """The resources that a command takes, with all its children."""

    def __init__(
        self, pid: int, limits: Limits, writable: Path, started: float, group: Group | None, *, measures: bool
    ) -> None:
        self._pid = pid
        self._measures = measures
        self._limits = limits
        self._writable = writable
        self._started = started
        self._group = group
        self._limited = is_limited(writable)
        self._in_memory = is_in_memory(writable)
        self._looks = 0
        self._memory = self._processes = 0
        self.peak_memory = 0
        self.disk = 0
        self.cpu_seconds: float | None = None

    def look(self) -> None:
        if self._group is not None:
            self._look_at_group(self._group)
        elif self._measures:
            tree = [self._pid, *descendants(self._pid)]
            self._processes = len(tree)
            self._memory = sum(private_bytes(pid) for pid in tree)
        self.peak_memory = max(self.peak_memory, self._memory)
        self.look_at_cpu()
        self._looks += 1
        if self._limited or self._looks % DISK_EVERY == 0:
            self.look_at_disk()

    def _look_at_group(self, group: Group) -> None:
        self._processes = group.members()
        self._memory = group.memory_bytes()
        if self._in_memory:
            self._memory -= used_bytes(self._writable)  # these are the job's disk

    def look_at_disk(self) -> None:
        used = used_bytes(self._writable) if self._limited else disk_bytes(self._writable)
        self.disk = max(self.disk, used)

    def look_at_cpu(self) -> None:
        if self._group is not None:
            self.cpu_seconds = self._group.cpu_seconds()

    def over(self) -> Ending | None:
        """Return the limit that is passed, if any."""
        verdict = self._group.verdict() if self._group else None
        if self._memory > self._limits.memory_bytes or verdict == "memory":
            self.peak_memory = max(self.peak_memory, self._limits.memory_bytes)
            return "memory"
        if self._processes > self._limits.processes or verdict == "processes":
            return "processes"
        if self.disk > self._limits.disk_bytes:
            return "disk"
        most_cpu = self._limits.cpu_seconds
        if most_cpu is not None and (self.cpu_seconds or 0.0) > most_cpu:
            return "cpu"
        return "time" if time.monotonic() - self._started > self._limits.seconds else None


def descendants(pid: int) -> list[int]:
    """List the processes that descend from a process, as far as they can be seen now."""
    found, waiting = [], [pid]
    while waiting:
        below = _children(waiting.pop())
        found += below
        waiting += below
    return found


def _children(pid: int) -> list[int]:
    """List the children of all threads of a process; those of a thread that ended are with another thread."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
    return found


def private_bytes(pid: int) -> int:
    """Return the memory that a process holds and no file backs."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc", str(pid), "status").read_bytes().splitlines()
        wanted = (b"RssAnon:", b"RssShmem:")
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted))
    return 0


def disk_bytes(folder: Path) -> int:
    """Return the bytes that a folder takes on the disk, each file and folder at least a block; follow no links."""
    total, waiting = 0, [str(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += max(allocated_bytes(entry.stat(follow_symlinks=False)), 4096)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return total
