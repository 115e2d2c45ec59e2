"""The options of a run, which functions that plan first hand on to `run_plan`."""

from pathlib import Path
from typing import TypedDict

from cuvee.progress import Progress


class RunOptions(TypedDict, total=False):
    """Options of `run_plan`, where their meaning and their defaults stand."""

    memory_bytes: int | None
    threads: int
    shard_bytes: int
    chunk: int | None
    overwrite: bool
    resume: bool
    allow_nonfinite: bool
    hash_inputs: bool
    device: str
    progress: Progress | None
    cache: Path | None
