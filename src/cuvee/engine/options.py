"""How a merge runs. Doors take these as keywords, make one `Options` of them, and hand that on whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from cuvee.progress import Progress, Silent

DEFAULT_SHARD = 5_000_000_000


class RunOptions(TypedDict, total=False):
    """The fields of `Options` as keywords."""

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


@dataclass(frozen=True)
class Options:
    """How a merge runs: the options of `merge`, `run_plan` and every other function that writes a merged model.

    - `memory_bytes`: the most private memory that buffers take; by default 512 MB, or room for the largest matrices
      where the method works on whole matrices. Less memory changes no byte of the output.
    - `threads`: how many workers compute; 1 by default.
    - `shard_bytes`: the largest size of one file of weights; 5 GB by default.
    - `chunk`: how many entries of a tensor a worker reads at a time, in place of the number that fits the memory.
    - `overwrite`: replace an earlier merge at the output.
    - `resume`: go on with an interrupted run of the same plan, as by default; if false, remove its remains.
    - `allow_nonfinite`: let NaN and infinity in the inputs pass.
    - `hash_inputs`: record the SHA-256 of every input file in `cuvee.json`.
    - `device`: "cpu" by default; "cuda" merges whole tensors on a GPU; "auto" does so where the method works on whole
      matrices and there is a GPU.
    - `progress`: the listener for progress.
    - `cache`: a folder that keeps the results of surveys of whole models, for other merges of the same models.
    """

    memory_bytes: int | None = None
    threads: int = 1
    shard_bytes: int = DEFAULT_SHARD
    chunk: int | None = None
    overwrite: bool = False
    resume: bool = True
    allow_nonfinite: bool = False
    hash_inputs: bool = False
    device: str = "cpu"
    progress: Progress | None = None
    cache: Path | None = None

    @property
    def heard(self) -> Progress:
        """The listener for progress, which may be deaf."""
        return self.progress or Silent()
