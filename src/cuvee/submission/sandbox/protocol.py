"""The sandbox: it runs one job within limits and says how it ended. Paths inside are those outside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Ending = Literal["finished", "crash", "time", "cpu", "memory", "disk", "processes", "log"]
"""`crash` is a command that failed or was stopped by a signal; the rest but `finished` are limits."""

Hear = Callable[[bytes], None]
"""Takes a line that the job has written to its standard output, and an empty one now and then. May raise to stop it."""


@dataclass(frozen=True)
class Job:
    """A command, the files that it may read, and the only folder that it may write to.

    `overlays` are folders that the job sees, writable, in place of others: content of the first at the place of the
    second. `environment` is all that the job knows of ours.
    """

    command: tuple[str, ...]
    readable: tuple[Path, ...]
    writable: Path
    overlays: Mapping[Path, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """The limits of a job. `log_bytes` counts both outputs together.

    `cpu_seconds` are those of all processors and processes together; None is no limit. Only a sandbox whose jobs have
    control groups holds them.
    """

    seconds: float
    memory_bytes: int
    disk_bytes: int
    processes: int = 256
    log_bytes: int = 1 << 20
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class Ended:
    """How a job ended. `log` is the end of its standard error; nothing of the job runs any more.

    `peak_memory_bytes` does not count copies of files that the system can drop, and is None where another program runs
    the job, which holds its memory and does not tell it. `held_memory_bytes` counts such copies, and is the
    most that the control group has ever held, also between two looks. `cpu_seconds` are those of all processors and all
    processes together. Both are None where no control group counts them.
    """

    ending: Ending
    code: int | None
    seconds: float
    peak_memory_bytes: int | None
    disk_bytes: int
    log: str
    cpu_seconds: float | None = None
    held_memory_bytes: int | None = None


class Sandbox(Protocol):
    """A way to run jobs. A sandbox that does not `isolate` may run our own code only."""

    @property
    def name(self) -> str: ...

    @property
    def isolates(self) -> bool: ...

    def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
        """Run a job to its end or its limits. Raises PlatformError if the sandbox itself cannot work."""
