"""SHA-256 of whole files: slower than a merge, so done only when asked for."""

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cuvee.errors import CheckpointError
from cuvee.progress import Progress, Silent

CHUNK_BYTES = 1 << 20


def sha256_of(files: Sequence[Path], *, threads: int = 1, progress: Progress | None = None) -> dict[Path, str]:
    """Return each file's SHA-256 in hex, the files side by side. Raises CheckpointError for unreadable files."""
    progress, lock = progress or Silent(), threading.Lock()
    stop = threading.Event()

    def told(nbytes: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        with lock:
            progress.advance(nbytes)

    def digest(file: Path) -> str:
        hashed, buffer = hashlib.sha256(), bytearray(CHUNK_BYTES)
        try:
            with file.open("rb", buffering=0) as opened:
                while count := opened.readinto(buffer):
                    hashed.update(memoryview(buffer)[:count])
                    told(count)
        except OSError as error:
            raise CheckpointError(f"cannot read the file: {error.strerror}", where=str(file)) from error
        return hashed.hexdigest()

    unique = list(dict.fromkeys(files))
    progress.start("hash the inputs", sum(_size(file) for file in unique), "bytes")
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        try:
            digests = dict(zip(unique, pool.map(digest, unique), strict=True))
        except BaseException:
            stop.set()
            raise
    progress.finish()
    return digests


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise CheckpointError(f"cannot read the file: {error.strerror}", where=str(file)) from error
