"""Ends processes that a dead watcher leaves: a process of its own that reads a pipe to its end, and then cleans up.

It is started by its path, `python -I -S keeper.py`, so it imports nothing but the standard library. It reads a
JSON note of things to clean: `groups` and `mounts` as paths, the `user` of a job, and `containers`, each with its
`engine`, its `name` and the `environment` that the engine needs. The watcher cleans up by itself when all goes well;
then the keeper finds nothing to do.
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
ENGINE_SECONDS = 60.0
SECOND_LOOK_SECONDS = 5.0
NO_CONTAINER = ("no such container", "no container with")
"""What docker and podman say, in small letters, of a container that is not there."""

PATHS = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}


def clean(note: Mapping[str, Any]) -> bool:
    """End and remove all that a note names; say whether nothing is left. A thing that is gone already is no fault."""
    if "user" in note:
        end_user(note["user"])
    groups = [Path(group) for group in note.get("groups", ())]
    end_groups(groups)
    gone = [remove_group(group) for group in groups]
    removed = [remove_container(container) for container in note.get("containers", ())]
    unmounted = [unmount(Path(mount)) for mount in note.get("mounts", ())]
    return all(gone + removed + unmounted)


def end_user(user: int) -> None:
    """Kill all processes of a user, who must be nobody else."""
    become = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"]
    subprocess.run([*become, "sh", "-c", "kill -KILL -1"], capture_output=True, check=False, env=PATHS)


def kill(pid: int) -> None:
    """Kill a process if it is there and ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def end_groups(groups: Iterable[Path]) -> None:
    """Kill all processes of control groups and wait until they are gone; no new process can start meanwhile."""
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
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False, env=PATHS)
    return not os.path.ismount(folder)


def remove_container(container: Mapping[str, Any]) -> bool:
    """Kill and remove a container; say whether it is gone. An engine that does not answer may still run it."""
    command = [container["engine"], "rm", "--force", container["name"]]
    environment = {**PATHS, **container["environment"]}
    try:
        asked = subprocess.run(command, capture_output=True, check=False, env=environment, timeout=ENGINE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    words = asked.stderr.decode("utf-8", "replace").lower()
    is_gone = any(phrase in words for phrase in NO_CONTAINER)
    return asked.returncode == 0 or is_gone


def main() -> None:
    """Read a note, which ends when the watcher is gone, then clean up all that it names.

    An engine that was asked for a container just before may make it only now.
    """
    note = json.load(sys.stdin)
    clean(note)
    if note.get("containers"):
        time.sleep(SECOND_LOOK_SECONDS)
        clean(note)


if __name__ == "__main__":
    main()
