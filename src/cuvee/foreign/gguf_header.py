"""Headers of GGUF files, read and checked by ourselves before any number is.

Format: magic, version, counts, key-value pairs, tensor infos, then the data at aligned offsets
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). The package's own reader takes seconds for a vocabulary.
"""

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuvee.documents.shown import shown
from cuvee.errors import CheckpointError

MAX_AXES = 4
MAX_NAME = 1000
MAX_NESTING = 4
MAX_KEPT = 1024
"""Longest array of numbers whose entries are kept: a model has fewer layers."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file: its name, sizes with the last axis first as the file has them, type, and where it is."""

    name: str
    sizes: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True)
class GgufHeader:
    """Settings, lengths of all arrays, entries of short arrays, tensors in the order of the file, and where it ends."""

    settings: Mapping[str, Any]
    lengths: Mapping[str, int]
    arrays: Mapping[str, tuple[Any, ...]]
    tensors: tuple[StoredTensor, ...]
    size: int


def read_gguf_header(file: Path) -> GgufHeader:
    """Read and check a GGUF file's header. Raises CheckpointError."""
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            return _Reader(raw, file).read()
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise CheckpointError(f"cannot read the file: {error}", where=str(file)) from error


class _Reader:
    """Walks through the header. State: the position."""

    def __init__(self, raw: mmap.mmap, file: Path) -> None:
        self.raw = raw
        self.file = file
        self.at = 0

    def read(self) -> GgufHeader:
        if self.take(4) != b"GGUF":
            raise self.error("it does not begin with 'GGUF'")
        version = self.number("I")
        if version not in (2, 3):
            raise self.error(f"GGUF version {version} is not known (2 and 3 are)")
        tensors, pairs = self.count("tensors", 24), self.count("settings", 12)
        settings: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        arrays: dict[str, tuple[Any, ...]] = {}
        for _ in range(pairs):
            key = self.text()
            if key in settings or key in lengths:
                raise self.error(f"the setting {shown(key)} is there twice")
            kind = self.number("I")
            if kind == _ARRAY:
                begin = self.at
                lengths[key] = self.skip_array(0)
                arrays |= self.kept(key, begin, lengths[key])
            else:
                settings[key] = self.value(kind)
        infos = [self.tensor() for _ in range(tensors)]
        alignment = settings.get("general.alignment", 32)
        if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
            raise self.error(f"the alignment {shown(alignment)} is no power of two")
        begin = -(-self.at // alignment) * alignment
        return GgufHeader(settings, lengths, arrays, tuple(_placed(infos, begin)), len(self.raw))

    def error(self, message: str) -> CheckpointError:
        return CheckpointError(f"not a sound GGUF file: {message}", where=str(self.file))

    def take(self, count: int) -> bytes:
        if count > len(self.raw) - self.at:
            raise self.error(f"its header claims {shown(count)} bytes at byte {self.at}, where the file has fewer")
        self.at += count
        return self.raw[self.at - count : self.at]

    def number(self, code: str) -> Any:
        (value,) = struct.unpack(f"<{code}", self.take(struct.calcsize(code)))
        return value

    def count(self, what: str, least: int) -> int:
        """Read how many there are of something that takes at least so many bytes each."""
        count = int(self.number("Q"))
        if count * least > len(self.raw) - self.at:
            raise self.error(f"it claims {shown(count)} {what}, more than the file can hold")
        return count

    def text(self) -> str:
        try:
            return self.take(int(self.number("Q"))).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"a text before byte {self.at} is not UTF-8") from error

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind not in _SCALARS:
            raise self.error(f"a setting has the unknown type {kind}")
        return self.number(_SCALARS[kind])

    def skip_array(self, depth: int) -> int:
        """Pass over an array and return its length."""
        kind, length = self.number("I"), self.count("entries of an array", 1)
        if kind == _TEXT:
            for _ in range(length):
                self.take(int(self.number("Q")))
        elif kind == _ARRAY and depth < MAX_NESTING:
            for _ in range(length):
                self.skip_array(depth + 1)
        elif kind in _SCALARS:
            self.take(length * struct.calcsize(_SCALARS[kind]))
        else:
            raise self.error(f"an array has the unknown type {kind}")
        return length

    def kept(self, key: str, begin: int, length: int) -> dict[str, tuple[Any, ...]]:
        """Return the entries of a short array of numbers that has just been passed."""
        (kind,) = struct.unpack("<I", self.raw[begin : begin + 4])
        if kind not in _SCALARS or length > MAX_KEPT:
            return {}
        return {key: struct.unpack(f"<{length}{_SCALARS[kind]}", self.raw[begin + 12 : self.at])}

    def tensor(self) -> StoredTensor:
        name = self.text()
        if not name.isprintable() or len(name) > MAX_NAME:
            raise self.error(f"the tensor name {shown(name)} is too long or cannot be printed")
        axes = self.number("I")
        if not 1 <= axes <= MAX_AXES:
            raise self.error(f"the tensor {shown(name)} has {axes} axes, at most {MAX_AXES} are allowed")
        sizes = tuple(int(self.number("Q")) for _ in range(axes))
        if min(sizes) < 1 or math.prod(sizes) >= 1 << 62:
            raise self.error(f"the tensor {shown(name)} has the sizes {shown(list(sizes))}")
        return StoredTensor(name, sizes, self.number("I"), self.number("Q"))


def _placed(infos: list[StoredTensor], begin: int) -> Iterator[StoredTensor]:
    """Give the tensors with their place counted from the file's first byte."""
    for info in infos:
        yield StoredTensor(info.name, info.sizes, info.kind, begin + info.start)
