"""A model in a folder, written anew with eight-bit matrices; `plan.eight_bits` says in what forms."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.companions import copy_companions
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out
from cuvee.errors import CheckpointError
from cuvee.foreign import open_files, readable
from cuvee.plan.eight_bits import BLOCK, Form, Headers, codes_of, fitting, outputs, quantization_config, scale_names
from cuvee.progress import Progress, Silent

PIECE_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class EightBits:
    """A folder that was written: how many matrices have codes, and what they lost.

    `loss` is the norm of all changes of those matrices over their norm, `largest_loss` that of the one in `worst`.
    """

    folder: Path
    form: Form
    matrices: int
    left: int
    loss: float
    largest_loss: float
    worst: str


def export_fp8(place: Path, out: Path, form: Form = "deepseek", *, progress: Progress | None = None) -> EightBits:
    """Write the model in a folder with eight-bit matrices. The new folder appears complete or not at all.

    Raises CheckpointError for a model without a matrix that fits or with a number that is not finite, RecipeError if
    the folder is there.
    """
    source = readable(open_files(place), str(place))
    names = fitting(Headers(source.tensors, source.config))
    if not names:
        message = f"no layer has a matrix of whole blocks of {BLOCK} × {BLOCK}"
        raise CheckpointError(message, where=str(place), hint="merge with dtype: bfloat16 instead")
    coded = scale_names(names, form)
    plain = [OutputTensor(spec.name, spec.dtype, spec.shape) for spec in source.tensors.values()]
    tensors = list(outputs(plain, coded))
    config = {**source.config, "quantization_config": quantization_config(source.tensors, names, form)}
    shown = progress or Silent()
    losses: dict[str, tuple[float, float]] = {}
    with CheckpointWriter(out, lay_out(tensors, 5 * 10**9)) as writer:
        shown.start("export", len(source.tensors), "tensors")
        try:
            for spec in source.tensors.values():
                if spec.name in coded:
                    losses[spec.name] = _write_codes(source, spec, writer, coded[spec.name])
                else:
                    _copy(source, spec, writer)
                shown.advance(1)
        finally:
            shown.finish()
        copy_companions(place, writer.folder, source.files())
        writer.write_file("config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        writer.finish()
    lost, norm = np.array(list(losses.values())).T
    shares = np.sqrt(lost / np.maximum(norm, np.finfo(float).tiny))
    worst = int(shares.argmax())
    whole = float(np.sqrt(lost.sum() / max(norm.sum(), np.finfo(float).tiny)))
    left = len(tensors) - 2 * len(names)
    return EightBits(out, form, len(names), left, whole, float(shares[worst]), [*losses][worst])


def _write_codes(source: TensorSource, spec: TensorSpec, writer: CheckpointWriter, scales: str) -> tuple[float, float]:
    """Write the codes and scales of a matrix, some rows at a time; return the squared norms of what it lost and had."""
    rows, columns = spec.shape
    at_once = max(1, PIECE_ELEMENTS // (columns * BLOCK)) * BLOCK
    lost = norm = 0.0
    for first in range(0, rows, at_once):
        last = min(first + at_once, rows)
        raw = np.empty((last - first) * columns, NUMPY[spec.dtype])
        source.read_into(spec.name, first * columns * raw.itemsize, [raw])
        numbers = raw.astype(np.float32).reshape(-1, columns)
        if not np.isfinite(numbers).all():
            raise CheckpointError("a number is not finite", where=spec.name)
        codes = codes_of(numbers)
        writer.write(spec.name, first * columns, codes.numbers.reshape(-1))
        start = (first // BLOCK) * (columns // BLOCK) * codes.scales.itemsize
        writer.write(scales, start, codes.scales.reshape(-1))
        wide = numbers.astype(np.float64)
        lost += float(((codes.decoded() - wide) ** 2).sum())
        norm += float((wide**2).sum())
    return lost, norm


def _copy(source: TensorSource, spec: TensorSpec, writer: CheckpointWriter) -> None:
    itemsize = NUMPY[spec.dtype].itemsize
    entries = OutputTensor(spec.name, spec.dtype, spec.shape).elements
    for first in range(0, entries, PIECE_ELEMENTS):
        raw = np.empty(min(PIECE_ELEMENTS, entries - first), NUMPY[spec.dtype])
        source.read_into(spec.name, first * itemsize, [raw])
        writer.write(spec.name, first * itemsize, raw)
