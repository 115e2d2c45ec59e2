"""GGUF files, read with the package `gguf`: names, axes and layouts of transformers, quantised blocks as float32."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from cuvee.checkpoint import TensorSpec
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.sample import Block, Sampled, digest_of_samples
from cuvee.checkpoint.stored_file import StoredFile
from cuvee.documents.shown import shown
from cuvee.errors import CheckpointError, MissingExtra
from cuvee.foreign.gguf_header import GgufHeader, StoredTensor, read_gguf_header
from cuvee.foreign.gguf_names import ALWAYS, WINDOW_PATTERN, Family, family, known_families, paired_rows
from cuvee.foreign.gguf_rotation import FACTORS, FULL, WINDOW, rotation_from_gguf

_PLAIN = ("F64", "F32", "F16", "BF16")
_SPECIAL = {
    "bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "padding_token_id": "pad_token_id",
}  # fmt: skip

UNDERSTOOD = (
    "attention.value_length", "rope.dimension_count", "attention.causal", "expert_count", "expert_used_count",
    "rope.freq_base", "rope.freq_base_swa", "rope.scale_linear", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.attn_factor", "rope.scaling.original_context_length", WINDOW_PATTERN,
)  # fmt: skip
"""Settings that are looked at besides those with a word in the config."""

UNREAD = ("attention.sliding_window", "attention.scale", "rope.scaling.finetuned", "pooling_type", "tensor_data_layout")
"""Settings that change nothing in llama.cpp for the types that are known, other than those whose config has them."""


@dataclass(frozen=True)
class _Stored:
    """A tensor of the file: its rows of bytes, their type, their order, and the offset to take off."""

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
        kinds = dict.fromkeys(tensor.kind.name for tensor in stored.values())
        blocks = [kind for kind in kinds if kind not in _PLAIN]
        self.notes = (f"GGUF blocks of {', '.join(blocks)}, read as float32",) if blocks else ()

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
        tensors = repr([(s.name, s.dtype, s.shape, self._stored[n].kind.name) for n, s in self.tensors.items()])
        digest = blake3((tensors + repr(sorted(self.config.items()))).encode()).hexdigest()
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
    model_family = family(key)
    if model_family is None:
        hint = f"known are {', '.join(known_families())}"
        raise CheckpointError(f"the GGUF architecture {shown(key)} is not known", where=str(path), hint=hint)
    if model_family.written_only:
        hint = "use the model's safetensors files"
        raise CheckpointError(
            f"GGUF files of {model_family.model_type} models are not read here", where=str(path), hint=hint
        )
    raw = np.memmap(path, np.uint8, "r")
    names = set(filter(None, (model_family.own_name(tensor.name) for tensor in header.tensors)))
    config = _config(model_family, header, names, _factors(header, raw, path), path)
    stored: dict[str, _Stored] = {}
    specs: dict[str, TensorSpec] = {}
    sizes: dict[int, int] = {}
    for tensor in header.tensors:
        if tensor.name == FACTORS:
            continue
        name = model_family.own_name(tensor.name)
        if name is None or name in specs:
            message = (
                f"the GGUF tensor {shown(tensor.name)} has no place in a {model_family.model_type} model as known here"
            )
            raise CheckpointError(message, where=str(path))
        shape = tuple(reversed(tensor.sizes))
        rows, kind = _rows(raw, tensor, path)
        sizes[tensor.start] = rows.nbytes
        stored[name] = _stored(rows, kind, name, model_family, config, shape, path)
        specs[name] = TensorSpec(name, kind.name if kind.name in _PLAIN else "F32", shape, path, 0)
    if not specs:
        raise CheckpointError("holds no tensor", where=str(path))
    if len(sizes) < len(specs) or _overlap(sizes):
        raise CheckpointError("tensors overlap", where=str(path))
    return GgufCheckpoint(path, stored, specs, config)


def _overlap(nbytes: Mapping[int, int]) -> bool:
    """Say whether tensors, given by their starts and numbers of bytes, overlap."""
    starts = sorted(nbytes)
    return any(start + nbytes[start] > following for start, following in pairwise(starts))


def _factors(header: GgufHeader, raw: np.ndarray, path: Path) -> np.ndarray | None:
    """Return the numbers that divide the frequencies of positions; None if there are none."""
    for tensor in header.tensors:
        if tensor.name == FACTORS:
            rows, kind = _rows(raw, tensor, path)
            return _numbers(rows, kind).reshape(-1).astype(np.float32)
    return None


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
    if kind.name not in _PLAIN and not _has_numbers(kind):
        hint = "use a file of another type, or the model's safetensors files"
        raise CheckpointError(f"the package gguf does not read the type {kind.name}", where=where, hint=hint)
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


@cache
def _has_numbers(kind: Any) -> bool:
    """Say whether the package can tell which numbers the codes of a type stand for."""
    import gguf

    _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.dequantize(np.zeros((1, block_bytes), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _stored(
    rows: np.ndarray, kind: Any, name: str, known: Family, config: Mapping[str, Any], shape: tuple[int, ...], path: Path
) -> _Stored:
    order = None
    head_key = _head_key(name) if known.rotated_rows else None
    if head_key is not None:
        heads: Any = config.get(head_key)
        is_number = type(heads) is int and heads > 0
        if not is_number or shape[0] % (2 * heads):
            raise CheckpointError(f"'{name}' of {shape[0]} rows does not fit {heads} heads", where=str(path))
        order = np.argsort(paired_rows(shape[0], heads))
        if len(shape) == 1:
            return _Stored(rows.reshape(shape[0], -1)[order].reshape(1, -1), kind, None, 0)
    offset = known.norm_offset if name.endswith("norm.weight") else 0
    return _Stored(rows, kind, order, offset)


def _head_key(name: str) -> str | None:
    """Return the key of the config that counts the heads of a projection whose rows are rotated; None for others."""
    if ".q_proj." in name:
        return "num_attention_heads"
    return "num_key_value_heads" if ".k_proj." in name else None


def _numbers(rows: np.ndarray, kind: Any) -> np.ndarray:
    """Return rows of stored bytes as numbers."""
    import gguf

    if kind.name in _PLAIN:
        return np.ascontiguousarray(rows).view(NUMPY[kind.name])
    return np.asarray(gguf.dequantize(np.ascontiguousarray(rows), kind), np.float32)


def _config(
    known: Family, header: GgufHeader, names: Collection[str], factors: np.ndarray | None, path: Path
) -> dict[str, Any]:
    """Return the config that transformers needs. Raises CheckpointError for settings that it could not say."""
    fields = header.settings
    prefix = f"{fields['general.architecture']}."
    own, arrays = _without_prefix(fields, prefix), _without_prefix(header.arrays, prefix)
    config: dict[str, Any] = {"architectures": [known.architecture], "model_type": known.model_type, "dtype": "float32"}
    for gguf, ours in known.config.items():
        if own.get(gguf) is not None:
            config[ours] = own[gguf]
    config.setdefault("num_key_value_heads", config.get("num_attention_heads"))
    config |= known.constants
    if "head_dim" not in config and config.get("num_attention_heads"):
        config["head_dim"] = config.get("hidden_size", 0) // config["num_attention_heads"]
    _check_settings(known, own, [*header.lengths], prefix, config, path)
    config["rope_parameters"] = rotation_from_gguf(own, factors, known, config.get("head_dim", 0), str(path))
    config |= windows_from_gguf({**own, **arrays}, known, config)
    config |= _switches(known, names, config, path)
    tokens = header.lengths.get("tokenizer.ggml.tokens")
    if tokens is not None:
        config["vocab_size"] = tokens
    for gguf, ours in _SPECIAL.items():
        if f"tokenizer.ggml.{gguf}" in fields:
            config[ours] = fields[f"tokenizer.ggml.{gguf}"]
    return config | {"tie_word_embeddings": "lm_head.weight" not in names}


def _without_prefix(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the settings of an architecture, without its name before them."""
    return {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}


