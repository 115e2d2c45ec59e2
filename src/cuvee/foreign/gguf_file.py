"""GGUF files, read with the package `gguf`: names, axes and layouts of transformers, quantised blocks as float32."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from cuvee.checkpoint import TensorSpec
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.sample import Block, Sampled, digest_of_samples
from cuvee.checkpoint.stored_file import StoredFile
from cuvee.errors import CheckpointError, MissingExtra
from cuvee.foreign.gguf_header import StoredTensor, read_gguf_header
from cuvee.foreign.gguf_names import Family, family, known_families, paired_rows
from cuvee.recipe.shown import shown

_PLAIN = ("F64", "F32", "F16", "BF16")
_SPECIAL = {
    "bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "padding_token_id": "pad_token_id",
}  # fmt: skip


@dataclass(frozen=True)
class _Stored:
    """One tensor of the file: its rows of bytes, their type, in which order they are, and what to take off."""

    rows: np.ndarray
    kind: Any
    order: np.ndarray | None
    offset: int


class GgufCheckpoint:
    """A GGUF file as a checkpoint under transformers' names; blocks are dequantised as they are read."""

    def __init__(
        self, path: Path, stored: Mapping[str, _Stored], specs: Mapping[str, TensorSpec], config: dict[str, Any]
    ) -> None:
        self.place: Path | None = path
        self.config = config
        self.tensors = specs
        self._stored = stored
        kinds = dict.fromkeys(s.kind.name for s in stored.values() if s.kind.name not in _PLAIN)
        self.notes = (f"GGUF blocks of {', '.join(kinds)}, read as float32",) if kinds else ()

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        for part in out:
            self._read_part(name, start, part)
            start += part.nbytes

    def _read_part(self, name: str, start: int, out: np.ndarray) -> None:
        stored, spec = self._stored[name], self.tensors[name]
        width = spec.shape[-1] if spec.shape else 1
        size = spec.nbytes // max(spec.elements, 1)
        first, last = start // size, (start + out.nbytes) // size
        low, high = first // width, -(-last // width)
        rows = stored.rows[low:high] if stored.order is None else stored.rows[stored.order[low:high]]
        numbers = _numbers(rows, stored.kind).reshape(-1)[first - low * width : last - low * width]
        if stored.offset:
            numbers = numbers - numbers.dtype.type(stored.offset)
        out.view(np.uint8)[:] = np.ascontiguousarray(numbers).view(np.uint8)

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        pass

    def files(self) -> dict[str, StoredFile]:
        assert self.place is not None, "opened from a file"
        known = repr([(s.name, s.dtype, s.shape, self._stored[n].kind.name) for n, s in self.tensors.items()])
        digest = blake3((known + repr(sorted(self.config.items()))).encode()).hexdigest()
        status = self.place.stat()
        file = StoredFile(status.st_size, digest, None, self.place, status.st_mtime_ns, self._sampled)
        return {self.place.name: file}

    def _sampled(self) -> str:
        """Sample the bytes as they are stored, blocks of codes undecoded."""
        return digest_of_samples(_sampled(name, stored) for name, stored in self._stored.items())


def _sampled(name: str, stored: _Stored) -> Sampled:
    def read(block: Block) -> memoryview:
        return stored.rows.reshape(-1)[block.start : block.start + block.nbytes].data

    return Sampled(name, stored.kind.name, stored.rows.shape, stored.rows.nbytes, 1, read)


