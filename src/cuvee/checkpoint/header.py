"""Headers of safetensors files, read and checked by ourselves before any number is.

Format: 8 bytes, the header's length as unsigned little-endian; a JSON object; then the data, which the tensors cover
without gap or overlap (https://github.com/huggingface/safetensors#format).
"""

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cuvee.checkpoint.dtypes import NUMPY, PACKED, entry_count
from cuvee.documents.shown import shown
from cuvee.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000
"""The reference implementation's limit."""

MAX_AXES = 64
"""NumPy's limit."""

MAX_NAME = 1000


@dataclass(frozen=True)
class TensorSpec:
    """A tensor: its name, header type, shape, and where its bytes are. `start` counts from the file's first byte."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int

    @property
    def elements(self) -> int:
        return entry_count(self.dtype, self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * NUMPY[self.dtype].itemsize


@dataclass(frozen=True)
class Header:
    """A file's tensors in the order of their data, its metadata, and the header's own bytes."""

    file: Path
    tensors: tuple[TensorSpec, ...]
    metadata: dict[str, str]
    raw: bytes
    size: int
    modified_ns: int
    folder: str = ""

    @property
    def name(self) -> str:
        """The file's name within the model's folder."""
        return self.folder + self.file.name

    def within(self, folder: str) -> "Header":
        """Return the header of a file in a sub-folder, whose tensors are called by it: `2_Dense/linear.weight`."""
        tensors = tuple(replace(spec, name=folder + spec.name) for spec in self.tensors)
        return replace(self, tensors=tensors, folder=folder)


def read_header(file: Path) -> Header:
    """Read and check a file's header. Raises CheckpointError that names the file and the tensor."""
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            size = status.st_size
            raw = opened.read(header_length(opened.read(8), size, file))
    except OSError as error:
        raise CheckpointError(f"cannot read the file: {error.strerror}", where=str(file)) from error
    return parse_header(raw, size, file, modified_ns=status.st_mtime_ns)


def parse_header(raw: bytes, size: int, file: Path, *, modified_ns: int = 0) -> Header:
    """Check a header, the bytes after the first 8 of a file of `size` bytes. Raises CheckpointError."""
    entries = _entries(raw, file)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or set(map(type, metadata.values())) - {str}:
        raise CheckpointError("the header's __metadata__ is not an object of texts", where=str(file))
    start = 8 + len(raw)
    tensors = [_tensor(name, entry, file, start) for name, entry in entries.items()]
    tensors.sort(key=lambda spec: (spec.start, spec.nbytes))
    _check_coverage(tensors, start, size, file)
    return Header(file, tuple(tensors), metadata, raw, size, modified_ns)


def header_length(prefix: bytes, size: int, file: Path) -> int:
    """Return how many bytes of header follow the first 8. Raises CheckpointError if the file cannot hold them."""
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > size - 8:
        message = f"the file has {size} bytes, fewer than its header says: truncated, or not safetensors"
        raise CheckpointError(message, where=str(file), hint="copy or download the file again")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(f"the header claims {length} bytes; at most {MAX_HEADER_BYTES} allowed", where=str(file))
    return length


def _entries(raw: bytes, file: Path) -> dict[str, Any]:
    try:
        entries_read = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the header is not JSON: {error}", where=str(file)) from error
    if not isinstance(entries_read, dict):
        raise CheckpointError("the header is not a JSON object", where=str(file))
    return entries_read


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"{shown(name)} appears twice")
        result[name] = value
    return result


def _tensor(name: str, entry: Any, file: Path, data_start: int) -> TensorSpec:
    if not name.isprintable() or len(name) > MAX_NAME:
        raise CheckpointError(f"the tensor name {shown(name)} is too long or cannot be printed", where=str(file))
    where = f"{file}: {name}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"expected dtype, shape and data_offsets, found {shown(entry)}", where=where)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in NUMPY:
        raise CheckpointError(f"unknown number type {shown(dtype)}", where=where, hint=f"known are {', '.join(NUMPY)}")
    if not _are_sizes(shape) or len(shape) > MAX_AXES:
        raise CheckpointError(f"expected a list of sizes as shape, found {shown(shape)}", where=where)
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise CheckpointError(f"expected [first, last) as data_offsets, found {shown(offsets)}", where=where)
    spec = TensorSpec(name, dtype, tuple(shape), file, data_start + offsets[0])
    if dtype in PACKED and math.prod(shape) * PACKED[dtype] % 8:
        message = f"shape {shown(shape)} of {dtype} does not fill whole bytes"
        raise CheckpointError(message, where=where)
    if offsets[1] - offsets[0] != spec.nbytes:
        takes, has = shown(spec.nbytes), offsets[1] - offsets[0]
        message = f"shape {shown(shape)} of {dtype} takes {takes} bytes; the header gives it {has}"
        raise CheckpointError(message, where=where)
    return spec


def _are_sizes(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(map(_is_size, numbers))


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number < 1 << 62


def _check_coverage(tensors: list[TensorSpec], start: int, size: int, file: Path) -> None:
    end = start
    for spec in tensors:
        if spec.start != end:
            fault = "overlaps the tensor before it" if spec.start < end else "leaves a gap before it"
            raise CheckpointError(f"its data {fault}", where=f"{file}: {spec.name}")
        end += spec.nbytes
    if end == size:
        return
    if end > size:
        cut = next(spec for spec in tensors if spec.start + spec.nbytes > size)
        message = f"the file has {size} bytes, its header describes {end}: truncated in '{cut.name}'"
        raise CheckpointError(message, where=str(file), hint="copy or download the file again")
    raise CheckpointError(f"{size - end} bytes follow the last tensor's data", where=str(file))
