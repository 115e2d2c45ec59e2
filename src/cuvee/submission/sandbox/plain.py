"""No walls, only limits: for our own code on data that was checked, where no sandbox is to be had."""

import resource
from dataclasses import dataclass

from cuvee.submission.sandbox.protocol import Ended, Hear, Job, Limits
from cuvee.submission.sandbox.watched import watch


@dataclass(frozen=True)
class Plain:
    """A process of its own, watched."""

    name: str = "none"
    isolates: bool = False

    def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
        def prepare() -> None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limits.disk_bytes, limits.disk_bytes))

        return watch(job.command, limits, job.writable, hear, environment=job.environment, prepare=prepare)