def open_gguf(path: Path) -> GgufCheckpoint:
    """Open a GGUF file of a family that is known. Raises CheckpointError."""
    header = read_gguf_header(path)
    settings = header.settings
    key = str(settings.get("general.architecture"))
    known = family(key)
    if known is None:
        hint = f"known are {', '.join(known_families())}"
        raise CheckpointError(f"the GGUF architecture {shown(key)} is not known", where=str(path), hint=hint)
    tokens = header.lengths.get("tokenizer.ggml.tokens")
    config = _config(known, settings, tokens, any(tensor.name == "output.weight" for tensor in header.tensors))
    stored: dict[str, _Stored] = {}
    specs: dict[str, TensorSpec] = {}
    taken: dict[int, int] = {}
    raw = np.memmap(path, np.uint8, "r")
    for tensor in header.tensors:
        name = known.own_name(tensor.name)
        if name is None or name in specs:
            message = f"the GGUF tensor {shown(tensor.name)} has no place in a {known.model_type} model as known here"
            raise CheckpointError(message, where=str(path))
        shape = tuple(reversed(tensor.sizes))
        rows, kind = _rows(raw, tensor, path)
        taken[tensor.start] = rows.nbytes
        stored[name] = _stored(rows, kind, name, known, config, shape, path)
        specs[name] = TensorSpec(name, kind.name if kind.name in _PLAIN else "F32", shape, path, 0)
    ends = [start + taken[start] for start in sorted(taken)]
    overlap = any(end > start for end, start in zip(ends, sorted(taken)[1:], strict=False))
    if not specs or overlap or len(taken) < len(specs):
        what = "tensors overlap" if specs else "holds no tensor"
        raise CheckpointError(what, where=str(path))
    return GgufCheckpoint(path, stored, specs, config)


def _rows(raw: np.ndarray, tensor: StoredTensor, path: Path) -> tuple[np.ndarray, Any]:
    """Find a tensor's rows of bytes. Raises CheckpointError if the file does not hold them."""
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("gguf", missing="gguf") from error

    where = f"{path}: {tensor.name}"
    try:
        kind = gguf.GGMLQuantizationType(tensor.kind)
    except ValueError as error:
        raise CheckpointError(f"the GGUF type {tensor.kind} is not known", where=where) from error
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    width, rows = tensor.sizes[0], math.prod(tensor.sizes[1:])
    if width % block:
        raise CheckpointError(f"rows of {width} are not whole blocks of {block}, as {kind.name} needs", where=where)
    row_bytes = width // block * block_bytes
    end = tensor.start + rows * row_bytes
    if end > raw.size:
        message = f"the file has {raw.size} bytes, and this tensor ends at {shown(end)}: truncated"
        raise CheckpointError(message, where=where, hint="copy or download the file again")
    return raw[tensor.start : end].reshape(rows, row_bytes), kind


def _stored(
    rows: np.ndarray, kind: Any, name: str, known: Family, config: Mapping[str, Any], shape: tuple[int, ...], path: Path
) -> _Stored:
    order = None
    if known.rotated_rows and (".q_proj." in name or ".k_proj." in name):
        heads = config.get("num_attention_heads" if ".q_proj." in name else "num_key_value_heads")
        if type(heads) is not int or heads < 1 or shape[0] % (2 * heads):
            raise CheckpointError(f"'{name}' of {shape[0]} rows does not fit {heads} heads", where=str(path))
        order = np.argsort(paired_rows(shape[0], heads))
        if len(shape) == 1:
            return _Stored(rows.reshape(shape[0], -1)[order].reshape(1, -1), kind, None, 0)
    return _Stored(rows, kind, order, known.norm_offset if name.endswith("norm.weight") else 0)


def _numbers(rows: np.ndarray, kind: Any) -> np.ndarray:
    """Return rows of stored bytes as numbers."""
    import gguf

    if kind.name in _PLAIN:
        return np.ascontiguousarray(rows).view(NUMPY[kind.name])
    return np.asarray(gguf.dequantize(np.ascontiguousarray(rows), kind), np.float32)


def _config(known: Family, fields: Mapping[str, Any], tokens: int | None, has_head: bool) -> dict[str, Any]:
    """Return the config that transformers needs."""
    config: dict[str, Any] = {"architectures": [known.architecture], "model_type": known.model_type, "dtype": "float32"}
    for gguf, own in known.config.items():
        value = fields.get(f"{fields['general.architecture']}.{gguf}")
        if value is not None:
            config[own] = value
    config.setdefault("num_key_value_heads", config.get("num_attention_heads"))
    if tokens is not None:
        config["vocab_size"] = tokens
    config |= {
        own: fields[f"tokenizer.ggml.{gguf}"] for gguf, own in _SPECIAL.items() if f"tokenizer.ggml.{gguf}" in fields
    }
    return config | dict(known.constants) | {"tie_word_embeddings": not has_head}
