"""A pass over a checkpoint: each tensor's digest, its length, and whether all of it is finite."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.digest import CHUNK_BYTES
from cuvee.checkpoint.dtypes import MERGEABLE, NUMPY
from cuvee.progress import Progress


@dataclass(frozen=True)
class Numbers:
    """The facts of a tensor's numbers. The digest is empty where none was asked for."""

    digest: str
    norm: float
    finite: bool


def numbers_of(
    source: TensorSource, what: str, progress: Progress, *, only: Iterable[str] | None = None, digests: bool = True
) -> dict[str, Numbers]:
    """Read all tensors, or only some, in small pieces."""
    names = dict.fromkeys(source.tensors if only is None else only)
    specs = [source.tensors[name] for name in names]
    buffer = np.empty(CHUNK_BYTES, np.uint8)
    progress.start(what, sum(spec.nbytes for spec in specs), "bytes")
    found = {spec.name: _numbers(source, spec, buffer, progress, digests) for spec in specs}
    progress.finish()
    return found


def _numbers(source: TensorSource, spec: TensorSpec, buffer: np.ndarray, progress: Progress, digests: bool) -> Numbers:
    digest, squares, finite = blake3(), 0.0, True
    for start in range(0, spec.nbytes, CHUNK_BYTES):
        part = buffer[: min(CHUNK_BYTES, spec.nbytes - start)]
        source.read_into(spec.name, start, [part])
        if digests:
            digest.update(part.data)
        if spec.dtype in MERGEABLE:
            numbers = part.view(NUMPY[spec.dtype]).astype(np.float64)
            with np.errstate(over="ignore"):  # of float64 near its largest number
                squares += float(numbers @ numbers)
            finite = finite and bool(np.isfinite(numbers).all())
        progress.advance(part.nbytes)
    return Numbers(digest.hexdigest() if digests else "", math.sqrt(squares), finite)
