"""How many cores this process may use."""

import os


def usable_cores() -> int:
    """Return how many cores this process may use.

    They are fewer than the machine's where an affinity says so, as SLURM sets one.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
