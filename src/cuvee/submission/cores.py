"""Which cores a worker and its jobs may use. It is told once, and all that it starts has the same."""

import os
from pathlib import Path

from cuvee.errors import RecipeError


def read_cores(text: str) -> frozenset[int]:
    """Read a list of cores such as `0-3,8`, as the kernel writes it. Raises RecipeError for anything else."""
    cores: set[int] = set()
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        try:
            numbers = range(int(first), int(last or first) + 1)
        except ValueError as error:
            raise _unread(text) from error
        if not numbers or numbers[0] < 0:
            raise _unread(text)
        cores.update(numbers)
    return frozenset(cores)


def _unread(text: str) -> RecipeError:
    return RecipeError(f"--cores: expected a list of cores such as 0-3,8, found '{text}'")


def written_cores(cores: frozenset[int]) -> str:
    """Write a list of cores as the kernel reads it."""
    return ",".join(map(str, sorted(cores)))


def use_cores(cores: frozenset[int]) -> None:
    """Keep this process, all its threads and its children to some cores. Raises RecipeError if they are not ours."""
    if not hasattr(os, "sched_setaffinity"):
        raise RecipeError("--cores: this system does not let a process choose its cores")
    ours = os.sched_getaffinity(0)
    if not cores <= ours:
        message = f"--cores: this machine gives us the cores {written_cores(frozenset(ours))}, not all of "
        raise RecipeError(message + written_cores(cores))
    for thread in os.listdir("/proc/self/task") if Path("/proc/self/task").is_dir() else ("0",):
        os.sched_setaffinity(int(thread), cores)


def own_cores() -> frozenset[int] | None:
    """Return the cores that this process is kept to; None if it may use all of the machine."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    ours = frozenset(os.sched_getaffinity(0))
    return None if len(ours) == os.cpu_count() else ours
