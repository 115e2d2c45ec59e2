"""Safetensors checkpoints: headers, positioned reads, sharded atomic writes, digests, companion files."""

from cuvee.checkpoint.checkpoint import (
    Checkpoint,
    MemoryCheckpoint,
    PartlyOpened,
    TensorSource,
    open_checkpoint,
    open_partly,
)
from cuvee.checkpoint.digest import digest_of_source, tensor_digest, weights_digest
from cuvee.checkpoint.header import TensorSpec
from cuvee.checkpoint.stored_file import StoredFile

__all__ = [
    "Checkpoint",
    "MemoryCheckpoint",
    "PartlyOpened",
    "StoredFile",
    "TensorSource",
    "TensorSpec",
    "digest_of_source",
    "open_checkpoint",
    "open_partly",
    "tensor_digest",
    "weights_digest",
]
