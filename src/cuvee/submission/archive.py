"""Archives of submissions: plain tar, written the same for the same content, read with suspicion.

The reader is our own. It takes regular files and directories only, under names that are normalised and unique even
where a file system folds cases, and counts bytes, files and depth while it reads: a bomb is refused before it is
unpacked. Nothing is written to the disk. A gzipped tar is read as well, with the same limits.
"""

import io
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Protocol

from cuvee.documents.shown import shown
from cuvee.errors import SubmissionError

BLOCK = 512
PIECE = 1 << 16
GZIP = b"\x1f\x8b"
REGULAR, FOLDER = (b"0", b"\0"), b"5"
KINDS = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe",
    b"x": "an extended header", b"g": "an extended header", b"L": "a long name", b"K": "a long link",
    b"S": "a sparse file",
}  # fmt: skip
FREE_BYTES = 1 << 20
"""What may be unpacked before the ratio counts: a short text of spaces is no bomb."""


@dataclass(frozen=True)
class Limits:
    """The most that an archive may hold. `ratio` is unpacked bytes to a packed byte."""

    total_bytes: int = 16 << 20
    files: int = 500
    name_characters: int = 200
    depth: int = 10
    ratio: int = 100


DEFAULT = Limits()


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def write_archive(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of these files, the same bytes for the same names and contents on any machine."""
    for name in files:
        _check_name(name, DEFAULT, "the archive")
    written = io.BytesIO()
    for name in sorted(files):
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(files[name]), 0o644
        written.write(entry.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
        written.write(files[name] + bytes(-len(files[name]) % BLOCK))
    written.write(bytes(2 * BLOCK))
    return written.getvalue()


def read_files(path: Path, limits: Limits = DEFAULT) -> dict[str, bytes]:
    """Read all files of an archive. Raises SubmissionError for whatever is not plainly a tar of a few small files."""
    try:
        with path.open("rb") as opened:
            return parse_archive(opened, str(path), limits)
    except OSError as error:
        raise SubmissionError(f"cannot read the archive: {error.strerror}", where=str(path)) from error


def parse_archive(opened: IO[bytes], where: str, limits: Limits = DEFAULT) -> dict[str, bytes]:
    """Read all files of an opened archive. See `read_files`."""
    stream = _stream(opened, where, limits)
    files: dict[str, bytes] = {}
    folders: set[str] = set()
    folded: dict[str, str] = {}
    for name, kind, size in _entries(stream, where, limits):
        _check_name(name, limits, where)
        _check_unique(name, folded, files.keys() | folders, where)
        if kind == FOLDER:
            folders.add(name)
            continue
        if len(files) == limits.files:
            raise SubmissionError(f"more than {limits.files} files", where=where)
        files[name] = _exactly(stream, size, where)
        _exactly(stream, -size % BLOCK, where)
    parents = chain.from_iterable(map(_parents, (*files, *folders)))
    inside = next((parent for parent in parents if parent in files), None)
    if inside is not None:
        raise SubmissionError(f"{shown(inside)} is both a file and a folder", where=where)
    if not files:
        raise SubmissionError("the archive is empty", where=where)
    return files


def _stream(opened: IO[bytes], where: str, limits: Limits) -> "_Counted":
    first = opened.read(2)
    rest: _Stream = _Joined(first, opened)
    return _Counted(_Unzipped(rest, where, limits) if first == GZIP else rest, where, limits)


class _Joined:
    """The bytes that were read already, then the rest."""

    def __init__(self, first: bytes, rest: _Stream) -> None:
        self._first = first
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        if self._first:
            given, self._first = self._first[:size], self._first[size:]
            return given
        return self._rest.read(size)


class _Counted:
    """Refuses to give more than the limit, headers and padding included."""

    def __init__(self, stream: _Stream, where: str, limits: Limits) -> None:
        self._stream = stream
        self._where = where
        self._most = limits.total_bytes + (limits.files + 4) * 2 * BLOCK
        self._given = 0

    def read(self, size: int, /) -> bytes:
        piece = self._stream.read(size)
        self._given += len(piece)
        if self._given > self._most:
            raise SubmissionError(f"more than {self._most} bytes unpacked", where=self._where)
        return piece


class _Unzipped:
    """A gzip file of one member, unpacked piece by piece."""

    def __init__(self, stream: _Stream, where: str, limits: Limits) -> None:
        self._stream = stream
        self._where = where
        self._ratio = limits.ratio
        self._unpacker = zlib.decompressobj(wbits=31)
        self._packed = self._unpacked = 0

    def read(self, size: int, /) -> bytes:
        while not self._unpacker.eof:
            fed = self._unpacker.unconsumed_tail or self._stream.read(PIECE)
            if not self._unpacker.unconsumed_tail:
                self._packed += len(fed)
            if not fed:
                raise SubmissionError("the archive is cut off", where=self._where)
            try:
                piece = self._unpacker.decompress(fed, size)
            except zlib.error as error:
                raise SubmissionError("the archive is damaged", where=self._where) from error
            self._unpacked += len(piece)
            if self._unpacked > FREE_BYTES and self._unpacked > self._ratio * self._packed:
                raise SubmissionError(f"unpacks to more than {self._ratio} times its size", where=self._where)
            if piece:
                return piece
        if self._unpacker.unused_data or self._stream.read(1):
            raise SubmissionError("something follows the packed data", where=self._where)
        return b""


def _entries(stream: _Stream, where: str, limits: Limits) -> Iterator[tuple[str, bytes, int]]:
    """Yield name, kind and size of each entry; the consumer reads the content in between."""
    seen = 0
    while True:
        header = _exactly(stream, BLOCK, where)
        if not any(header):
            _check_end(stream, where)
            return
        seen += 1
        if seen > 2 * limits.files:
            raise SubmissionError(f"more than {2 * limits.files} entries", where=where)
        yield _parsed(header, where, limits)


def _parsed(header: bytes, where: str, limits: Limits) -> tuple[str, bytes, int]:
    if header[257:263] not in (b"ustar\0", b"ustar "):
        raise SubmissionError("this is no archive of a submission", where=where, hint="make one with `submission pack`")
    if _octal(header[148:156], where) != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
        raise SubmissionError("a header of the archive is damaged", where=where)
    name = _text(header[:100], where)
    prefix = _text(header[345:500], where) if header[257:263] == b"ustar\0" else ""
    name, kind = f"{prefix}/{name}" if prefix else name, header[156:157]
    size = _octal(header[124:136], where)
    if kind not in (*REGULAR, FOLDER):
        message = f"{shown(name)} is {KINDS.get(kind, 'neither file nor folder')}; only files and folders are taken"
        raise SubmissionError(message, where=where)
    if any(header[157:257]):
        raise SubmissionError(f"{shown(name)} is a file that links elsewhere", where=where)
    if kind == FOLDER and size:
        raise SubmissionError(f"the folder {shown(name)} claims to hold {size} bytes", where=where)
    if size > limits.total_bytes:
        raise SubmissionError(f"{shown(name)} has {size} bytes, more than {limits.total_bytes} in all", where=where)
    return (name.removesuffix("/") if kind == FOLDER else name), kind, size


def _octal(field: bytes, where: str) -> int:
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise SubmissionError("a number in the archive is not octal", where=where)
    return int(digits, 8)


def _text(field: bytes, where: str) -> str:
    text, _, rest = field.partition(b"\0")
    if any(rest):
        raise SubmissionError("a name in the archive has a zero byte", where=where)
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SubmissionError("a name in the archive is not UTF-8", where=where) from error


def _exactly(stream: _Stream, size: int, where: str) -> bytes:
    pieces = bytearray()
    while len(pieces) < size:
        piece = stream.read(min(PIECE, size - len(pieces)))
        if not piece:
            raise SubmissionError("the archive is cut off", where=where)
        pieces += piece
    return bytes(pieces)


def _check_end(stream: _Stream, where: str) -> None:
    """Take zeros alone after the last entry, at least one more block of them, to a whole record at most."""
    rest = b""
    while piece := stream.read(PIECE):
        rest += piece
        if any(piece) or len(rest) > 64 * BLOCK:
            raise SubmissionError("something follows the archive's end", where=where)
    if len(rest) < BLOCK or len(rest) % BLOCK:
        raise SubmissionError("the archive is cut off", where=where)


def _has_plain_characters(name: str) -> bool:
    """Say whether all characters show, mean the same on every system, and are composed (NFC)."""
    if not name.isprintable() or {*name} & {"\\", ":"}:
        return False
    return name == unicodedata.normalize("NFC", name)


def _is_plain_part(part: str) -> bool:
    """Say whether a part of a path has a name that no system changes: blanks and dots at the end get lost."""
    is_stripped = part == part.strip(" ") and not part.endswith(".")
    return part != "" and is_stripped


def _check_name(name: str, limits: Limits, where: str) -> None:
    parts = name.split("/")
    if len(name) > limits.name_characters or len(parts) > limits.depth:
        raise SubmissionError(f"the name {shown(name)} is too long or too deep", where=where)
    if not _has_plain_characters(name) or not all(map(_is_plain_part, parts)):
        hint = "names are relative, without '..', backslashes, colons, and spaces at their ends"
        raise SubmissionError(f"the name {shown(name)} is not a plain one", where=where, hint=hint)


def _check_unique(name: str, folded: dict[str, str], seen: set[str], where: str) -> None:
    if name in seen:
        raise SubmissionError(f"{shown(name)} is there twice", where=where)
    for path in (*_parents(name), name):
        if (other := folded.setdefault(_fold(path), path)) != path:
            message = f"{shown(path)} and {shown(other)} are one name to some file systems"
            raise SubmissionError(message, where=where)


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", name).casefold())


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))
