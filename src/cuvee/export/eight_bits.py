"""A model whose matrices are eight-bit floats with a scale for each block of 128 × 128, as DeepSeek-V3 stores its own.

    scale = largest magnitude of the block / 448,  code = weight / scale, rounded to the nearest float8_e4m3fn

(DeepSeek-V3, arXiv 2412.19437, section 3.3.2; 448 is the largest such float.) A reader gets code × scale. The numbers
are the same in both forms, and only names and the config differ: that which transformers, vLLM and SGLang read for
DeepSeek, and that of compressed-tensors. What is no matrix of a layer stays as it is, and so do routers, and matrices
that are not whole blocks: transformers infers the size of a block from the scales.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.companions import copy_companions
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out
from cuvee.errors import CheckpointError
from cuvee.foreign import open_files, readable
from cuvee.progress import Progress, Silent
from cuvee.structure import infer

BLOCK = 128
LARGEST = 448.0
PIECE_ELEMENTS = 1 << 22

Form = Literal["deepseek", "compressed-tensors"]
_SCALE: dict[Form, str] = {"deepseek": "_scale_inv", "compressed-tensors": "_scale"}
"""What is added to the name of a matrix for its scales. DeepSeek's multiply, in spite of the name."""

_WEIGHT = ".weight"


class Codes(NamedTuple):
    """Eight-bit floats of rows, and the scale of each block, [rows / 128, columns / 128], float32."""

    numbers: np.ndarray
    scales: np.ndarray

    def decoded(self) -> np.ndarray:
        """Return the numbers that they stand for, float32."""
        scales = self.scales.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
        numbers: np.ndarray = self.numbers.astype(np.float32) * scales
        return numbers


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
    names = _fitting(source)
    if not names:
        message = f"no layer has a matrix of whole blocks of {BLOCK} × {BLOCK}"
        raise CheckpointError(message, where=str(place), hint="merge with dtype: bfloat16 instead")
    tensors = list(_outputs(source, names, form))
    config = {**source.config, "quantization_config": _settings(source, names, form)}
    shown = progress or Silent()
    losses: dict[str, tuple[float, float]] = {}
    with CheckpointWriter(out, lay_out(tensors, 5 * 10**9)) as writer:
        shown.start("export", len(source.tensors), "tensors")
        try:
            for spec in source.tensors.values():
                if spec.name in names:
                    losses[spec.name] = _write_codes(source, spec, writer, _SCALE[form])
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


def codes_of(rows: np.ndarray) -> Codes:
    """Return the codes of whole blocks of rows. A block of zeros has the scale 1."""
    down, across = rows.shape[0] // BLOCK, rows.shape[1] // BLOCK
    blocks = rows.astype(np.float32).reshape(down, BLOCK, across, BLOCK)
    largest = np.abs(blocks).max(axis=(1, 3))
    scales = np.where(largest == 0, 1, np.maximum(largest / np.float32(LARGEST), np.finfo(np.float32).tiny))
    scaled = (blocks / scales[:, None, :, None]).clip(-LARGEST, LARGEST)  # rounding of the scale may reach over
    return Codes(scaled.reshape(rows.shape).astype(NUMPY["F8_E4M3"]), scales.astype(np.float32))


def _fitting(source: TensorSource) -> set[str]:
    """Return the matrices of layers that consist of whole blocks."""
    fitting = set()
    for place in infer(source):
        shape = source.tensors[place.name].shape
        is_matrix = len(shape) == 2 and place.role == "linear" and place.layer is not None and not place.input_first
        if is_matrix and place.name.endswith(_WEIGHT) and not any(size % BLOCK for size in shape):
            fitting.add(place.name)
    return fitting


def _outputs(source: TensorSource, coded: set[str], form: Form) -> Iterator[OutputTensor]:
    for name, spec in source.tensors.items():
        if name not in coded:
            yield OutputTensor(name, spec.dtype, spec.shape)
            continue
        rows, columns = spec.shape
        yield OutputTensor(name, "F8_E4M3", spec.shape)
        yield OutputTensor(name + _SCALE[form], "F32", (rows // BLOCK, columns // BLOCK))


def _settings(source: TensorSource, coded: set[str], form: Form) -> Mapping[str, Any]:
    """Return the `quantization_config`, which names the modules of two-dimensional weights that stay as they are."""
    left = [name.removesuffix(_WEIGHT) for name in _matrices(source) if name not in coded]
    left += [] if "lm_head" in left else ["lm_head"]  # one that is tied to the embedding stands in no file
    if form == "deepseek":
        return {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [BLOCK, BLOCK],
            "modules_to_not_convert": left,
        }
    eight = {"num_bits": 8, "type": "float", "symmetric": True}
    weights = {**eight, "strategy": "block", "block_structure": [BLOCK, BLOCK], "dynamic": False}
    activations = {**eight, "strategy": "group", "group_size": BLOCK, "dynamic": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {**group, "format": "float-quantized"}},
        "ignore": left,
    }


def _matrices(source: TensorSource) -> Sequence[str]:
    return [name for name, spec in source.tensors.items() if len(spec.shape) == 2 and name.endswith(_WEIGHT)]


def _write_codes(source: TensorSource, spec: TensorSpec, writer: CheckpointWriter, ending: str) -> tuple[float, float]:
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
        writer.write(spec.name + ending, start, codes.scales.reshape(-1))
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
