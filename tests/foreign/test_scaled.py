"""Codes with scales are read as the numbers that they stand for: against formulas written out over whole matrices."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import MemoryCheckpoint, TensorSource, open_checkpoint
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.errors import CheckpointError
from cuvee.foreign import readable
from cuvee.recipe.reference import parse_reference

FP8 = {"quant_method": "fp8", "weight_block_size": [4, 3]}
NORM = {"model.norm.weight": np.ones(4, ml_dtypes.bfloat16)}
NAME = "model.layers.0.mlp.up_proj.weight"
generator = np.random.default_rng(0)


def packed(bits: int, size: int, symmetric: bool = True) -> dict[str, Any]:
    weights = {"num_bits": bits, "group_size": size, "symmetric": symmetric, "type": "int"}
    return compressed("pack-quantized", weights)


def compressed(format_: str, weights: dict[str, Any] | None = None) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": weights or {}}}
    return {"quant_method": "compressed-tensors", "format": format_, "config_groups": groups}


def codes(shape: tuple[int, ...]) -> np.ndarray:
    raw = generator.integers(0, 256, shape).astype(np.uint8)
    raw[(raw & 0x7F) == 0x7F] = 0  # not NaN
    return raw.view(ml_dtypes.float8_e4m3fn)


def scales(*shape: int) -> np.ndarray:
    return generator.uniform(0.5, 2, shape).astype(np.float32)


def opened(tensors: dict[str, np.ndarray], said: dict[str, Any]) -> TensorSource:
    config = {"quantization_config": said, "torch_dtype": "bfloat16"}
    return readable(MemoryCheckpoint(NORM | tensors, config), "m")


def numbers(source: TensorSource, name: str = NAME, step: int = 7) -> np.ndarray:
    """Read a tensor in pieces that end anywhere."""
    spec = source.tensors[name]
    out = np.empty(spec.elements, NUMPY[spec.dtype])
    for start in range(0, spec.elements, step):
        source.read_into(name, out.itemsize * start, [out[start : start + step]])
    return out.reshape(spec.shape)


def spread(grid: np.ndarray, rows: int, columns: int, shape: tuple[int, int]) -> np.ndarray:
    return np.kron(grid, np.ones((rows, columns), np.float32))[: shape[0], : shape[1]]


@pytest.mark.parametrize("shape", [(8, 6), (9, 7), (1, 1)])
def test_fp8_in_blocks_is_code_times_scale_of_its_block(shape):
    weight, scale = codes(shape), scales(-(-shape[0] // 4), -(-shape[1] // 3))
    source = opened({NAME: weight, f"{NAME}_scale_inv": scale}, FP8)
    assert set(source.tensors) == {NAME, *NORM}
    assert np.array_equal(numbers(source), weight.astype(np.float32) * spread(scale, 4, 3, shape))
    assert "quantization_config" not in source.config


def test_blocks_of_stacked_experts_stay_with_their_expert():
    weight, scale = codes((3, 8, 6)), scales(3, 2, 2)
    source = opened({NAME: weight, f"{NAME}_scale_inv": scale}, FP8)
    expected = [w.astype(np.float32) * spread(s, 4, 3, (8, 6)) for w, s in zip(weight, scale, strict=True)]
    assert np.array_equal(numbers(source), np.stack(expected))


@pytest.mark.parametrize("shape", [(1,), (), (1, 1), (8, 1), (8,)])
def test_fp8_of_a_tensor_or_of_rows(shape):
    weight, scale = codes((8, 6)), scales(*shape)
    source = opened({NAME: weight, f"{NAME}_scale": scale}, compressed("float-quantized"))
    rows = scale.reshape(-1, 1) if scale.size > 1 else scale.reshape(1, 1)
    assert np.array_equal(numbers(source), weight.astype(np.float32) * rows)


@pytest.mark.parametrize("zero", [False, True])
def test_int8_of_rows_with_and_without_zero_points(zero):
    weight, scale = generator.integers(-128, 128, (8, 6)).astype(np.int8), scales(8, 1)
    points = generator.integers(-9, 9, (8, 1)).astype(np.int8)
    given = {NAME: weight, f"{NAME}_scale": scale} | ({f"{NAME}_zero_point": points} if zero else {})
    expected = (weight.astype(np.float32) - (points if zero else 0)) * scale
    assert np.array_equal(numbers(opened(given, compressed("int-quantized"))), expected)


def groups(*groups: tuple[str, list[int]]) -> dict[str, Any]:
    """Say which blocks of fp8 the modules of a target have."""
    said = {
        str(number): {"targets": [target], "weights": {"num_bits": 8, "type": "float", "block_structure": block}}
        for number, (target, block) in enumerate(groups)
    }
    return {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": said}


def read_in_blocks(said: dict[str, Any], name: str, block: tuple[int, int]) -> bool:
    """Say whether a matrix of 10 × 10 with 2 × 2 scales is read in blocks of that size."""
    weight, scale = codes((10, 10)), scales(2, 2)
    found = numbers(opened({name: weight, f"{name}_scale": scale}, said), name)
    return np.array_equal(found, weight.astype(np.float32) * spread(scale, *block, (10, 10)))


def test_of_several_patterns_the_first_in_the_alphabet_counts_as_in_compressed_tensors():
    said = groups(("re:.*up_proj", [6, 6]), ("re:.*mlp.*", [7, 7]), ("Linear", [8, 8]))
    assert read_in_blocks(said, NAME, (7, 7))


def test_a_class_is_known_from_a_module_without_a_dot_in_its_name():
    said = groups(("lm_head", [6, 6]), ("Linear", [7, 7]), ("Embedding", [8, 8]))
    assert read_in_blocks(said, "lm_head.weight", (6, 6))
    assert read_in_blocks(said, NAME, (7, 7))
    assert read_in_blocks(said, "model.embed_tokens.weight", (8, 8))


def test_zero_points_of_a_cache_are_left_out():
    attention = "model.layers.0.self_attn"
    cache = {f"{attention}.{name}_zero_point": np.ones(1, np.int8) for name in "qkv"}
    source = opened({NAME: codes((8, 6)), f"{NAME}_scale": scales(8, 1), **cache}, compressed("float-quantized"))
    assert set(source.tensors) == {NAME, *NORM}


@pytest.mark.parametrize("place", ["text_config", "llm_config"])
def test_settings_within_the_config_of_the_language_part_count_and_do_not_stay(place):
    stored = NORM | {NAME: codes((8, 6)), f"{NAME}_scale_inv": scales(2, 2)}
    inner = {"dtype": "float16", "quantization_config": FP8}
    for outer in ({}, {"quantization_config": FP8}):
        source = readable(MemoryCheckpoint(stored, {place: inner, **outer}), "m")
        assert source.config == {place: {"dtype": "float16"}}
    with pytest.raises(CheckpointError, match="two different 'quantization_config'"):
        readable(MemoryCheckpoint(stored, {place: inner, "quantization_config": compressed("x")}), "m")


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Pack signed codes along rows into 32-bit words, lowest bits first, half their range added."""
    per_word = 32 // bits
    words = np.zeros((values.shape[0], -(-values.shape[1] // per_word)), np.uint32)
    for column in range(values.shape[1]):
        shifted = (values[:, column] + (1 << (bits - 1))).astype(np.uint32) << np.uint32(bits * (column % per_word))
        words[:, column // per_word] |= shifted
    return words.view(np.int32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", [False, True])
def test_packed_codes_of_groups(bits, zero):
    half = 1 << (bits - 1)
    values, scale = generator.integers(-half, half, (6, 32)), scales(6, 4).astype(ml_dtypes.bfloat16)
    points = generator.integers(-half, half, (6, 4))
    given = {
        f"{NAME}_packed": pack(values, bits), f"{NAME}_scale": scale, f"{NAME}_shape": np.array([6, 32], np.int64),
    }  # fmt: skip
    if zero:
        given[f"{NAME}_zero_point"] = np.ascontiguousarray(pack(points.T, bits).T)
    source = opened(given, packed(bits, 8, not zero))
    centred = values - np.repeat(points, 8, axis=1) if zero else values
    expected = centred.astype(np.float32) * np.repeat(scale.astype(np.float32), 8, axis=1)
    assert source.tensors[NAME].dtype == "BF16"  # as the scales are
    assert np.array_equal(numbers(source), expected.astype(ml_dtypes.bfloat16))
    assert set(source.tensors) == {NAME, *NORM}


def test_a_packed_shape_that_disagrees_is_refused_when_it_is_read():
    given = {
        f"{NAME}_packed": pack(np.zeros((6, 32), int), 4), f"{NAME}_scale": scales(6, 4),
        f"{NAME}_shape": np.array([6, 30], np.int64),
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="_shape' says"):
        numbers(opened(given, packed(4, 8)))


@pytest.mark.parametrize(
    ("tensors", "said", "complaint"),
    [
        ({NAME: codes((8, 6))}, FP8, "codes without a scale"),
        ({NAME: codes((8, 6)), f"{NAME}_scale_inv": scales(3, 2)}, FP8, "does not fit a weight of shape"),
        ({NAME: codes((8, 6)), f"{NAME}_scale_inv": scales(2, 2).astype(np.int32)}, FP8, "expected scales of a type"),
        ({NAME: np.ones((8, 6), np.int8), f"{NAME}_scale_inv": scales(2, 2)}, FP8, "no tensor holds codes"),
        ({NAME: np.ones((8, 6), np.float32)}, FP8, "no tensor holds codes"),
        (
            {NAME: codes((8, 6)), f"{NAME}_scale_inv": scales(2, 2), "x.weight": np.ones(3, np.int8)},
            FP8,
            "nothing says what its codes mean",
        ),
        (
            {f"{NAME}_packed": pack(np.zeros((6, 30), int), 4), f"{NAME}_scale": scales(6, 4)},
            packed(9, 8),
            "does not hold codes of 2 to 8 bits",
        ),
        (
            {
                f"{NAME}_packed": pack(np.zeros((6, 32), int), 4),
                f"{NAME}_scale": scales(6, 4),
                f"{NAME}_g_idx": scales(4),
            },
            packed(4, 8),
            "nothing says what its codes mean",
        ),
    ],
)
def test_codes_that_are_not_defined_are_refused(tensors, said, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        opened(tensors, said)


def test_a_merge_of_fp8_and_plain_models_is_their_average_in_the_configs_type(tmp_path: Path):
    weight, scale = codes((8, 6)), scales(2, 2)
    coded = {NAME: weight, f"{NAME}_scale_inv": scale, "model.layers.0.mlp.up_proj.input_scale": scales(1)}
    plain = generator.standard_normal((8, 6)).astype(ml_dtypes.bfloat16)
    config = {"torch_dtype": "bfloat16"}
    models = {
        parse_reference("a"): MemoryCheckpoint(NORM | coded, config | {"quantization_config": FP8}),
        parse_reference("b"): MemoryCheckpoint(NORM | {NAME: plain}, config),
    }
    text = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
    plan = cuvee.make_plan(cuvee.recipe_from_text(text), models=models)
    assert "a: 1 tensors are fp8 codes and scales" in plan.notes[0]
    assert "1 scales of activations are left out" in plan.notes[0]
    cuvee.run_plan(plan, tmp_path / "out")
    result = open_checkpoint(tmp_path / "out")
    exact = weight.astype(np.float32) * spread(scale, 4, 3, (8, 6))
    expected = ((exact + plain.astype(np.float32)) / 2).astype(ml_dtypes.bfloat16)
    assert np.array_equal(result.read(NAME), expected)
    assert "quantization_config" not in result.config
