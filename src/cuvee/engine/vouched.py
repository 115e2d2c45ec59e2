"""Tensors that a journal vouches for are read back before use: disks lose bits, and a power cut loses pages."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from blake3 import blake3

from cuvee.checkpoint.write import OutputTensor, Shard
from cuvee.engine.journal import Finished
from cuvee.errors import PlatformError
from cuvee.progress import Progress, Silent

CHUNK_BYTES = 4 << 20

SILENT: Progress = Silent()


def damaged_tensors(
    folder: Path, shards: Sequence[Shard], finished: Mapping[str, Finished], progress: Progress = SILENT
) -> list[str]:
    """Return the finished tensors whose bytes in the files of `folder` are not those that were written.

    Every byte of them is read. Tensors that are not finished are left out. Raises PlatformError for a file that cannot
    be read.
    """
    tensors: list[tuple[Shard, OutputTensor]] = []
    for shard in shards:
        tensors += [(shard, tensor) for tensor in shard.tensors if tensor.name in finished]
    if not tensors:
        return []
    progress.start("check what was merged before", sum(tensor.nbytes for _, tensor in tensors), "bytes")
    damaged = []
    for shard, tensor in tensors:
        if _digest(folder / shard.file, shard.starts[tensor.name], tensor, progress) != finished[tensor.name].digest:
            damaged.append(tensor.name)
    progress.finish()
    return damaged


def _digest(path: Path, start: int, tensor: OutputTensor, progress: Progress) -> str:
    digest = blake3()
    buffer = memoryview(bytearray(min(CHUNK_BYTES, tensor.nbytes)))
    left = tensor.nbytes
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            while left and (count := file.readinto(buffer[:left])):
                digest.update(buffer[:count])
                progress.advance(count)
                left -= count
    except OSError as error:
        message = f"what was merged before cannot be read: {error.strerror}"
        raise PlatformError(message, where=str(path)) from error
    return digest.hexdigest()
