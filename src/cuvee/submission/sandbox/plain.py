"""No walls, only limits: for our own code on data that was checked, where no sandbox is to be had."""

from collections.abc import Callable
from dataclasses import dataclass

from cuvee.submission.sandbox.protocol import Ended, Hear, Job, Limits
from cuvee.submission.sandbox.watched import watch


@dataclass(frozen=True)
class Plain:
    """A process of its own, watched."""

    name: str = "none"
    isolates: bool = False

    def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
        prepare = _file_limits(limits)
        return watch(job.command, limits, job.writable, hear, environment=job.environment, prepare=prepare)


def _file_limits(limits: Limits) -> Callable[[], None] | None:
    """Return a function that limits the files of a process from inside, or None where the system has no such limits."""
    try:
        import resource
    except ImportError:
        return None

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.disk_bytes, limits.disk_bytes))

    return limit
