"""Quantisation is recognised by name, whether the config says it or the tensors give it away."""

import numpy as np
import pytest

from cuvee.checkpoint import MemoryCheckpoint
from cuvee.errors import CheckpointError
from cuvee.foreign import readable

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
        ({"quant_method": "mxfp4"}, "MXFP4"),
        ({"quant_method": "hqq"}, "HQQ"),
        ({"quant_method": "aqlm"}, "AQLM"),
        ({"quant_method": "something-new"}, "something-new"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "compressed-tensors"),
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
