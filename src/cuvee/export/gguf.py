"""A model as one GGUF file, for llama.cpp and what builds on it. Matrices are written in pieces of rows.

Names and layouts are those of `foreign.gguf_names`, with which such files are read.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE, NUMPY
from cuvee.checkpoint.write import write_error
from cuvee.errors import CheckpointError, MissingExtra, RecipeError
from cuvee.export.gguf_settings import model_settings
from cuvee.export.gguf_tokenizer import tokenizer_settings
from cuvee.foreign import open_files, readable
from cuvee.foreign.gguf_names import Family, family_of, known_families, paired_rows
from cuvee.progress import Progress, Silent
from cuvee.structure.vocabulary import vocabulary_rows

Kind = Literal["f16", "q8_0"]
FILE_TYPES = {"f16": 1, "q8_0": 7}
"""What GGUF calls a file whose matrices are of a kind."""

PIECE_ELEMENTS = 1 << 22
"""Numbers of a matrix that are held at a time, but for those whose rows change places."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and what its reader should know."""

    file: Path
    kind: Kind
    tensors: int
    nbytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Written:
    """A tensor as it is written: its names, its type, and the order of its rows where they change places."""

    name: str
    spec: TensorSpec
    kind: Any
    nbytes: int
    order: np.ndarray | None
    offset: int


def export_gguf(
    place: Path, file: Path, kind: Kind = "q8_0", *, overwrite: bool = False, progress: Progress | None = None
) -> Exported:
    """Write the model in a folder or file as GGUF. The file appears complete or not at all.

    Raises RecipeError if it exists, CheckpointError for a model that has no form in GGUF as known here.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("gguf", missing="gguf") from error

    if file.exists() and not overwrite:
        raise RecipeError("the output exists already", where=str(file), hint="name another, or use --overwrite")
    source = readable(open_files(place), str(place))
    known = _family(source, place)
    notes: list[str] = []
    tensors = _laid_out(source, known, kind, place, notes)
    rows = vocabulary_rows(source.tensors, source.config)
    settings = {
        **model_settings(source.config, known, place),
        "general.name": place.stem if place.is_file() else place.name,
        "general.file_type": FILE_TYPES[kind],
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **tokenizer_settings(place, source.config, rows or 0, notes),
    }
    partial = file.with_name(f".{file.name}.partial")
    writer = gguf.GGUFWriter(partial, known.key)
    for key, value in settings.items():
        _add(writer, key, value)
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name, tensor.spec.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.kind
        )
    try:
        _write(writer, source, tensors, progress or Silent())
        os.replace(partial, file)
    except OSError as error:
        raise write_error(error, file) from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return Exported(file, kind, len(tensors), file.stat().st_size, tuple(notes))


def _family(source: TensorSource, place: Path) -> Family:
    model_type = source.config.get("model_type")
    known = family_of(str(model_type))
    if known is None:
        hint = f"known are {', '.join(known_families())}; llama.cpp's own convert_hf_to_gguf.py knows more"
        message = f"models of the type {model_type!r} cannot be written as GGUF here"
        raise CheckpointError(message, where=str(place), hint=hint)
    return known


def _laid_out(source: TensorSource, known: Family, kind: Kind, place: Path, notes: list[str]) -> list[_Written]:
    """Name every tensor as GGUF does and choose its type. Raises CheckpointError if one has no name there."""
    unknown = [
        name
        for name, spec in source.tensors.items()
        if known.gguf_name(name) is None or spec.dtype not in MERGEABLE or len(spec.shape) > 2
    ]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        message = f"'{unknown[0]}'{more} has no place in a GGUF file of the type '{known.key}': it would be lost"
        raise CheckpointError(message, where=str(place))
    narrow = [name for name, spec in source.tensors.items() if _kind(spec, kind) != _kind_wanted(spec, kind)]
    if narrow:
        notes.append(f"{len(narrow)} matrices have rows that are not whole blocks, and are written as F16: {narrow[0]}")
    return [_written(name, spec, known, source, kind, place) for name, spec in source.tensors.items()]


def _kind_wanted(spec: TensorSpec, kind: Kind) -> str:
    return kind.upper() if len(spec.shape) == 2 else "F32"


def _kind(spec: TensorSpec, kind: Kind) -> str:
    wanted = _kind_wanted(spec, kind)
    return "F16" if wanted == "Q8_0" and spec.shape[-1] % 32 else wanted


def _written(name: str, spec: TensorSpec, known: Family, source: TensorSource, kind: Kind, place: Path) -> _Written:
    import gguf

    chosen = gguf.GGMLQuantizationType[_kind(spec, kind)]
    block, block_bytes = gguf.GGML_QUANT_SIZES[chosen]
    order = None
    if known.rotated_rows and (".q_proj." in name or ".k_proj." in name):
        key = "num_attention_heads" if ".q_proj." in name else "num_key_value_heads"
        heads = source.config.get(key) or source.config.get("num_attention_heads")
        if type(heads) is not int or heads < 1 or spec.shape[0] % (2 * heads):
            raise CheckpointError(f"'{name}' of {spec.shape[0]} rows does not fit {heads} heads", where=str(place))
        order = paired_rows(spec.shape[0], heads)
    offset = known.norm_offset if name.endswith("norm.weight") else 0
    gguf_name = known.gguf_name(name)
    assert gguf_name is not None, "seen when the tensors were laid out"
    return _Written(gguf_name, spec, chosen, spec.elements // block * block_bytes, order, offset)


def _write(writer: Any, source: TensorSource, tensors: list[_Written], progress: Progress) -> None:
    """Write header and tensors. The writer of `gguf` takes whole tensors only, so pieces go to its file."""
    progress.start("writing the GGUF file", sum(tensor.nbytes for tensor in tensors), "bytes")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    (file,) = writer.fout
    try:
        for tensor in tensors:
            writer.write_padding(file, file.tell())
            for piece in _pieces(source, tensor):
                file.write(piece.tobytes())
                progress.advance(piece.nbytes)
        writer.write_padding(file, file.tell())
    finally:
        file.close()
    progress.finish()


def _pieces(source: TensorSource, tensor: _Written) -> Iterator[np.ndarray]:
    """Give a tensor's bytes, rows by rows."""
    import gguf

    shape = tensor.spec.shape
    rows, width = (shape[0], shape[1]) if len(shape) == 2 else (1, tensor.spec.elements)
    step = rows if tensor.order is not None else max(1, PIECE_ELEMENTS // width)
    for first in range(0, rows, step):
        piece = _read(source, tensor.spec, first * width, min(step, rows - first) * width).reshape(-1, width)
        if tensor.order is not None:
            piece = piece.reshape(shape)[tensor.order].reshape(-1, width)
        if tensor.offset:
            piece = piece + np.float32(tensor.offset)
        if not np.isfinite(piece).all():
            raise CheckpointError(f"'{tensor.spec.name}' holds NaN or infinity")
        yield gguf.quantize(piece, tensor.kind)


def _read(source: TensorSource, spec: TensorSpec, start: int, elements: int) -> np.ndarray:
    raw = np.empty(elements, NUMPY[spec.dtype])
    source.read_into(spec.name, start * raw.itemsize, [raw])
    return raw.astype(np.float32)


def _add(writer: Any, key: str, value: Any) -> None:
    """Add a setting in the type that llama.cpp expects."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
