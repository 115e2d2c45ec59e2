"""A container engine, docker or podman, where there is any: the same walls, memory and processes held by the kernel."""

import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from cuvee.submission.cores import own_cores, written_cores
from cuvee.submission.sandbox import keeper
from cuvee.submission.sandbox.bubblewrap import NOBODY, SCRATCH_BYTES, give
from cuvee.submission.sandbox.filesystem import SPARE_BYTES, is_in_memory
from cuvee.submission.sandbox.leftovers import Contained, noted
from cuvee.submission.sandbox.protocol import Ended, Hear, Job, Limits
from cuvee.submission.sandbox.runtime import runtime_folders
from cuvee.submission.sandbox.watched import watch

ENGINES = ("podman", "docker")
ASK_SECONDS = 10.0
IMAGE = "debian:stable-slim"
"""Only its empty folders count: the interpreter and all libraries are this machine's."""


ENGINE_NEEDS = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR", "PATH")
ENGINE_PREFIXES = ("DOCKER_", "CONTAINER_", "CONTAINERS_")
"""Variables of ours, by name and by beginning, that tell an engine where its images and its daemon are."""


@dataclass(frozen=True)
class Container:
    """Runs jobs with a container engine, by a `runtime` that the engine knows, or by its own."""

    engine: Path
    image: str = IMAGE
    runtime: str | None = None
    isolates: bool = True

    @property
    def name(self) -> str:
        return f"{self.engine.name} with {self.runtime}" if self.runtime else self.engine.name

    def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
        if os.geteuid() == 0:
            for folder in (job.writable, *job.overlays):
                give(folder, NOBODY)
        contained = Contained(self.engine, f"cuvee-{uuid.uuid4().hex}", _environment())

        def stop() -> None:
            keeper.remove_container(contained.to_json())

        with noted(containers=[contained]):
            command = self.command(job, limits, contained.name)
            return watch(command, limits, job.writable, hear, environment=contained.environment, stop=stop)

    def command(self, job: Job, limits: Limits, called: str) -> list[str]:
        """Return the command line that runs a job in a container of this name."""
        user = NOBODY if os.geteuid() == 0 else os.geteuid()
        memory = limits.memory_bytes
        if is_in_memory(job.writable):
            memory += limits.disk_bytes + SPARE_BYTES
        scratch = min(SCRATCH_BYTES, limits.disk_bytes)
        shown = [f"--volume={place}:{place}:ro" for place in sorted({*runtime_folders(), *job.readable})]
        over = [f"--volume={source}:{place}" for source, place in job.overlays.items()]
        told = [f"--env={key}={value}" for key, value in {"HOME": str(job.writable), **job.environment}.items()]
        return [
            *self._begin(), "--rm", f"--name={called}", "--network=none", "--read-only", "--init",
            "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--user={user}:{user}", "--ipc=private",
            f"--memory={memory}", f"--memory-swap={memory}", *_cores(), f"--pids-limit={limits.processes}",
            f"--ulimit=fsize={limits.disk_bytes}", "--ulimit=core=0", f"--shm-size={scratch}",
            f"--tmpfs=/tmp:rw,nosuid,nodev,size={scratch},mode=1777",
            *shown, f"--volume={job.writable}:{job.writable}", *over, *told, f"--workdir={job.writable}",
            "--entrypoint=", self.image, *job.command,
        ]  # fmt: skip

    def _begin(self) -> list[str]:
        """Return how a command line begins: podman takes the runtime before its verb, docker after it.

        Podman would mount /run and /var/tmp, too, writable and of any size.
        """
        runtime = [f"--runtime={self.runtime}"] if self.runtime else []
        if self.engine.name == "podman":
            return [str(self.engine), *runtime, "run", "--read-only-tmpfs=false"]
        return [str(self.engine), "run", *runtime]


def _cores() -> list[str]:
    cores = own_cores()
    if cores is None:
        return []
    return [f"--cpuset-cpus={written_cores(cores)}", f"--cpus={len(cores)}"]


def _environment() -> dict[str, str]:
    """Return the part of our environment that an engine needs. It is noted, so nothing else of it is."""
    return {name: value for name, value in os.environ.items() if _is_needed(name)}


def _is_needed(name: str) -> bool:
    return name in ENGINE_NEEDS or name.startswith(ENGINE_PREFIXES)


def find_container(runtime: str | None = None, image: str = IMAGE) -> Container | None:
    """Return an engine that answers, or None. Whether it knows the runtime shows when it runs a job."""
    for name in ENGINES:
        found = shutil.which(name)
        if found and _answers(found):
            return Container(Path(found), image, runtime)
    return None


def _answers(engine: str) -> bool:
    try:
        asked = subprocess.run([engine, "info"], capture_output=True, timeout=ASK_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