def _check_settings(
    known: Family, own: Mapping[str, Any], arrays: Sequence[str], prefix: str, config: Mapping[str, Any], path: Path
) -> None:
    """Raise CheckpointError for settings that are not known: a model without them would be another model."""
    understood = {*known.config, *UNDERSTOOD, *UNREAD}
    strange = [key for key in own if key not in understood]
    for key in arrays:
        if key.startswith(prefix) and not key.endswith(WINDOW_PATTERN):
            strange.append(key)
    if strange:
        message = f"the setting {shown(strange[0])} is not known for {known.model_type} models: it would be lost"
        raise CheckpointError(message, where=str(path))
    for key in ("attention.value_length", "rope.dimension_count"):
        if own.get(key, config.get("head_dim")) != config.get("head_dim"):
            message = f"'{key}' is {own[key]}, and a head has {config.get('head_dim')} numbers"
            raise CheckpointError(message, where=str(path))
    if own.get("attention.causal", True) is not True or own.get("expert_count", 0) != 0:
        raise CheckpointError(f"is no plain {known.model_type} model: its attention or experts differ", where=str(path))


def windows_from_gguf(own: Mapping[str, Any], known: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return transformers' words for windows and scales that llama.cpp takes by itself where the file is silent."""
    if known.window_period is None:
        return {}
    layers = int(config.get("num_hidden_layers", 0))
    has_window = own.get(WINDOW_PATTERN, known.window_period)
    if not isinstance(has_window, tuple):
        period = max(1, has_window)
        has_window = [bool((i + 1) % period) for i in range(layers)]
    width = config["head_dim"]
    if layers == known.largest:
        width = config["hidden_size"] // (config.get("num_attention_heads") or 1)
    words = {key: config.get(key, usual) for key, usual in known.unsaid.items()}
    words["layer_types"] = [WINDOW if window else FULL for window in has_window]
    words["query_pre_attn_scalar"] = width
    return words


def _switches(known: Family, names: Collection[str], config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the config's switches that bring the biases of the file. Raises CheckpointError if some are missing."""
    biases = set(filter(_is_bias, names))
    switches: dict[str, Any] = {}
    for name in sorted(biases):
        switch = known.switch_of(name)
        if switch is not None and switch != ALWAYS:
            switches[switch] = True
    if "num_hidden_layers" not in config:
        return switches
    expected = set(filter(_is_bias, known.expected_names({**config, **switches})))
    if biases != expected:
        name = min(biases ^ expected)
        message = f"some layers have biases, but '{name}' has none: {known.model_type} models have all or none"
        raise CheckpointError(message, where=str(path))
    return switches


def _is_bias(name: str) -> bool:
    return name.endswith(".bias")
