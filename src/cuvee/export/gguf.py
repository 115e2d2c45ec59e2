"""A model as a GGUF file, for llama.cpp and programs that build on it. Matrices are written in pieces of rows.

Names and layouts are those of `foreign.gguf_names`, with which such files are read.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.write import write_error
from cuvee.errors import CheckpointError, MissingExtra, RecipeError
from cuvee.export.gguf_blocks import quantized
from cuvee.export.gguf_experts import GPT_OSS, SingleExperts
from cuvee.export.gguf_mixtures import FILE_TYPES, Kind
from cuvee.export.gguf_pooling import pooling_settings
from cuvee.export.gguf_settings import model_settings
from cuvee.export.gguf_tensors import GgufTensor, gguf_tensors, is_bare, read_numbers
from cuvee.export.gguf_tokenizer import tokenizer_files, tokenizer_settings
from cuvee.export.modelfile import modelfile
from cuvee.foreign import open_files, readable
from cuvee.foreign.gguf_names import Family, family_of, known_families
from cuvee.foreign.gguf_rotation import FACTORS
from cuvee.progress import Progress, Silent
from cuvee.structure.vocabulary import vocabulary_rows
from cuvee.yielding import result_of

PIECE_ELEMENTS = 1 << 22
"""Numbers of a matrix that are held at a time, but for those whose rows change places."""

LARGEST = {
    "F16": 1, "Q8_0": 127, "Q5_1": 1, "Q5_0": 16, "Q4_0": 8, "Q6_K": 31 * 128, "Q5_K": 63, "Q4_K": 63,
}  # fmt: skip
"""What the largest number of float16, which scales are, is multiplied by in each type."""

TELLING_NAMES = ("phi-3", "phi3", "modern-bert")
"""Names of models by which llama.cpp treats special tokens in another way (src/llama-vocab.cpp: model_name)."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, with notes for its reader."""

    file: Path
    kind: Kind
    tensors: int
    nbytes: int
    notes: tuple[str, ...]
    modelfile: Path | None = None


def export_gguf(
    place: Path,
    file: Path,
    kind: Kind = "q8_0",
    *,
    split: str | None = None,
    ollama: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write the model in a folder or file as GGUF. The file appears complete or not at all.

    `split` is llama.cpp's name of the way to cut texts into words, for a tokenizer whose own way has no name there.
    `ollama` writes a Modelfile beside it.
    Raises RecipeError if the file exists, CheckpointError for a model that llama.cpp would compute otherwise.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("gguf", missing="gguf") from error

    beside = file.with_name("Modelfile") if ollama else None
    for output in (file, beside):
        is_taken = output is not None and output.exists()
        if is_taken and not overwrite:
            raise RecipeError("the output exists already", where=str(output), hint="name another, or use --overwrite")
    source = readable(open_files(place), str(place))
    known = _family(source, place)
    if known.model_type == GPT_OSS:
        source = SingleExperts(source)
    model = model_settings(source.config, known, place)
    notes = [] if model.rotation.note is None else [model.rotation.note]
    heads = {
        "q_proj": model.settings[f"{known.key}.attention.head_count"],
        "k_proj": model.settings[f"{known.key}.attention.head_count_kv"],
    }
    tensors = result_of(gguf_tensors(source, known, kind, heads, place), notes.append)
    files = tokenizer_files(place)
    rows = vocabulary_rows(source.tensors, source.config) or 0
    settings = {
        **model.settings,
        f"{known.key}.vocab_size": rows,
        **result_of(pooling_settings(place, known, is_bare(source)), notes.append),
        "general.name": shown_name(place),
        "general.file_type": FILE_TYPES[kind],
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **result_of(tokenizer_settings(files, source.config, rows, split), notes.append),
    }
    about = None
    if beside is not None:
        about = result_of(modelfile(file, files, source.config), notes.append)
    factors = {} if model.rotation.factors is None else {FACTORS: model.rotation.factors}
    partial = file.with_name(f".{file.name}.partial")
    writer = gguf.GGUFWriter(partial, known.key)
    for key, value in settings.items():
        _add(writer, key, value)
    for name, numbers in factors.items():
        writer.add_tensor_info(name, numbers.shape, numbers.dtype, numbers.nbytes)
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.kind)
    try:
        _write(writer, source, factors, tensors, progress or Silent())
        os.replace(partial, file)
        if beside is not None and about is not None:
            beside.write_text(about, encoding="utf-8")
    except OSError as error:
        raise write_error(error, file) from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return Exported(file, kind, len(factors) + len(tensors), file.stat().st_size, tuple(notes), beside)


def _family(source: TensorSource, place: Path) -> Family:
    model_type = source.config.get("model_type")
    known = family_of(str(model_type))
    if known is None:
        hint = f"known are {', '.join(known_families())}; llama.cpp's own convert_hf_to_gguf.py knows more"
        message = f"models of the type {model_type!r} cannot be written as GGUF here"
        raise CheckpointError(message, where=str(place), hint=hint)
    return known


def shown_name(place: Path) -> str:
    """Return a model's name, changed where llama.cpp would read more out of it."""
    name = place.stem if place.is_file() else place.name
    telling = next((word for word in TELLING_NAMES if word in name.lower()), None)
    if telling is None:
        return name
    spaced = name.replace("-", " ")
    return spaced.replace("3", " 3") if "phi" in telling else spaced


def _write(
    writer: Any,
    source: TensorSource,
    factors: Mapping[str, np.ndarray],
    tensors: list[GgufTensor],
    progress: Progress,
) -> None:
    """Write header and tensors. The writer of `gguf` takes whole tensors only, so pieces go to its file."""
    progress.start("writing the GGUF file", sum(tensor.nbytes for tensor in tensors), "bytes")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    (file,) = writer.fout
    try:
        for numbers in factors.values():
            writer.write_padding(file, file.tell())
            file.write(numbers.tobytes())
        for tensor in tensors:
            writer.write_padding(file, file.tell())
            for piece in _pieces(source, tensor):
                file.write(piece.tobytes())
                progress.advance(piece.nbytes)
        writer.write_padding(file, file.tell())
    finally:
        file.close()
    progress.finish()


def _pieces(source: TensorSource, tensor: GgufTensor) -> Iterator[np.ndarray]:
    """Give a tensor's bytes, rows by rows, one part of a stack after the other."""
    for spec in tensor.specs:
        yield from _pieces_of(source, tensor, spec)


def _pieces_of(source: TensorSource, tensor: GgufTensor, spec: TensorSpec) -> Iterator[np.ndarray]:
    """Raises CheckpointError for numbers that the type cannot hold."""
    shape = spec.shape
    rows, width = (shape[0], shape[1]) if len(shape) == 2 else (1, spec.elements)
    step = rows if tensor.order is not None else max(1, PIECE_ELEMENTS // width)
    largest = float(np.finfo(np.float16).max) * LARGEST.get(tensor.kind.name, np.inf)
    for first in range(0, rows, step):
        piece = read_numbers(source, spec, first * width, min(step, rows - first) * width).reshape(-1, width)
        if tensor.order is not None:
            piece = piece.reshape(shape)[tensor.order].reshape(-1, width)
        if tensor.offset:
            piece = piece + np.float32(tensor.offset)
        if not np.isfinite(piece).all():
            raise CheckpointError(f"'{spec.name}' holds NaN or infinity")
        if np.abs(piece).max(initial=0) > largest:
            hint = "write it with --type f32"
            raise CheckpointError(f"'{spec.name}' holds numbers too large for {tensor.kind.name}", hint=hint)
        yield quantized(piece, tensor.kind.name)


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
