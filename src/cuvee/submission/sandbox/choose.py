"""Which sandbox this machine has, and which limits of it the kernel holds: tried out, not guessed."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from cuvee.errors import PlatformError
from cuvee.extras import install_command
from cuvee.submission.competition import TIERS, Tier, Wall
from cuvee.submission.cores import own_cores
from cuvee.submission.sandbox.bubblewrap import Bubblewrap, find_bubblewrap
from cuvee.submission.sandbox.cgroup import NoGroup, Tree, find_tree
from cuvee.submission.sandbox.container import find_container
from cuvee.submission.sandbox.filesystem import Mount, look_at_scratch
from cuvee.submission.sandbox.leftovers import has_own_users, sweep
from cuvee.submission.sandbox.plain import Plain
from cuvee.submission.sandbox.protocol import Job, Limits, Sandbox
from cuvee.submission.sandbox.runtime import python, python_environment
from cuvee.submission.sandbox.seccomp import can_filter

TRIAL = Limits(seconds=20, memory_bytes=1 << 30, disk_bytes=1 << 20)
HINT = f"{install_command('judge')} brings bubblewrap; the machine must allow user namespaces"
RECIPE_HINT = (
    f"{HINT}. An organiser who trusts all recipes writes 'without: [sandbox]' in competition.yaml; "
    "who judges a recipe at home can say --without sandbox"
)
WITHOUT_HINT = (
    "let root run the worker, or systemd with Delegate=yes; an organiser who can do without writes it under 'without' "
    "in competition.yaml"
)


@dataclass(frozen=True)
class Host:
    """The worker's settings of its machine: where jobs write, and by which runtime of a container engine they run.

    None stands for the system's temporary folder, and for the best sandbox there is. Models of a hub take at most
    `hub_bytes`.
    """

    scratch: Path | None = None
    runtime: str | None = None
    hub_bytes: int = 100 * 10**9


@dataclass(frozen=True)
class Walls:
    """The walls that hold jobs on this machine. `lacks` says for each missing wall why it is missing.

    It may name `sandbox`, `bubblewrap`, `cgroup`, `cpu`, `cores`, `filesystem`, `image`, `user` and `seccomp`. `mount`
    is for the folder that was asked about.
    """

    sandbox: Sandbox | None
    mount: Mount | None
    lacks: Mapping[str, str]

    def notes(self, tiers: Sequence[Tier] = TIERS) -> Iterator[str]:
        """Yield a sentence for each thing that this machine lacks; for recipes alone a sandbox is enough."""
        for name, reason in self.lacks.items():
            if name in ("sandbox", "bubblewrap") or set(tiers) != {"recipe"}:
                yield f"no {LACKING[name]}: {reason}"


LACKING = {
    "sandbox": "sandbox works here, so no job has walls",
    "bubblewrap": "bubblewrap works here, so a container engine runs the jobs",
    "cpu": "count of the processor's seconds of a job",
    "cores": "group that holds jobs to this worker's cores, so a job with code can leave them",
    "cgroup": "control group for each job, so its memory and processes are only watched",
    "filesystem": "limited file system for each job, so its disk is only watched",
    "image": "image of a file system in the folder for scratch, so what jobs write is in memory",
    "user": "user for each job, so all are 'nobody'",
    "seccomp": "filter of system calls",
}


def choose_sandbox(
    tier: Tier = "recipe", without: Sequence[Wall] = (), *, host: Host = Host(), counts_cpu: bool = False
) -> Sandbox:
    """Return the best sandbox there is; for a tier with code, one that the kernel holds, but for walls in `without`.

    Recipes may run without any where `without` has 'sandbox', unless the host names a runtime. With `counts_cpu` the
    budget has CPU seconds, which need a control group. Raises PlatformError if a job would run with less.
    """
    walls = find_walls(host)
    if walls.sandbox is None and host.runtime is not None:
        message = f"jobs cannot run by the runtime '{host.runtime}': {walls.lacks['sandbox']}"
        raise PlatformError(message, hint="install it, and name it to the engine; or leave --runtime out")
    if walls.sandbox is None and tier != "recipe":
        reason = walls.lacks["sandbox"]
        raise PlatformError(f"there is no sandbox here, and the tier '{tier}' brings code: {reason}", hint=HINT)
    if walls.sandbox is None and "sandbox" not in without:
        reason = walls.lacks["sandbox"]
        raise PlatformError(f"there is no sandbox here, and jobs run in one: {reason}", hint=RECIPE_HINT)
    if counts_cpu and "cgroup" not in without:
        _check_counting(walls)
    if walls.sandbox is None:
        return Plain()
    if tier == "recipe":
        return walls.sandbox
    needed: tuple[Wall, ...] = ("cgroup", "filesystem")
    asked = [name for name in needed if name not in without]
    lacking = [f"{name} ({walls.lacks[name]})" for name in asked if name in walls.lacks]
    if lacking:
        message = f"the tier '{tier}' brings code, and this machine lacks {', '.join(lacking)}"
        raise PlatformError(message, hint=WITHOUT_HINT)
    return walls.sandbox


def _check_counting(walls: Walls) -> None:
    """Raise PlatformError where nobody would know how many CPU seconds a job takes."""
    for name in ("sandbox", "cgroup", "cpu"):
        if name in walls.lacks:
            message = f"the budget has 'cpu_seconds', and nothing counts them here: no {name} ({walls.lacks[name]})"
            raise PlatformError(message, hint=f"{WITHOUT_HINT}: [cgroup]; then nothing holds them here")


def isolating_sandbox() -> Sandbox | None:
    """Return a sandbox that works here, or None."""
    return find_walls().sandbox


def find_walls(host: Host = Host()) -> Walls:
    """Return the sandbox that holds jobs on a host.

    The first call also cleans up the leavings of dead processes of ours. Raises PlatformError if nothing can be written
    to the host's folder.
    """
    if os.name == "nt":
        return Walls(None, None, {"sandbox": "Windows has none that we use"})
    found = _find_sandbox(host.runtime)
    disk = look_at_scratch(host.scratch or Path(tempfile.gettempdir()))
    return Walls(found.sandbox, disk.mount, {**found.lacks, **disk.lacks})


@dataclass(frozen=True)
class _Found:
    """The sandbox of this machine, and the walls that it lacks."""

    sandbox: Sandbox | None
    lacks: Mapping[str, str]


@cache
def _find_sandbox(runtime: str | None) -> _Found:
    sweep()
    lacks: dict[str, str] = {}
    if runtime is not None:
        return _container(runtime, lacks)
    tree = _tree(lacks)
    bubblewrap = find_bubblewrap()
    if bubblewrap is None:
        lacks["sandbox"] = "bubblewrap is not installed"
    else:
        tried = _tried(bubblewrap, tree, lacks)
        if tried is not None:
            return _Found(tried, lacks)
    lacks["bubblewrap"] = lacks.pop("sandbox")
    return _container(None, lacks)


def _container(runtime: str | None, lacks: Mapping[str, str]) -> _Found:
    """Return a container engine where any works; it holds memory and processes by groups of its own."""
    before = lacks.get("bubblewrap")
    container = find_container(runtime)
    reason = "neither docker nor podman answers" if container is None else failure(container)
    if container is not None and reason is None:
        held = {"bubblewrap": before} if before else {}
        return _Found(container, {**held, "cpu": f"{container.name} does not tell us what it has counted"})
    if container is not None:
        reason = f"{container.name} does not work: {reason}"
    reasons = "; ".join(text for text in (before, reason) if text)
    return _Found(None, {name: text for name, text in lacks.items() if name != "bubblewrap"} | {"sandbox": reasons})


def _tree(lacks: dict[str, str]) -> Tree | None:
    try:
        tree = find_tree()
    except NoGroup as error:
        lacks["cgroup"] = str(error)
        return None
    if not tree.counts_cpu:
        lacks["cpu"] = "there is no controller 'cpuacct' that takes our groups"
    if own_cores() is not None and tree.cpuset is None:
        lacks["cores"] = "there is no controller 'cpuset' that takes our groups"
    return tree


def _tried(bubblewrap: Bubblewrap, tree: Tree | None, lacks: dict[str, str]) -> Bubblewrap | None:
    """Return bubblewrap with all that works here, or None."""
    if os.geteuid() == 0 and not has_own_users():
        lacks["user"] = "root of this container has no users for them"
    filtered = replace(bubblewrap, tree=tree, filters=True)
    if can_filter() and failure(filtered) is None:
        return filtered
    plain = replace(bubblewrap, tree=tree)
    reason = failure(plain)
    if reason is not None:
        lacks["sandbox"] = f"bubblewrap does not work: {reason}"
        return None
    lacks["seccomp"] = "this system does not take ours"
    return plain


def failure(sandbox: Sandbox) -> str | None:
    """Return why a sandbox does not run our interpreter or does not keep it from the network; None if it does."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(python("-c", _PROBE), (), Path(folder), environment=python_environment())
        try:
            ended = sandbox.run(job, TRIAL, lambda line: None)
        except PlatformError as error:
            return error.message
    if ended.ending == "finished":
        return None
    return ended.log.strip()[-300:] or f"the trial ended with '{ended.ending}'"


_PROBE = (
    "import socket, pathlib; pathlib.Path('x').touch(); assert [n for _, n in socket.if_nameindex()] in (['lo'], [])"
)
