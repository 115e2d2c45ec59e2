"""Quantisation is recognised by name, whether the config says it or the tensors give it away."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from cuvee.checkpoint import MemoryCheckpoint
from cuvee.errors import CheckpointError
from cuvee.foreign import open_files, readable
from cuvee.testing import write_model

LAYER = "model.layers.0.mlp.down_proj"
PLAIN = {"model.norm.weight": np.ones(4, np.float32)}


def refusal(tensors: dict[str, np.ndarray], config: dict[str, object] | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        readable(MemoryCheckpoint(PLAIN | tensors, config), "m")
    return str(caught.value)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "GPTQ"),
        ({"quant_method": "awq", "bits": 4}, "AWQ"),
        ({"quant_method": "hqq"}, "HQQ"),
        ({"quant_method": "aqlm"}, "AQLM"),
        ({"quant_method": "something-new"}, "something-new"),
        ({"quant_method": "compressed-tensors", "format": "marlin-24"}, "compressed-tensors marlin-24"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
    ],
)
def test_a_scheme_of_the_config_is_refused_by_name(said, name):
    assert f"its weights are quantised ({name}): codes, not numbers" in refusal({}, {"quantization_config": said})


@pytest.mark.parametrize(
    ("suffixes", "name"),
    [
        (("weight", "weight.absmax", "weight.quant_map"), "bitsandbytes"),
        (("weight", "weight.quant_state.bitsandbytes__nf4"), "bitsandbytes"),
        (("weight", "SCB"), "bitsandbytes"),
        (("qweight", "qzeros", "scales", "g_idx"), "GPTQ"),
        (("qweight", "qzeros", "scales"), "AWQ or GPTQ"),
        (("q_weight", "q_scale", "q_groups"), "EXL2"),
        (("W_q", "scale", "zero"), "HQQ"),
        (("codes", "codebooks"), "AQLM"),
        (("weight_packed", "weight_scale", "weight_scale_2"), "NVFP4"),
        (("gate_up_proj_blocks", "gate_up_proj_scales"), "MXFP4"),
    ],
)
def test_a_scheme_that_only_the_tensors_show_is_refused_by_name_and_tensor(suffixes, name):
    found = refusal({f"{LAYER}.{suffix}": np.ones((4, 4), np.uint8) for suffix in suffixes})
    assert f"its weights are quantised ({name}, by '{LAYER}." in found


def test_words_of_mlx_need_its_packed_weights():
    mlx = {f"{LAYER}.weight": np.ones((4, 4), np.uint32), f"{LAYER}.biases": np.ones((4, 1), np.float16)}
    assert "(MLX, by " in refusal(mlx | {f"{LAYER}.scales": np.ones((4, 1), np.float16)})
    plain = MemoryCheckpoint(
        {f"{LAYER}.weight": np.ones((4, 4), np.float32), f"{LAYER}.biases": np.ones(4, np.float32)}
    )
    assert readable(plain, "m") is plain


def test_codes_without_a_config_are_refused_though_they_have_scales():
    codes = {f"{LAYER}.weight": np.ones((4, 4), np.int8), f"{LAYER}.weight_scale": np.ones((4, 1), np.float32)}
    assert f"(I8 of unknown meaning, by '{LAYER}.weight')" in refusal(codes)


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_an_adapter_is_no_model(prefix: str):
    names = [f"{prefix}{LAYER}.lora_A.weight", f"{prefix}{LAYER}.lora_B.weight"]
    if prefix:
        names.append(f"{prefix}lm_head.modules_to_save.weight")
    adapter = MemoryCheckpoint({name: np.ones((4, 4), np.float32) for name in names}, None)
    with pytest.raises(CheckpointError, match="this is an adapter"):
        readable(adapter, "m")


def test_a_model_that_keeps_adapters_inside_is_a_model():
    names = ["model.norm.weight", f"{LAYER}.base_layer.weight", f"{LAYER}.lora_A.vision.weight"]
    model = MemoryCheckpoint({name: np.ones((4, 4), np.float32) for name in names}, None)
    assert readable(model, "m") is model


def test_the_refusal_says_how_to_get_numbers():
    assert "call `model.dequantize()` and save that" in refusal({f"{LAYER}.SCB": np.ones(4, np.float32)})
    awq = refusal({}, {"quantization_config": {"quant_method": "awq", "bits": 4}})
    assert "merge the unquantised model and quantise the result; or convert it to compressed-tensors" in awq


def test_numbers_under_a_name_of_codes_are_told_their_name():
    names = ("gate_up_proj_blocks", "gate_up_proj_bias")
    found = refusal({f"{LAYER}.{name}": np.ones((2, 4, 4), np.float32) for name in names})
    assert f"'{LAYER}.gate_up_proj_blocks' holds numbers (F32) under a name of codes" in found
    assert f"call it '{LAYER}.gate_up_proj'" in found


def test_modelopts_own_file_says_what_codes_are(tmp_path: Path):
    weights = {f"{LAYER}.weight": np.ones((4, 4), ml_dtypes.float8_e4m3fn), f"{LAYER}.weight_scale": np.float32(3)}
    folder = write_model(tmp_path / "m", PLAIN | {name: np.asarray(array) for name, array in weights.items()})
    with pytest.raises(CheckpointError, match="F8_E4M3 of unknown meaning"):
        readable(open_files(folder), "m")
    (folder / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}')
    assert readable(open_files(folder), "m").tensors[f"{LAYER}.weight"].dtype == "F32"
    (folder / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "W4A8_AWQ"}}')
    with pytest.raises(CheckpointError, match="ModelOpt W4A8_AWQ"):
        readable(open_files(folder), "m")
