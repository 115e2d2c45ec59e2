"""A container engine, docker or podman, where there is one: the same walls, memory and processes held by the kernel."""

import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from cuvee.submission.sandbox.bubblewrap import NOBODY, SCRATCH_BYTES, give
from cuvee.submission.sandbox.protocol import Ended, Hear, Job, Limits
from cuvee.submission.sandbox.runtime import runtime_folders
from cuvee.submission.sandbox.watched import watch

ENGINES = ("podman", "docker")
ASK_SECONDS = 10.0
IMAGE = "debian:stable-slim"
"""Only its empty folders count: the interpreter and all libraries are this machine's."""


@dataclass(frozen=True)
class Container:
    """Runs jobs with a container engine."""

    engine: Path
    image: str = IMAGE
    isolates: bool = True

    @property
    def name(self) -> str:
        return self.engine.name

    def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
        if os.geteuid() == 0:
            for folder in (job.writable, *job.overlays):
                give(folder, NOBODY)
        called = f"cuvee-{uuid.uuid4().hex}"

        def stop() -> None:
            subprocess.run([self.engine, "rm", "--force", called], capture_output=True, check=False)

        command = self.command(job, limits, called)
        return watch(command, limits, job.writable, hear, environment=dict(os.environ), stop=stop)

    def command(self, job: Job, limits: Limits, called: str) -> list[str]:
        """Return the command line that runs a job in a container of this name."""
        user = NOBODY if os.geteuid() == 0 else os.geteuid()
        shown = [f"--volume={place}:{place}:ro" for place in sorted({*runtime_folders(), *job.readable})]
        over = [f"--volume={source}:{place}" for source, place in job.overlays.items()]
        told = [f"--env={key}={value}" for key, value in {"HOME": str(job.writable), **job.environment}.items()]
        return [
            str(self.engine), "run", "--rm", f"--name={called}", "--network=none", "--read-only", "--init",
            "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--user={user}:{user}", "--ipc=private",
            f"--memory={limits.memory_bytes}", f"--memory-swap={limits.memory_bytes}",
            f"--pids-limit={limits.processes}", f"--ulimit=fsize={limits.disk_bytes}", "--ulimit=core=0",
            f"--tmpfs=/tmp:rw,size={SCRATCH_BYTES}", f"--shm-size={SCRATCH_BYTES}",
            *shown, f"--volume={job.writable}:{job.writable}", *over, *told, f"--workdir={job.writable}",
            "--entrypoint=", self.image, *job.command,
        ]  # fmt: skip


def find_container(image: str = IMAGE) -> Container | None:
    """Return an engine that answers, or None."""
    for name in ENGINES:
        found = shutil.which(name)
        if found and _answers(found):
            return Container(Path(found), image)
    return None


def _answers(engine: str) -> bool:
    try:
        asked = subprocess.run([engine, "info"], capture_output=True, timeout=ASK_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
