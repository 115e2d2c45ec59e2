"""The options that say where work is done: in this process, in several, on Ray's machines, in SLURM's jobs."""

import math
import re
from typing import TYPE_CHECKING, Any

import typer

from cuvee.cli.amounts import parse_bytes
from cuvee.errors import RecipeError, closest

if TYPE_CHECKING:
    from cuvee.executor import Executor
    from cuvee.executor.slurm_jobs import Request

RAY: str = typer.Option("", "--ray", metavar="ADDRESS", help="Ray's machines in place of processes; or auto.")
SLURM: str = typer.Option(
    "",
    "--slurm",
    metavar="REQUEST",
    help="SLURM's jobs: a partition, auto, or as partition=gpu,time=2h,gpus=1,cpus=8,memory=64GB.",
)
CLUSTER_WORKERS: int = typer.Option(
    0,
    "--workers",
    min=0,
    metavar="N",
    help="How many of Ray's actors, all by default, or of SLURM's jobs, one by default.",
)

COUNTS = ("gpus", "cpus")
PASSED_ON = ("account", "constraint", "exclude", "gres", "nodelist", "qos", "reservation")
"""Keys that sbatch gets as they are."""

KEYS = ("partition", "time", *COUNTS, "memory", "cluster", *PASSED_ON)


def executor_of(workers: int, ray: str, slurm: str) -> "Executor":
    """Return slots in this process for one worker, in processes for several, or on a cluster. Raises CuveeError."""
    from cuvee.executor import Here, Processes

    if ray or slurm:
        return cluster_of(workers, ray, slurm)
    return Here() if workers == 1 else Processes(workers)


def cluster_of(workers: int, ray: str, slurm: str) -> "Executor":
    """Return slots on a cluster. One worker or none is all of Ray's, and one job of SLURM's."""
    if ray and slurm:
        raise RecipeError("--ray is one cluster, and --slurm another", hint="give one of the two")
    if ray:
        from cuvee.executor.ray_actors import RayActors

        return RayActors(ray, workers if workers > 1 else None)
    from cuvee.executor.slurm_jobs import SlurmJobs

    return SlurmJobs(parse_request(slurm), max(1, workers))


def parse_request(text: str) -> "Request":
    """Read `gpu`, `auto`, or `partition=gpu,time=2h,gpus=1`. Raises RecipeError."""
    from cuvee.executor.slurm_jobs import Request

    if "=" not in text:
        return Request() if text == "auto" else Request(partition=text)
    found: dict[str, Any] = {"further": {}}
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        _check_key(key, equals, value)
        found |= _setting(key, value, found["further"])
    return Request(**found)


def _check_key(key: str, equals: str, value: str) -> None:
    if not equals or not value:
        raise RecipeError(f"--slurm: expected key=value, found '{key}{equals}'", hint="such as partition=gpu,time=2h")
    if key not in KEYS:
        nearest = closest(key, list(KEYS))
        hint = f"did you mean '{nearest}'?" if nearest else f"there are {', '.join(KEYS)}"
        raise RecipeError(f"--slurm: there is no '{key}'", hint=hint)


def _setting(key: str, value: str, further: dict[str, str]) -> dict[str, Any]:
    """Return a setting as `Request` takes it."""
    if key in COUNTS:
        if not value.isdecimal() or int(value) < 1:
            raise RecipeError(f"--slurm: {key} is a number from 1, found '{value}'")
        return {key: int(value)}
    if key == "memory":
        return {"memory_bytes": parse_bytes(value, "--slurm: memory")}
    if key == "time":
        return {"minutes": _minutes(value)}
    if key == "cluster":
        if value != "local":
            raise RecipeError(f"--slurm: cluster is local, to try it on this machine, or left out; found '{value}'")
        return {"local": True}
    if key == "partition":
        return {key: value}
    return {"further": {**further, key: value}}


def _minutes(text: str) -> int:
    """Read 30m, 2h, 1d, or SLURM's own [days-]hours:minutes[:seconds]; seconds are rounded up to a minute."""
    short = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text)
    if short is not None:
        minutes = float(short[1]) * {"m": 1, "h": 60, "d": 1440}[short[2]]
    else:
        long = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?", text)
        if long is None:
            raise RecipeError(f"--slurm: expected a time such as 30m, 2h, 1d or 02:00:00, found '{text}'")
        days, hours, minute, seconds = (int(group or 0) for group in long.groups())
        minutes = days * 1440 + hours * 60 + minute + seconds / 60
    if minutes <= 0:
        raise RecipeError(f"--slurm: expected a time above 0, found '{text}'")
    return math.ceil(minutes)
