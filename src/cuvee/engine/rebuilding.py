"""Rebuilds a model of a merge from the merged model, the model's mask and scale, and the base: θ₀ + c M u."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from blake3 import blake3

from cuvee.arguments import as_path, checks_options
from cuvee.checkpoint import TensorSource, open_checkpoint
from cuvee.checkpoint.checkpoint import Checkpoint
from cuvee.checkpoint.companions import copy_companions
from cuvee.checkpoint.digest import digest_of_entries
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.naming import layout_of
from cuvee.checkpoint.stored_file import recorded
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out
from cuvee.engine.masks import CHUNK, read_wide
from cuvee.engine.options import DEFAULT_SHARD
from cuvee.errors import CheckpointError
from cuvee.kernels import Kernels, load
from cuvee.progress import Progress, Silent
from cuvee.version import __version__


@checks_options
def rebuild(
    merged: Path | str,
    mask: Path | str,
    out: Path | str,
    *,
    base: Path | str,
    shard_bytes: int = DEFAULT_SHARD,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> str:
    """Write the model that a mask stands for to the folder `out`. EMR leaves the masks in the merged folder's `emr`.

    `base` is the base model of the merge. The numbers are those of the paper's formula with the unified change as the
    merge has written it, rounded once to the merged model's types: where the merge rounded a number by e, they are off
    by the scale times e. Returns the weights' digest. Raises CheckpointError for files that do not belong together.
    """
    merged, mask, place = as_path(merged, "merged"), as_path(mask, "mask"), as_path(out, "out")
    progress = progress or Silent()
    unified, origin = open_checkpoint(merged), open_checkpoint(as_path(base, "base"))
    bits = open_checkpoint(_mask(merged, mask))
    scale = _scale(bits)
    _check(unified, origin, bits)
    tensors = [OutputTensor(spec.name, spec.dtype, spec.shape) for spec in unified.tensors.values()]
    entries = []
    progress.start("rebuild", sum(tensor.nbytes for tensor in tensors), "bytes")
    layout = layout_of(unified.files(), unified.config, None)
    with CheckpointWriter(place, lay_out(tensors, shard_bytes, layout), overwrite=overwrite) as writer:
        rebuilder = _Rebuilder(unified, origin, bits, scale, load())
        for tensor in tensors:
            digest = rebuilder.write(tensor, writer)
            entries.append((tensor.name, tensor.dtype, tensor.shape, digest))
            progress.advance(tensor.nbytes)
        copy_companions(merged, writer.folder, unified.files())
        writer.write_file("config.json", json.dumps(unified.config, indent=2) + "\n")
        record = _record(unified, origin, bits, digest_of_entries(entries))
        writer.write_file("cuvee.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        writer.finish()
    progress.finish()
    return str(record["weights_digest"])


def _mask(merged: Path, mask: Path) -> Path:
    """Find a mask by its path, or by its name in a folder of the merged model."""
    if mask.is_file():
        return mask
    beside = [folder / mask.name for folder in sorted(merged.glob("*/"))]
    return next((path for path in beside if path.is_file()), mask)


def _scale(bits: Checkpoint) -> float:
    try:
        return float(bits.headers[0].metadata["scale"])
    except (KeyError, ValueError) as error:
        hint = "masks are in the folder 'emr' of a model merged by emr"
        raise CheckpointError("this is no mask of EMR: it has no scale", where=str(bits.path), hint=hint) from error


def _check(unified: Checkpoint, origin: Checkpoint, bits: Checkpoint) -> None:
    for name, spec in bits.tensors.items():
        for source in (unified, origin):
            if name not in source.tensors:
                raise CheckpointError(f"'{name}' is masked, and not in the model", where=str(source.path))
        shapes = unified.tensors[name].shape, origin.tensors[name].shape
        if shapes[0] != shapes[1] or spec.shape != (-(-unified.tensors[name].elements // 8),):
            message = f"'{name}' is {shapes[0]} in the merged model and {shapes[1]} in the base: not of one merge"
            raise CheckpointError(message, where=str(bits.path))


def _record(unified: Checkpoint, origin: Checkpoint, bits: Checkpoint, digest: str) -> dict[str, object]:
    sources: Sequence[Checkpoint] = (unified, origin, bits)
    return {
        "cuvee": __version__,
        "rebuilt": bits.headers[0].metadata.get("model"),
        "inputs": [{"model": str(source.path), "files": recorded(source.files())} for source in sources],
        "weights_digest": digest,
    }


class _Rebuilder:
    def __init__(
        self, unified: TensorSource, origin: TensorSource, bits: TensorSource, scale: float, kernels: Kernels
    ) -> None:
        self.unified = unified
        self.origin = origin
        self.bits = bits
        self.scale = scale
        self.kernels = kernels

    def write(self, tensor: OutputTensor, writer: CheckpointWriter) -> str:
        """Write a tensor; without a mask it is as in the merged model. Returns the digest of its bytes."""
        digest, dtype = blake3(), NUMPY[tensor.dtype]
        for first in range(0, tensor.elements, CHUNK):
            n = min(CHUNK, tensor.elements - first)
            numbers = self._masked(tensor.name, first, n, dtype) if tensor.name in self.bits.tensors else None
            raw = self._plain(tensor.name, first, n, dtype) if numbers is None else numbers
            digest.update(raw.data)
            writer.write(tensor.name, first * dtype.itemsize, raw)
        return digest.hexdigest()

    def _plain(self, name: str, first: int, n: int, dtype: np.dtype) -> np.ndarray:
        raw = np.empty(n * dtype.itemsize, np.uint8)
        self.unified.read_into(name, first * dtype.itemsize, [raw])
        return raw

    def _masked(self, name: str, first: int, n: int, dtype: np.dtype) -> np.ndarray:
        packed = np.empty(-(-n // 8), np.uint8)
        self.bits.read_into(name, first // 8, [packed])
        mask = np.unpackbits(packed, count=n, bitorder="little").view(bool)
        base = read_wide(self.origin, name, first, n, self.kernels).astype(np.float64)
        change = read_wide(self.unified, name, first, n, self.kernels) - base
        numbers = np.where(mask, base + self.scale * change, base)
        return numbers.astype(dtype).view(np.uint8)
