"""Writing checkpoints: tensors at offsets known beforehand, in a hidden folder that is renamed at the very end.

`OUT` appears complete or not at all: everything goes to `.OUT.partial/model` beside it; the index is written last, then
that folder is renamed. Other files in `.OUT.partial` belong to the run that resumes a stopped run.
"""

import errno
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cuvee.checkpoint.dtypes import NUMPY, entry_count
from cuvee.checkpoint.naming import PLAIN, FileNames, Layout
from cuvee.descriptors import BINARY, write_at
from cuvee.errors import CuveeError, OutOfBudget, PlatformError, RecipeError

ALIGNMENT = 4096
"""Data starts on a page, so that readers can map it."""


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return entry_count(self.dtype, self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * NUMPY[self.dtype].itemsize


@dataclass(frozen=True)
class Shard:
    """A file to be written: its name, its tensors in order, its header, and where each tensor starts.

    `folder` is the sub-folder that the file is in, with a slash at its end; in the file tensors are called without it.
    `index` is the file that lists the tensors of a folder with several files.
    """

    file: str
    tensors: tuple[OutputTensor, ...]
    header: bytes
    starts: dict[str, int]
    nbytes: int
    folder: str = ""
    index: str | None = None


METADATA = {"format": "pt"}
"""What transformers wants in every file."""


def lay_out(tensors: Sequence[OutputTensor], shard_bytes: int, layout: Layout = PLAIN) -> tuple[Shard, ...]:
    """Cut the tensors of each folder, in order, into shards of at most `shard_bytes` (a tensor at least).

    A tensor whose name begins with a sub-folder of the layout, `2_Dense/linear.weight`, is written to a file there.
    """
    by_folder: dict[str, list[OutputTensor]] = {}
    for tensor in tensors:
        by_folder.setdefault(folder_of(tensor.name, layout), []).append(tensor)
    shards: list[Shard] = []
    for folder, own in by_folder.items():
        shards += _lay_out_folder(folder, own, shard_bytes, layout.get(folder, FileNames()))
    return tuple(shards)


def folder_of(name: str, layout: Layout) -> str:
    """Return the sub-folder that a tensor is written to, the deepest that its name begins with."""
    return max((folder for folder in layout if name.startswith(folder)), key=len, default="")


def _lay_out_folder(
    folder: str, tensors: Sequence[OutputTensor], shard_bytes: int, names: FileNames
) -> Iterator[Shard]:
    groups = _groups(tensors, shard_bytes)
    if len(groups) == 1:
        yield lay_out_file(f"{folder}{names.single}", groups[0], folder=folder)
        return
    for number, group in enumerate(groups, 1):
        shard = lay_out_file(f"{folder}{names.shard(number, len(groups))}", group, folder=folder)
        yield replace(shard, index=f"{folder}{names.index}")


def _groups(tensors: Sequence[OutputTensor], shard_bytes: int) -> list[list[OutputTensor]]:
    groups: list[list[OutputTensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if groups[-1] and filled + tensor.nbytes > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += tensor.nbytes
    return groups


def lay_out_file(
    file: str, unordered: Sequence[OutputTensor], metadata: Mapping[str, str] = METADATA, *, folder: str = ""
) -> Shard:
    """Lay out a file. Wide types come first, so that every tensor starts at a multiple of its numbers' size."""
    tensors = sorted(unordered, key=lambda tensor: -NUMPY[tensor.dtype].itemsize)
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for tensor in tensors:
        span = [position, position + tensor.nbytes]
        own = tensor.name.removeprefix(folder)
        entries[own] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": span}
        position = span[1]
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    header = len(text).to_bytes(8, "little") + text
    starts: dict[str, int] = {}
    at = len(header)
    for tensor in tensors:
        starts[tensor.name] = at
        at += tensor.nbytes
    return Shard(file, tuple(tensors), header, starts, at, folder)


def partial_folder(out: Path) -> Path:
    """Return the hidden folder beside `out` in which it is made."""
    return out.parent / f".{out.name}.partial"


class CheckpointWriter:
    """Writes shards into `.OUT.partial/model`. Use as a context manager: leaving it unfinished removes them.

    With `resume`, shards that an earlier run has set out are taken as they are. With `keep` set they stay.
    """

    def __init__(self, out: Path, shards: Sequence[Shard], *, overwrite: bool = False, resume: bool = False) -> None:
        self.out = out
        self.partial = partial_folder(out)
        self.folder = self.partial / "model"
        self.shards = tuple(shards)
        self.overwrite = overwrite
        self.resume = resume
        self.keep = False
        self._left: dict[str, int] = {}
        self._places: dict[str, tuple[str, int]] = {}
        for shard in shards:
            self._left |= {tensor.name: tensor.nbytes for tensor in shard.tensors}
            self._places |= {tensor.name: (shard.file, shard.starts[tensor.name]) for tensor in shard.tensors}
        self._counting = threading.Lock()
        self._descriptors: dict[str, int] = {}

    def take_as_written(self, names: Iterable[str]) -> None:
        """Count tensors that an earlier run has written."""
        self._left.update(dict.fromkeys(names, 0))

    @property
    def count(self) -> int:
        """How many tensors are to be written."""
        return len(self._places)

    def __enter__(self) -> "CheckpointWriter":
        refuse_existing(self.out, overwrite=self.overwrite)
        try:
            if not self.resume and self.partial.exists():
                shutil.rmtree(self.partial)
            self.folder.mkdir(parents=True, exist_ok=True)
            for shard in self.shards:
                self._open(shard)
        except OSError as error:
            self.leave()
            raise write_error(error, self.out) from error
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def write(self, name: str, start: int, data: np.ndarray) -> None:
        """Write bytes of a tensor from its byte `start` on."""
        file, place = self._places[name]
        view, position = data.view(np.uint8).data, place + start
        with self._counting:
            self._left[name] -= len(view)
        try:
            while len(view):
                count = write_at(self._descriptors[file], view, position)
                view, position = view[count:], position + count
        except OSError as error:
            raise write_error(error, self.out) from error

    def write_file(self, name: str, text: str) -> None:
        """Write a text file beside the shards."""
        try:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise write_error(error, self.out) from error

    def close(self) -> None:
        """Close the shards; a network file system may say only now that they do not fit."""
        try:
            while self._descriptors:
                os.close(self._descriptors.popitem()[1])
        except OSError as error:
            raise write_error(error, self.out) from error

    def finish(self) -> None:
        """Close the shards, write the index last, and rename the folder into place.

        An earlier merge at OUT is moved aside first and removed last. Raises PlatformError if part of a tensor has
        never been written.
        """
        gaps = [name for name, left in self._left.items() if left > 0]
        if gaps:
            more = f" and {len(gaps) - 1} more" if len(gaps) > 1 else ""
            raise PlatformError(f"not written to the end: '{gaps[0]}'{more}", where=str(self.out))
        # No fsync, which would take longer than the merge: a killed process leaves nothing that looks finished, and
        # after a power cut the weights digest tells.
        self.close()
        for index in dict.fromkeys(shard.index for shard in self.shards if shard.index is not None):
            self.write_file(index, _index_text([shard for shard in self.shards if shard.index == index]))
        refuse_existing(self.out, overwrite=self.overwrite)  # it may have appeared since the start
        try:
            replaced = _replaced(self.out)
            shutil.rmtree(replaced, ignore_errors=True)
            if self.out.exists():
                self.out.rename(replaced)
            self.folder.rename(self.out)
            shutil.rmtree(replaced, ignore_errors=True)
            remove_empty(self.partial)
        except OSError as error:
            raise write_error(error, self.out) from error

    def _open(self, shard: Shard) -> None:
        ready = self.resume and is_set_out(self.folder, shard)
        flags = os.O_RDWR | os.O_CREAT | BINARY | (0 if ready else os.O_TRUNC)
        (self.folder / shard.file).parent.mkdir(parents=True, exist_ok=True)
        descriptor = self._descriptors[shard.file] = os.open(self.folder / shard.file, flags, 0o644)
        if ready:
            return
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, shard.nbytes)
        write_at(descriptor, memoryview(shard.header), 0)

    def leave(self) -> None:
        """Close the shards and remove them, unless they are to be kept."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        if self.keep:
            return
        for shard in self.shards:
            with suppress(OSError):
                (self.folder / shard.file).unlink()
        if not any(self.folder.rglob("*.safetensors")):
            shutil.rmtree(self.folder, ignore_errors=True)
        remove_empty(self.partial)


def _index_text(shards: Sequence[Shard]) -> str:
    """Return the index of the files of a folder, in which names are those within the folder."""
    metadata = {"total_size": 0, "total_parameters": 0}
    weight_map: dict[str, str] = {}
    for shard in shards:
        file = shard.file.removeprefix(shard.folder)
        for tensor in shard.tensors:
            weight_map[tensor.name.removeprefix(shard.folder)] = file
            metadata["total_size"] += tensor.nbytes
            metadata["total_parameters"] += tensor.elements
    return json.dumps({"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}, indent=2) + "\n"


def is_set_out(folder: Path, shard: Shard) -> bool:
    """Say whether a shard's file is there with its header and its full size, whatever its tensors hold."""
    try:
        with (folder / shard.file).open("rb") as file:
            return os.fstat(file.fileno()).st_size == shard.nbytes and file.read(len(shard.header)) == shard.header
    except OSError:
        return False


def remove_empty(folder: Path) -> None:
    """Remove a folder unless something is in it."""
    with suppress(OSError):
        folder.rmdir()


def bring_back(out: Path) -> None:
    """Undo the first half of a replacement that a kill cut in two: the earlier merge goes back to OUT."""
    if _replaced(out).exists() and not out.exists():
        with suppress(OSError):
            _replaced(out).rename(out)


def _replaced(out: Path) -> Path:
    return out.with_name(f".{out.name}.replaced")


def refuse_existing(out: Path, *, overwrite: bool | None) -> None:
    """Raise RecipeError if `out` exists and may not be replaced. Only an earlier merge's folder may be.

    `overwrite` is None where nobody can ask for it.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        hint = "name another" if overwrite is None else "name another, or use --overwrite"
        raise RecipeError("the output exists already", where=str(out), hint=hint)
    if not _is_replaceable(out):
        raise RecipeError("this is not a folder that a merge wrote; it is not overwritten", where=str(out))


def _is_replaceable(out: Path) -> bool:
    """Say whether `out` is an empty folder or an earlier merge."""
    if not out.is_dir() or out.is_symlink():
        return False
    is_empty = not any(out.iterdir())
    return is_empty or (out / "cuvee.json").exists()


def write_error(error: OSError, out: Path) -> CuveeError:
    """Say whose fault it is that something cannot be written: the disk is full, the place is wrong, or else ours."""
    where = str(error.filename or out)
    message = f"cannot write the output: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutOfBudget(message, where=where, hint="free some space, or write elsewhere")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
        return RecipeError(message, where=where, hint="name another place for the output")
    return PlatformError(message, where=where)
