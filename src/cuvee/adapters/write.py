"""Writes an adapter's folder as PEFT loads it: explicit ranks, a scale of one, and where it came from."""

import json
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.adapters.adapter import WEIGHTS
from cuvee.adapters.config import CONFIG
from cuvee.adapters.low_rank import Product
from cuvee.adapters.names import PREFIX
from cuvee.checkpoint.digest import digest_of_entries, tensor_digest
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.naming import FileNames
from cuvee.checkpoint.write import (
    CheckpointWriter,
    OutputTensor,
    Shard,
    lay_out,
    lay_out_file,
    refuse_existing,
    write_error,
)
from cuvee.descriptors import read_at, write_at

CHUNK_BYTES = 1 << 22

LAYOUT = {"": FileNames(WEIGHTS.partition(".")[0])}
"""How the files of an adapter in shards are called."""

LAID_AS = "0.21.2"
"""The release of PEFT as which factors of stacks are laid: earlier ones laid them otherwise."""


@dataclass(frozen=True)
class Described:
    """What an adapter's config says beside the ranks of its modules."""

    base: str | None
    task_type: str | None = None
    fan_in_fan_out: bool = False
    bias: str = "none"
    modules_to_save: tuple[str, ...] = ()
    token_indices: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ties_weights: bool = False


class AdapterFile:
    """Tensors of an adapter as they become known, in a file without a name; the ranks are known only in the end.

    Use as a context manager. State: what was put in so far.
    """

    def __init__(self, out: Path, dtype: str, *, overwrite: bool, shard_bytes: int | None = None) -> None:
        refuse_existing(out, overwrite=overwrite)
        self.out = out
        self.dtype = dtype
        self.overwrite = overwrite
        self.shard_bytes = shard_bytes
        self.ranks: dict[str, int] = {}
        self.parameters: dict[str, int] = {}
        self.has_bias = False
        self._entries: dict[str, tuple[OutputTensor, int, str]] = {}
        self._size = 0
        self._lock = threading.Lock()
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=out.parent)  # noqa: SIM115  # closed by __exit__
        except OSError as error:
            raise write_error(error, out) from error

    def __enter__(self) -> "AdapterFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put_factors(self, module: str, product: Product, *, embeds: bool, kernel: tuple[int, ...] = ()) -> None:
        """Add a module's factors. A change of nothing gets a rank of one, as PEFT needs one.

        Those of a convolution become two: one with its `kernel`, and one of single elements.
        """
        left, right = product.left, product.right
        if product.rank == 0:
            left, right = np.zeros((left.shape[0], 1)), np.zeros((1, right.shape[1]))
        self.ranks[module] = right.shape[0]
        if kernel:
            left, right = left.reshape(*left.shape, *[1] * (len(kernel) - 1)), right.reshape(-1, *kernel)
        names = ("lora_embedding_A", "lora_embedding_B") if embeds else ("lora_A.weight", "lora_B.weight")
        for name, factor in zip(names, (left.T, right.T) if embeds else (right, left), strict=True):
            self.put(f"{module}.{name}", factor)

    def put_stack(self, parameter: str, products: Sequence[Product], rank: int, depth: int) -> None:
        """Add the factors of a stack of experts, of at most `rank` each, below `depth` wrappers of the same module."""
        module = parameter.rpartition(".")[0] + ".base_layer" * depth
        (rows, columns), count, kind = products[0].shape, len(products), NUMPY[self.dtype]
        first, second = np.zeros((count, rank, columns), kind), np.zeros((rows, rank, count), kind)
        with np.errstate(over="ignore"):
            for expert, product in enumerate(products):
                first[expert, : product.rank] = product.right
                second[:, : product.rank, expert] = product.left
        self.put(f"{module}.lora_A.weight", first.reshape(-1, columns))
        self.put(f"{module}.lora_B.weight", second.reshape(rows, -1))
        self.parameters[parameter] = rank

    def put(self, name: str, numbers: np.ndarray, dtype: str | None = None) -> None:
        """Add a tensor by the base's name for it."""
        kind = dtype or self.dtype
        with np.errstate(over="ignore"):
            raw = np.ascontiguousarray(numbers.astype(NUMPY[kind], copy=False))
        tensor = OutputTensor(PREFIX + name, kind, raw.shape)
        with self._lock:
            start, self._size = self._size, self._size + raw.nbytes
        view, position = raw.reshape(-1).view(np.uint8).data, start
        try:
            while len(view):
                count = write_at(self._file.fileno(), view, position)
                view, position = view[count:], position + count
        except OSError as error:
            raise write_error(error, self.out) from error
        with self._lock:
            self._entries[tensor.name] = (tensor, start, tensor_digest(raw))

    @property
    def digest(self) -> str:
        """The digest of all tensors, as that of a model's weights."""
        return digest_of_entries((t.name, t.dtype, t.shape, digest) for t, _, digest in self._entries.values())

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files that the tensors so far are to be written to."""
        tensors = [self._entries[name][0] for name in sorted(self._entries)]
        if self.shard_bytes is None:
            return (lay_out_file(WEIGHTS, tensors),)
        return lay_out(tensors, self.shard_bytes, LAYOUT)

    def doubts(self) -> tuple[str, ...]:
        """Say that PEFT does not load the files as they are."""
        count = len(self.shards)
        if count == 1:
            return ()
        return (f"the adapter is in {count} files, and PEFT {LAID_AS} loads adapters of one file alone",)

    def finish(self, described: Described, card: str, record: Mapping[str, Any]) -> None:
        """Write the folder, which appears complete or not at all."""
        with CheckpointWriter(self.out, self.shards, overwrite=self.overwrite) as writer:
            for name in sorted(self._entries):
                tensor, start, _ = self._entries[name]
                for at in range(0, tensor.nbytes, CHUNK_BYTES):
                    writer.write(name, at, self._read(start + at, min(CHUNK_BYTES, tensor.nbytes - at)))
            writer.write_file(CONFIG, json.dumps(self._config(described), indent=2) + "\n")
            writer.write_file("README.md", card)
            writer.write_file("cuvee.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
            writer.finish()

    def _read(self, start: int, nbytes: int) -> np.ndarray:
        raw = np.empty(nbytes, np.uint8)
        view = raw.data
        while len(view):
            count = read_at(self._file.fileno(), [view], start + nbytes - len(view))
            view = view[count:]
        return raw

    def _config(self, described: Described) -> dict[str, Any]:
        ranks = self.ranks | self.parameters
        rank = max(ranks.values(), default=1)
        # The longest name first: PEFT takes the first that is the end of a module's name.
        others = dict(sorted(ranks.items(), key=lambda item: (-len(item[0]), item[0])))
        if set(others.values()) == {rank}:
            others = {}
        token_indices = {module: list(rows) for module, rows in described.token_indices.items()}
        return {
            "base_model_name_or_path": described.base,
            "peft_type": "LORA",
            "task_type": described.task_type,
            "inference_mode": True,
            "r": rank,
            "lora_alpha": rank,
            "rank_pattern": others,
            "alpha_pattern": others,
            "use_rslora": False,
            "use_dora": False,
            "lora_bias": self.has_bias,
            "lora_dropout": 0.0,
            "fan_in_fan_out": described.fan_in_fan_out,
            "bias": described.bias,
            "target_modules": sorted(self.ranks),
            "modules_to_save": list(described.modules_to_save) or None,
            "trainable_token_indices": token_indices or None,
            "ensure_weight_tying": described.ties_weights,
            "init_lora_weights": True,
            "target_parameters": sorted(self.parameters) or None,
            "peft_version": LAID_AS if self.parameters else None,
        }
