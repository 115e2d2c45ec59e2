"""Digests of weights that depend on nothing but names, types, shapes and numbers: not on sharding, not on order."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

if TYPE_CHECKING:
    from cuvee.checkpoint.checkpoint import TensorSource

CHUNK_BYTES = 4 << 20

TensorEntry = tuple[str, str, tuple[int, ...], str]
"""Name, header type, shape, hex digest of the bytes."""


def tensor_digest(raw: np.ndarray) -> str:
    """Return the BLAKE3 of a tensor's bytes."""
    return blake3(np.ascontiguousarray(raw).reshape(-1).view(np.uint8).data).hexdigest()


def digest_of_entries(entries: Iterable[TensorEntry]) -> str:
    """Return the BLAKE3 of the sorted list of (name, dtype, shape, tensor digest), as compact JSON."""
    listed = sorted([name, dtype, list(shape), digest] for name, dtype, shape, digest in entries)
    return blake3(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()


def weights_digest(path: Path) -> str:
    """Return the weights digest of a folder or file, reading all of it in chunks."""
    from cuvee.checkpoint.checkpoint import open_checkpoint

    with open_checkpoint(Path(path)) as checkpoint:
        return digest_of_source(checkpoint)


def digest_of_source(source: "TensorSource") -> str:
    """Return the weights digest of an opened model, reading all of it in chunks."""
    buffer = np.empty(CHUNK_BYTES, np.uint8)
    entries: list[TensorEntry] = []
    for spec in source.tensors.values():
        digest = blake3()
        for start in range(0, spec.nbytes, CHUNK_BYTES):
            part = buffer[: min(CHUNK_BYTES, spec.nbytes - start)]
            source.read_into(spec.name, start, [part])
            digest.update(part.data)
        entries.append((spec.name, spec.dtype, spec.shape, digest.hexdigest()))
    return digest_of_entries(entries)
