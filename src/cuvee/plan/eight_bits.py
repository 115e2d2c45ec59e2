"""Matrices as eight-bit floats with a scale for each block of 128 × 128, as DeepSeek-V3 stores its own.

    scale = largest magnitude of the block / 448,  code = weight / scale, rounded to the nearest float8_e4m3fn

(DeepSeek-V3, arXiv 2412.19437, section 3.3.2; 448 is the largest such float.) A reader gets code × scale. The numbers
are the same in both forms, and only names and the config differ: that which transformers, vLLM and SGLang read for
DeepSeek, and that of compressed-tensors. What is no matrix of a layer stays as it is, and so do routers, and matrices
that are not whole blocks: transformers infers the size of a block from the scales.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from cuvee.checkpoint import TensorSpec
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.write import OutputTensor
from cuvee.errors import RecipeError
from cuvee.plan.plan import MergeStep, Plan
from cuvee.recipe.recipe import Recipe
from cuvee.structure import TensorPlace, infer

BLOCK = 128
LARGEST = 448.0

Form = Literal["deepseek", "compressed-tensors"]
FORMS: Mapping[str, Form] = {"fp8": "deepseek", "fp8-compressed-tensors": "compressed-tensors"}
"""The form that a recipe's `out_dtype` asks for."""

SCALE: dict[Form, str] = {"deepseek": "_scale_inv", "compressed-tensors": "_scale"}
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


class Headers(NamedTuple):
    """The names and shapes of a model's tensors, and its config."""

    tensors: Mapping[str, TensorSpec]
    config: dict[str, Any]


def codes_of(rows: np.ndarray) -> Codes:
    """Return the codes of whole blocks of rows. A block of zeros has the scale 1."""
    down, across = rows.shape[0] // BLOCK, rows.shape[1] // BLOCK
    blocks = rows.astype(np.float32).reshape(down, BLOCK, across, BLOCK)
    largest = np.abs(blocks).max(axis=(1, 3))
    scales = np.where(largest == 0, 1, np.maximum(largest / np.float32(LARGEST), np.finfo(np.float32).tiny))
    scaled = (blocks / scales[:, None, :, None]).clip(-LARGEST, LARGEST)  # rounding of the scale may reach over
    return Codes(scaled.reshape(rows.shape).astype(NUMPY["F8_E4M3"]), scales.astype(np.float32))


def fitting(model: Headers) -> set[str]:
    """Return the matrices of layers that consist of whole blocks."""
    fitting = set()
    for place in infer(model):
        shape = model.tensors[place.name].shape
        has_blocks = len(shape) == 2 and not any(size % BLOCK for size in shape)
        if has_blocks and _is_linear_of_layer(place):
            fitting.add(place.name)
    return fitting


def _is_linear_of_layer(place: TensorPlace) -> bool:
    """Say whether a tensor is the weight of a linear map of a layer, stored as [out, in]."""
    if place.role != "linear" or place.layer is None:
        return False
    return place.name.endswith(_WEIGHT) and not place.input_first


def scale_names(names: Iterable[str], form: Form) -> dict[str, str]:
    """Return, for each matrix that is coded, the name of its scales."""
    return {name: name + SCALE[form] for name in sorted(names)}


def outputs(tensors: Iterable[OutputTensor], coded: Mapping[str, str]) -> Iterator[OutputTensor]:
    """Give the tensors that are written: codes and scales for those that are coded, the others as they are."""
    for tensor in tensors:
        if tensor.name not in coded:
            yield tensor
            continue
        rows, columns = tensor.shape
        yield OutputTensor(tensor.name, "F8_E4M3", tensor.shape)
        yield OutputTensor(coded[tensor.name], "F32", (rows // BLOCK, columns // BLOCK))


def quantization_config(tensors: Mapping[str, Any], coded: Collection[str], form: Form) -> dict[str, Any]:
    """Return the `quantization_config`, which names the modules of two-dimensional weights that stay as they are.

    `tensors` have shapes.
    """
    left = [name.removesuffix(_WEIGHT) for name in _matrices(tensors) if name not in coded]
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


def _matrices(tensors: Mapping[str, Any]) -> list[str]:
    weights = [name for name in tensors if name.endswith(_WEIGHT)]
    return [name for name in weights if len(tensors[name].shape) == 2]


def coded_names(steps: Sequence[MergeStep], config: dict[str, Any], recipe: Recipe) -> set[str]:
    """Return the matrices that a recipe's `out_dtype` codes. Raises RecipeError if there are none, or no config."""
    asked = f"'out_dtype: {recipe.out_dtype}'"
    tensors = {step.name: TensorSpec(step.name, step.dtype, step.shape, Path("planned"), 0) for step in steps}
    numbers = {step.name for step in steps if step.action != "copy"}
    coded = fitting(Headers(tensors, config)) & numbers
    if not config:
        raise RecipeError(f"{asked} needs a config.json, which says how matrices are coded", where=recipe.source)
    if not coded:
        message = f"{asked}: no layer has a matrix of whole blocks of {BLOCK} × {BLOCK}"
        raise RecipeError(message, where=recipe.source, hint="say bfloat16")
    return coded


def written_tensors(plan: Plan) -> list[OutputTensor]:
    """List the tensors that a plan writes, scales among them."""
    plain = [OutputTensor(step.name, step.dtype, step.shape) for step in plan.steps]
    return list(outputs(plain, plan.coded))


def with_room_for_bands(steps: Sequence[MergeStep], coded: Collection[str]) -> list[MergeStep]:
    """Count the memory of the rows that are coded at a time: as they come, in float32 twice, and in float64."""
    counted = []
    for step in steps:
        room = BLOCK * step.shape[-1] * 32 if step.name in coded else 0
        counted.append(replace(step, holds=step.holds + room))
    return counted
