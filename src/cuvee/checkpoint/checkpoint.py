"""Checkpoints as read-only mappings name -> tensor, opened by headers only."""

import json
import os
import threading
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from blake3 import blake3

from cuvee.checkpoint.companions import files_below
from cuvee.checkpoint.dtypes import COUNTS, MERGEABLE, NUMPY, PACKED, name_of
from cuvee.checkpoint.folders import folders_on_disk
from cuvee.checkpoint.header import Header, TensorSpec, read_header
from cuvee.checkpoint.naming import start_of_weights
from cuvee.checkpoint.sample import Block, Sampled, digest_of_samples, sampled_blocks
from cuvee.checkpoint.stored_file import StoredFile
from cuvee.descriptors import BINARY, read_at, read_bytes_at
from cuvee.documents.shown import shown
from cuvee.errors import CheckpointError, CuveeError, several

MOST_SHOWN = 12
"""Problems in one message; more are counted."""


_MOST_PARTS = 512
"""Buffers in one system call; 1024 is the most that Linux takes."""


class TensorSource(Protocol):
    """The view of a checkpoint that the planner and the engine need."""

    tensors: Mapping[str, TensorSpec]
    config: dict[str, Any]
    place: Path | None

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        """Fill the arrays, in turn, with the tensor's bytes from byte `start` on."""

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        """Announce a read, so that it can be started early."""

    def files(self) -> dict[str, StoredFile]:
        """Return file name -> the facts that identify it. This reads no numbers."""


def sampled_blake3(source: TensorSource, specs: Sequence[TensorSpec]) -> str:
    """Return the fingerprint of sampled contents of some tensors, in this order."""

    def read(name: str, block: Block) -> memoryview:
        raw = np.empty(block.nbytes, np.uint8)
        source.read_into(name, block.start, [raw])
        return raw.data

    return digest_of_samples(_to_sample(spec, partial(read, spec.name)) for spec in specs)


def _to_sample(spec: TensorSpec, read: Callable[[Block], bytes | memoryview]) -> Sampled:
    return Sampled(spec.name, spec.dtype, spec.shape, spec.nbytes, NUMPY[spec.dtype].itemsize, read)


