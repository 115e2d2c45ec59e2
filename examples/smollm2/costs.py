"""What a command that is resumed takes in all: processor seconds by step, and the most memory that was in use.

WORK/costs.json holds both over all runs of the command, without steps that were stopped. It is for Linux, which says
`ru_maxrss` in KiB.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

from cuvee.documents.whole import write_whole

KIBIBYTE = 1024


@contextmanager
def counted(work: Path, step: str, *, workers: int = 0) -> Iterator[None]:
    """Add a step's processor seconds to those of WORK/costs.json, and keep the highest memory.

    Where processes work beside this one, each counts with the memory of the largest child.
    """
    before = processor_seconds()
    yield
    file = work / "costs.json"
    costs = read_costs(work)
    costs["seconds"][step] = round(costs["seconds"].get(step, 0) + processor_seconds() - before, 3)
    costs["peak_bytes"] = max(costs["peak_bytes"], peak_bytes(workers))
    write_whole(file, json.dumps(costs, indent=1) + "\n")


def read_costs(work: Path) -> dict[str, Any]:
    file = work / "costs.json"
    if not file.exists():
        return {"seconds": {}, "peak_bytes": 0}
    costs: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return costs


def processor_seconds() -> float:
    """Return the seconds of this process and of its children that have ended."""
    used = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak_bytes(workers: int) -> int:
    """Return the most memory of this process, and of so many children as large as the largest."""
    return KIBIBYTE * (getrusage(RUSAGE_SELF).ru_maxrss + workers * getrusage(RUSAGE_CHILDREN).ru_maxrss)
