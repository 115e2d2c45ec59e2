"""Ends what a dead watcher leaves running: a process of its own that reads a pipe to its end, and then cleans up.

It is started by its path, `python -I -S keeper.py`, so it imports nothing but the standard library. Each line that it
reads is JSON of what there is to clean: `process` as [number, start time], `groups` and `mounts` as paths. The watcher
cleans up by itself when all goes well; then the keeper finds nothing to do.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 10.0
"""How long killed processes may take to be gone."""

PAUSE_SECONDS = 0.005


def clean(note: Mapping[str, Any]) -> bool:
    """End and remove what a note names; say whether nothing is left. What is gone already is no fault."""
    if "process" in note:
        end_process(*note["process"])
    groups = [Path(group) for group in note.get("groups", ())]
    end_groups(groups)
    gone = [remove_group(group) for group in groups]
    unmounted = [unmount(Path(mount)) for mount in note.get("mounts", ())]
    return all(gone) and all(unmounted)


def end_process(pid: int, started: int) -> None:
    """Kill a process and its descendants, unless its number is another one's by now."""
    if start_time(pid) != started:
        return
    for each in [pid, *descendants(pid)]:
        kill(each)


def start_time(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine did; None for no process."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2]
    except OSError:
        return None
    return int(after_name.split()[19])


def descendants(pid: int) -> list[int]:
    """List the processes that descend from one, as far as they can be seen now."""
    found, waiting = [], [pid]
    while waiting:
        below = _children(waiting.pop())
        found += below
        waiting += below
    return found


def _children(pid: int) -> list[int]:
    """List the children of all threads of a process; those of a thread that ended are with another one."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
    return found


def kill(pid: int) -> None:
    """Kill a process if it is there and ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def end_groups(groups: Iterable[Path]) -> None:
    """Kill all processes of control groups and wait until they are gone; no new one can start meanwhile."""
    there = [group for group in groups if group.is_dir()]
    for group in there:
        write(group / "pids.max", "0")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(processes(group) for group in there) and time.monotonic() < deadline:
        for group in there:
            write(group / "cgroup.kill", "1")
            for pid in processes(group):
                kill(pid)
        time.sleep(PAUSE_SECONDS)


def processes(group: Path) -> list[int]:
    """List the processes of a control group; none if it is gone."""
    try:
        return [int(line) for line in (group / "cgroup.procs").read_bytes().split()]
    except OSError:
        return []


def write(file: Path, text: str) -> bool:
    """Write to a file of a control group; say whether it is there and takes it."""
    try:
        descriptor = os.open(file, os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def remove_group(group: Path) -> bool:
    """Remove an empty control group; the system may need a moment after its last process."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while group.is_dir() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            group.rmdir()
            return True
        time.sleep(PAUSE_SECONDS)
    return not group.is_dir()


def unmount(folder: Path) -> bool:
    """Unmount a folder, at once for its path, for open files when they are closed."""
    if not os.path.ismount(folder):
        return True
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
    return not os.path.ismount(folder)


def main() -> None:
    """Read notes until the watcher is gone, then clean up what they name."""
    notes = [json.loads(line) for line in sys.stdin if line.strip()]
    for note in notes:
        clean(note)


if __name__ == "__main__":
    main()