class Checkpoint:
    """A safetensors folder or file. Reads by position from any thread; holds one descriptor a file."""

    def __init__(
        self, path: Path, headers: tuple[Header, ...], config: dict[str, Any], others: tuple[str, ...] = ()
    ) -> None:
        self.path = path
        self.others = others
        """The sub-folders with weights that nothing in the model names as a part of it."""
        self.headers = headers
        self.config = config
        self.place: Path | None = path
        self.hashes: Mapping[str, str] = {}
        """File name -> SHA-256, where it is known without reading the file."""
        self.tensors: Mapping[str, TensorSpec] = {spec.name: spec for spec in _all_tensors(headers)}
        self._sizes = {header.file: header.size for header in headers}
        self._samples: dict[Path, str] = {}
        self._descriptors: dict[Path, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def without(self, folders: Collection[str]) -> "Checkpoint":
        """Return the model without some of its sub-folders."""
        headers = [header for header in self.headers if header.folder not in folders]
        others = [folder for folder in self.others if folder not in folders]
        checkpoint = Checkpoint(self.path, tuple(headers), self.config, tuple(others))
        checkpoint.hashes = self.hashes
        return checkpoint

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        spec = self.tensors[name]
        descriptor, position = self._descriptor(spec.file), spec.start + start
        views = [part.view(np.uint8).data for part in out if part.size]
        while views:
            try:
                count = read_at(descriptor, views[:_MOST_PARTS], position)
            except OSError as error:
                raise _unreadable(spec.file, error) from error
            if count == 0:
                raise CheckpointError("the file ended while it was read: it has changed", where=f"{spec.file}: {name}")
            position += count
            while views and count >= len(views[0]):
                count -= len(views.pop(0))
            if count:
                views[0] = views[0][count:]

    def read(self, name: str) -> np.ndarray:
        """Read a whole tensor; flat bytes where numbers share them."""
        spec = self.tensors[name]
        raw = np.empty(spec.nbytes, np.uint8)
        self.read_into(name, 0, [raw])
        return raw if spec.dtype in PACKED else raw.view(NUMPY[spec.dtype]).reshape(spec.shape)

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        if hasattr(os, "posix_fadvise"):
            spec = self.tensors[name]
            os.posix_fadvise(self._descriptor(spec.file), spec.start + start, nbytes, os.POSIX_FADV_WILLNEED)

    def files(self) -> dict[str, StoredFile]:
        return {
            header.name: StoredFile(
                header.size,
                blake3(header.raw).hexdigest(),
                self.hashes.get(header.name),
                header.file,
                header.modified_ns,
                partial(self._sampled, header),
            )
            for header in self.headers
        }

    def _sampled(self, header: Header) -> str:
        """Sample a file once, in the order of its data. All reads are announced first, for disks that are far away."""
        if header.file in self._samples:
            return self._samples[header.file]
        descriptor = self._descriptor(header.file)
        if hasattr(os, "posix_fadvise"):
            for spec in header.tensors:
                for block in sampled_blocks(spec.nbytes, NUMPY[spec.dtype].itemsize):
                    os.posix_fadvise(descriptor, spec.start + block.start, block.nbytes, os.POSIX_FADV_WILLNEED)
        sampled = (_to_sample(spec, partial(_read_block, descriptor, spec)) for spec in header.tensors)
        self._samples[header.file] = digest_of_samples(sampled)
        return self._samples[header.file]

    def _descriptor(self, file: Path) -> int:
        with self._lock:
            if file not in self._descriptors:
                self._descriptors[file] = self._open(file)
            return self._descriptors[file]

    def _open(self, file: Path) -> int:
        try:
            descriptor = os.open(file, os.O_RDONLY | BINARY)
        except OSError as error:
            raise _unreadable(file, error) from error
        size = os.fstat(descriptor).st_size
        if size != self._sizes[file]:
            os.close(descriptor)
            message = f"the file has changed: it had {self._sizes[file]} bytes when its header was read, now {size}"
            raise CheckpointError(message, where=str(file))
        return descriptor


def _read_block(descriptor: int, spec: TensorSpec, block: Block) -> bytes:
    """Read a few kilobytes: `read_into` costs more than that for each."""
    try:
        raw = read_bytes_at(descriptor, block.nbytes, spec.start + block.start)
    except OSError as error:
        raise _unreadable(spec.file, error) from error
    if len(raw) < block.nbytes:
        raise CheckpointError("the file ended while it was read: it has changed", where=f"{spec.file}: {spec.name}")
    return raw


class MemoryCheckpoint:
    """A checkpoint held in memory: name -> NumPy array."""

    def __init__(self, arrays: Mapping[str, np.ndarray], config: dict[str, Any] | None = None) -> None:
        self.arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self.config = config or {}
        self.place: Path | None = None
        self.tensors: Mapping[str, TensorSpec] = {
            name: TensorSpec(name, name_of(array.dtype), np.shape(arrays[name]), Path("memory"), 0)
            for name, array in self.arrays.items()
        }

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        raw = self.arrays[name].reshape(-1).view(np.uint8)
        for part in out:
            part.view(np.uint8)[:] = raw[start : start + part.nbytes]
            start += part.nbytes

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        pass

    def files(self) -> dict[str, StoredFile]:
        digest = blake3()
        for name, array in sorted(self.arrays.items()):
            spec = self.tensors[name]
            digest.update(json.dumps([name, spec.dtype, spec.shape]).encode() + array.tobytes())
        size = sum(array.nbytes for array in self.arrays.values())
        sample = partial(sampled_blake3, self, list(self.tensors.values()))
        return {"memory": StoredFile(size, digest.hexdigest(), sample=sample)}


@dataclass(frozen=True)
class PartlyOpened:
    """A checkpoint as far as it could be opened, with its problems and the tensors of which only names are known.

    It may be read only if there are no problems.
    """

    checkpoint: Checkpoint
    problems: tuple[CuveeError, ...] = ()
    unseen: frozenset[str] = frozenset()


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a folder or a `.safetensors` file by its headers. Raises CheckpointError with every problem found."""
    opened = open_partly(path)
    if opened.problems:
        raise several(opened.problems)
    return opened.checkpoint


def open_partly(path: Path) -> PartlyOpened:
    """Open a folder or file as far as its files allow. Raises CheckpointError if nothing of it can be known."""
    if not path.is_dir() and not path.is_file():
        raise CheckpointError("no such folder or file", where=str(path))
    config = _config(path)
    if path.is_file():
        return _joined(path, [_open_files("", [path])], config)
    folders = folders_on_disk(path, files_below(path))
    opened = []
    for folder in folders.declared:
        own_config = config if folder == "" else {}
        opened.append(_open_folder(path, folder, own_config))
    names = {spec.name for spec in chain.from_iterable(folder.tensors for folder in opened)}
    others: list[str] = []
    for folder in folders.others:
        other = _open_other(path, folder, names)
        if other is not None:
            opened.append(other)
            others.append(folder)
    return _joined(path, opened, config, tuple(others))


@dataclass(frozen=True)
class _Opened:
    """A folder of a model as far as it could be opened, as `PartlyOpened` is of the whole."""

    folder: str
    headers: tuple[Header, ...]
    problems: tuple[CuveeError, ...]
    unseen: tuple[str, ...]

    @property
    def tensors(self) -> list[TensorSpec]:
        return list(_all_tensors(self.headers))


def _joined(
    path: Path, folders: Sequence[_Opened], config: dict[str, Any], others: tuple[str, ...] = ()
) -> PartlyOpened:
    headers = tuple(chain.from_iterable(folder.headers for folder in folders))
    problems = tuple(chain.from_iterable(folder.problems for folder in folders))
    unseen = frozenset(chain.from_iterable(folder.unseen for folder in folders))
    if not headers:
        raise several(problems)
    _check_unique(headers)
    checkpoint = Checkpoint(path, headers, config, others)
    if not checkpoint.tensors:
        raise CheckpointError("holds no tensor", where=str(path))
    return PartlyOpened(checkpoint, problems, unseen)


def _open_folder(path: Path, folder: str, config: Mapping[str, Any]) -> _Opened:
    place = path / folder
    start = place / start_of_weights([file.name for file in place.iterdir()], config, str(place))
    if start.suffix != ".json":
        return _open_files(folder, [start])
    weight_map = _weight_map(start)
    files = [place / shard for shard in dict.fromkeys(weight_map.values())]
    missing = [file.name for file in files if not file.is_file()]
    opened = _open_files(folder, [file for file in files if file.name not in missing])
    problems: list[CuveeError] = []
    if missing:
        message = f"missing {', '.join(missing)}, named by {start.name}"
        problems.append(CheckpointError(message, where=str(place)))
    problems += opened.problems
    read = {header.file.name for header in opened.headers}
    seen: dict[str, str] = {}
    unseen: list[str] = []
    for name, shard in weight_map.items():
        if shard in read:
            seen[folder + name] = shard
        else:
            unseen.append(folder + name)
    if read:
        problems += _index_problems(start, seen, opened)
    return replace(opened, problems=tuple(problems), unseen=tuple(unseen))


def _open_other(path: Path, folder: str, names: Container[str]) -> _Opened | None:
    """Open a sub-folder that nothing names, if it has a network of its own: not a copy of the model, nor codes."""
    try:
        opened = _open_folder(path, folder, {})
    except CheckpointError:
        return None
    if opened.problems:
        return None
    for spec in opened.tensors:
        is_copy = spec.name.removeprefix(folder) in names
        if is_copy or spec.dtype not in (*MERGEABLE, *COUNTS):
            return None
    return opened


def _open_files(folder: str, files: Sequence[Path]) -> _Opened:
    headers: list[Header] = []
    problems: list[CuveeError] = []
    for file in files:
        try:
            headers.append(read_header(file).within(folder))
        except CheckpointError as error:
            problems.append(error)
    return _Opened(folder, tuple(headers), tuple(problems), ())


def _weight_map(index: Path) -> dict[str, str]:
    try:
        text = index.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError("expected a JSON object with a 'weight_map'", where=str(index)) from error
    return parse_weight_map(text, index)


def parse_weight_map(text: str, index: Path) -> dict[str, str]:
    """Read an index: tensor name -> file of the same folder. Raises CheckpointError."""
    try:
        weight_map = json.loads(text)["weight_map"]
        names = {str(name): str(shard) for name, shard in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError("expected a JSON object with a 'weight_map'", where=str(index)) from error
    if not names:
        raise CheckpointError("the weight_map is empty", where=str(index))
    for name, shard in names.items():
        is_name = Path(shard).name == shard and shard not in ("", "..")
        if not is_name or not shard.isprintable():
            message = f"the weight_map has {shown(name)} in {shown(shard)}; expected a file of the same folder"
            raise CheckpointError(message, where=str(index))
    return names


def _check_unique(headers: Sequence[Header]) -> None:
    seen: dict[str, Path] = {}
    for spec in _all_tensors(headers):
        if spec.name in seen:
            raise CheckpointError(f"'{spec.name}' is also in {seen[spec.name].name}", where=str(spec.file))
        seen[spec.name] = spec.file


def _all_tensors(headers: Sequence[Header]) -> Iterator[TensorSpec]:
    return chain.from_iterable(header.tensors for header in headers)


def _index_problems(index: Path, weight_map: Mapping[str, str], opened: _Opened) -> list[CuveeError]:
    problems: list[CuveeError] = []
    tensors = {spec.name: spec for spec in opened.tensors}
    for name, shard in weight_map.items():
        spec = tensors.get(name)
        if spec is None or spec.file.name != shard:
            problems.append(
                CheckpointError(f"{shown(name)} is not in {shard}, where the index has it", where=str(index))
            )
    for name, spec in tensors.items():
        if name not in weight_map:
            problems.append(CheckpointError(f"'{name}' is not in {index.name}", where=str(spec.file)))
    if len(problems) > MOST_SHOWN:
        problems[MOST_SHOWN:] = [CheckpointError(f"and {len(problems) - MOST_SHOWN} more", where=str(index))]
    return problems


def _config(path: Path) -> dict[str, Any]:
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.exists():
        return {}
    try:
        return parse_config(file.read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"not JSON: {error}", where=str(file)) from error


def parse_config(text: str, file: Path) -> dict[str, Any]:
    """Read a config.json. Raises CheckpointError."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"not JSON: {error}", where=str(file)) from error
    if not isinstance(config, dict):
        raise CheckpointError("expected a JSON object", where=str(file))
    return config


def _unreadable(file: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"cannot read the file: {error.strerror}", where=str(file))
