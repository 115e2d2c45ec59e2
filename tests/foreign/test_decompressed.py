"""Codes are read as the very numbers that their own libraries decompress them to: bits, not tolerances."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors import safe_open

import cuvee
from cuvee.checkpoint import MemoryCheckpoint, TensorSource, open_checkpoint
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.errors import CheckpointError
from cuvee.foreign import readable
from cuvee.recipe.reference import parse_reference
from foreign.decompressed import GOLDEN, MODULE, SCHEMES, as_numpy, decompressed

NAME = f"{MODULE}.weight"
EXPERTS = "model.layers.0.mlp.experts"
NORM = {"model.norm.weight": np.ones(4, ml_dtypes.bfloat16)}
generator = np.random.default_rng(5)


def opened(tensors: dict[str, np.ndarray], said: dict[str, Any]) -> TensorSource:
    return readable(MemoryCheckpoint(NORM | tensors, {"quantization_config": said, "torch_dtype": "bfloat16"}), "m")


def numbers(source: TensorSource, name: str = NAME, step: int = 37) -> np.ndarray:
    """Read a tensor in pieces that end anywhere."""
    spec = source.tensors[name]
    out = np.empty(spec.elements, NUMPY[spec.dtype])
    for start in range(0, spec.elements, step):
        source.read_into(name, out.itemsize * start, [out[start : start + step]])
    return out.reshape(spec.shape)


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint8)


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert np.array_equal(bits(found), bits(expected))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_golden_codes_are_the_numbers_that_compressed_tensors_made_of_them(scheme: str):
    with safe_open(GOLDEN, "numpy") as file:
        config = json.loads(file.metadata()["configs"])[scheme]
    golden = open_checkpoint(GOLDEN)
    own = {name.partition("|")[2]: golden.read(name) for name in golden.tensors if name.startswith(f"{scheme}|")}
    expected = own.pop("numbers")
    assert_same_bits(numbers(opened(own, config)), expected)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_codes_are_the_numbers_that_the_installed_compressed_tensors_makes_of_them(scheme: str):
    pytest.importorskip("compressed_tensors")
    for seed, (rows, columns) in enumerate([(12, 96), (33, 160), (256, 64)]):
        codes = decompressed(scheme, rows, columns, 100 + seed)
        stored = {name: as_numpy(tensor) for name, tensor in codes.tensors.items()}
        assert_same_bits(numbers(opened(stored, codes.config)), as_numpy(codes.numbers))


def test_modules_of_several_groups_have_the_settings_that_the_library_picks_for_them():
    with safe_open(GOLDEN, "numpy") as file:
        configs = json.loads(file.metadata()["configs"])
    golden, own, expected = open_checkpoint(GOLDEN), {}, {}
    places = {"int4 in groups": "self_attn.q_proj", "int8 packed, by channel, with zero points": "mlp.down_proj"}
    for scheme, place in places.items():
        for name in golden.tensors:
            if name.startswith(f"{scheme}|"):
                own[name.removeprefix(f"{scheme}|").replace("mlp.up_proj", place)] = golden.read(name)
        expected[f"model.layers.0.{place}.weight"] = own.pop("numbers")
    groups = {key: configs[scheme]["config_groups"]["group_0"] for scheme, key in zip(places, "ab", strict=True)}
    groups["a"]["targets"], groups["b"]["targets"] = ["re:.*self_attn.*"], ["model.layers.0.mlp.down_proj"]
    said = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups}
    source = opened(own, said)
    for name, tensor in expected.items():
        assert_same_bits(numbers(source, name), tensor)
    groups["a"]["targets"] = groups["b"]["targets"] = ["Linear"]
    with pytest.raises(CheckpointError, match="several groups of its 'quantization_config' may be those of"):
        opened(own, said)


def blocks(experts: int, rows: int, columns: int) -> dict[str, np.ndarray]:
    """Make experts' matrices as GPT-OSS stores them."""
    tensors = {}
    for name, out, into in (("gate_up_proj", 2 * rows, columns), ("down_proj", columns, rows)):
        shape = (experts, out, into // 32, 16)
        tensors[f"{EXPERTS}.{name}_blocks"] = generator.integers(0, 256, shape).astype(np.uint8)
        tensors[f"{EXPERTS}.{name}_scales"] = generator.integers(110, 130, shape[:3]).astype(np.uint8)
        tensors[f"{EXPERTS}.{name}_bias"] = generator.standard_normal((experts, out)).astype(ml_dtypes.bfloat16)
    return tensors


def as_transformers_has_them(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    plain = {name: tensor for name, tensor in tensors.items() if name.endswith("_bias")}
    for name in tensors:
        if name.endswith("_blocks"):
            stem = name.removesuffix("_blocks")
            both = torch.from_numpy(tensors[name]), torch.from_numpy(tensors[f"{stem}_scales"])
            plain[stem] = as_numpy(convert_moe_packed_tensors(*both))
    return plain


def test_blocks_of_gpt_oss_are_the_numbers_that_transformers_makes_of_them():
    stored = blocks(3, 32, 96)
    ends = [0, 1, 254, 255] if torch.ldexp(torch.tensor(0.0), torch.tensor(128)) == 0 else [0, 1, 254]  # older: NaN
    stored[f"{EXPERTS}.down_proj_scales"][0, : len(ends), 0] = ends
    source = opened(stored, {"quant_method": "mxfp4"})
    expected = as_transformers_has_them(stored)
    assert set(source.tensors) == {*expected, *NORM}
    for name, tensor in expected.items():
        for step in (37, 5000):
            assert_same_bits(numbers(source, name, step), tensor)


def test_a_merge_of_mxfp4_models_is_the_merge_of_their_bfloat16_forms(tmp_path: Path):
    coded = [blocks(2, 32, 64) for _ in range(2)]
    plain = [as_transformers_has_them(tensors) for tensors in coded]
    config = {"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}
    text = "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.3}\n"
    merged = {}
    for kind, models, said in (("coded", coded, config), ("plain", plain, {"model_type": "gpt_oss"})):
        given = {
            parse_reference(name): MemoryCheckpoint(NORM | own, said) for name, own in zip("ab", models, strict=True)
        }
        cuvee.run_plan(cuvee.make_plan(cuvee.recipe_from_text(text), models=given), tmp_path / kind)
        merged[kind] = open_checkpoint(tmp_path / kind)
    assert merged["coded"].tensors.keys() == merged["plain"].tensors.keys()
    for name in merged["plain"].tensors:
        assert merged["plain"].tensors[name].dtype == "BF16"
        assert_same_bits(merged["coded"].read(name), merged["plain"].read(name))
    assert merged["coded"].config == merged["plain"].config == {"model_type": "gpt_oss", "dtype": "bfloat16"}


@pytest.mark.parametrize("exponents", [None, "U8", "F8_E8M0"])
def test_fp8_in_blocks_is_what_transformers_dequantises(exponents: str | None):
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    codes = np.arange(256, dtype=np.uint8).reshape(8, 32)
    codes[(codes & 0x7F) == 0x7F] = 0  # not NaN
    scale = generator.uniform(0.001, 2, (2, 4)).astype(np.float32)
    if exponents:
        scale = generator.integers(110, 130, (2, 4)).astype(np.uint8)
    tensor = torch.from_numpy(scale)
    if exponents == "F8_E8M0":
        if not hasattr(torch, "float8_e8m0fnu"):
            pytest.skip("torch has the type since 2.7")
        scale, tensor = scale.view(ml_dtypes.float8_e8m0fnu), tensor.view(torch.float8_e8m0fnu)
    expected = Fp8Dequantize(None)._dequantize_one(torch.from_numpy(codes).view(torch.float8_e4m3fn), tensor)
    stored = {NAME: codes.view(ml_dtypes.float8_e4m3fn), f"{NAME}_scale_inv": scale}
    found = numbers(opened(stored, {"quant_method": "fp8", "weight_block_size": [4, 8]}))
    assert_same_bits(found, as_numpy(expected))


@pytest.mark.parametrize("shape", [(), (1,), (8, 1)])
@pytest.mark.parametrize("method", ["modelopt", "fbgemm_fp8"])
def test_fp8_of_modelopt_and_fbgemm_is_multiplied_in_float32(method: str, shape: tuple[int, ...]):
    codes = np.arange(0, 64, dtype=np.uint8).reshape(8, 8).view(ml_dtypes.float8_e4m3fn)
    scale = generator.uniform(0.001, 2, shape).astype(ml_dtypes.bfloat16 if method == "fbgemm_fp8" else np.float32)
    said = {"quant_method": method} | ({"quant_algo": "FP8"} if method == "modelopt" else {})
    found = numbers(opened({NAME: codes, f"{NAME}_scale": scale, f"{MODULE}.input_scale": scale}, said))
    assert_same_bits(found, codes.astype(np.float32) * scale.astype(np.float32))


def test_nvfp4_of_modelopt_multiplies_by_the_scale_of_the_tensor():
    pairs = np.arange(256, dtype=np.uint8).reshape(8, 32)
    scale = generator.uniform(0.5, 300, (8, 4)).astype(ml_dtypes.float8_e4m3fn)
    whole = np.float32(0.0173)
    stored = {NAME: pairs, f"{NAME}_scale": scale, f"{NAME}_scale_2": np.array(whole)}
    e2m1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
    codes = e2m1[np.stack((pairs & 15, pairs >> 4), axis=-1)].reshape(8, 64)
    expected = codes * np.repeat(scale.astype(np.float32) * whole, 16, axis=1)
    assert_same_bits(numbers(opened(stored, {"quant_method": "modelopt", "quant_algo": "NVFP4"})), expected)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, "ModelOpt"),
        ({"quant_method": "compressed-tensors", "format": "marlin-24"}, "compressed-tensors"),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "float-quantized",
                "sparsity_config": {"format": "sparse-24-bitmask"},
            },
            "compressed-tensors",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "transform_config": {"config_groups": {"R1": {"type": "hadamard"}}},
            },
            "compressed-tensors",
        ),
    ],
)
def test_forms_of_a_scheme_that_are_more_than_codes_and_scales_are_refused(said: dict[str, Any], name: str):
    with pytest.raises(CheckpointError, match=f"weights are quantised \\({name}"):
        opened({}, said)
