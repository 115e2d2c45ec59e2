"""Safetensors checkpoints: headers, positioned reads, sharded atomic writes, digests, companion files."""

from cuvee.checkpoint.checkpoint import Checkpoint, MemoryCheckpoint, TensorSource, open_checkpoint
from cuvee.checkpoint.digest import tensor_digest, weights_digest
from cuvee.checkpoint.header import TensorSpec

__all__ = [
    "Checkpoint",
    "MemoryCheckpoint",
    "TensorSource",
    "TensorSpec",
    "open_checkpoint",
    "tensor_digest",
    "weights_digest",
]
