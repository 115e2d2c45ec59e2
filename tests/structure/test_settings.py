"""Two configs are compared by what they make a model compute: found where it differs, silent where it does not."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from cuvee.structure.rope import rope_settings
from cuvee.structure.settings import NOT_STATED, Difference, differences

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "max_position_embeddings": 8192,
}
LONGER = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}  # fmt: skip
QWEN = {
    "model_type": "qwen2", "hidden_size": 1536, "num_attention_heads": 12, "num_key_value_heads": 2,
    "num_hidden_layers": 28, "max_window_layers": 21, "use_sliding_window": False, "sliding_window": 32768,
}  # fmt: skip
MISTRAL = {"model_type": "mistral", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
UNKNOWN = {"model_type": "made up", "num_hidden_layers": 4}


def keys(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return [difference.key for difference in differences(own, theirs)]


IDLE = {
    "_name_or_path": "a",
    "architectures": ["A"],
    "transformers_version": "4.40.0",
    "torch_dtype": "float16",
    "dtype": "float16",
    "eos_token_id": 7,
    "image_token_index": 7,
    "unsloth_version": "2024.9",
    "attention_dropout": 0.1,
    "resid_pdrop": 0.1,
    "layerdrop": 0.1,
    "initializer_range": 0.5,
    "use_cache": False,
    "gradient_checkpointing": True,
    "router_aux_loss_coef": 0.1,
    "output_router_logits": True,
    "quantization_config": {"quant_method": "fp8"},
    "vocab_size": 7,
    "tie_word_embeddings": True,
    "id2label": {"0": "a"},
    "temperature": 0.1,
    "pretraining_tp": 2,
    "_attn_implementation": "sdpa",
    "use_flash_attn": True,
    "finetuning_task": "x",
    "trained_on_date": "2025-01-01",
}


@pytest.mark.parametrize("key", IDLE)
@pytest.mark.parametrize("config", [LLAMA, UNKNOWN], ids=["known family", "unknown family"])
def test_what_computes_nothing_is_passed_over(config: dict[str, Any], key: str) -> None:
    assert differences(config, {**config, key: IDLE[key]}) == []
    assert differences({**config, key: "another"}, {**config, key: IDLE[key]}) == []


DECIDING = {
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "hidden_act": "gelu",
    "rms_norm_eps": 1e-06,
    "attention_bias": True,
    "head_dim": 64,
}


@pytest.mark.parametrize("key", DECIDING)
def test_each_setting_that_decides_is_found_once_with_both_values(key: str) -> None:
    whole = {"head_dim": 128, "attention_bias": False, **LLAMA}
    for own, theirs in ((whole, {**whole, key: DECIDING[key]}), ({**whole, key: DECIDING[key]}, whole)):
        assert differences(own, theirs) == [Difference(key, own[key], theirs[key])]


@pytest.mark.parametrize(
    ("family", "key", "values"),
    [
        ("mixtral", "num_experts_per_tok", (2, 4)),
        ("granite", "residual_multiplier", (0.22, 1.0)),
        ("granite", "logits_scaling", (8.0, 1.0)),
        ("gemma2", "attn_logit_softcapping", (50.0, None)),
        ("gemma2", "final_logit_softcapping", (30.0, 20.0)),
        ("gemma2", "query_pre_attn_scalar", (256, 144)),
        ("deepseek_v3", "routed_scaling_factor", (2.5, 1.0)),
        ("qwen3_moe", "norm_topk_prob", (True, False)),
        ("bert", "is_decoder", (True, False)),
        ("made up", "anything", (1, 2)),
    ],
)
def test_a_family_has_settings_of_its_own(family: str, key: str, values: tuple[Any, Any]) -> None:
    own, theirs = ({"model_type": family, key: value} for value in values)
    assert differences(own, theirs) == [Difference(key, *values)]


def test_what_a_config_leaves_out_is_the_default_of_its_family() -> None:
    least = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096}
    usual = {"num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "hidden_act": "silu"}
    assert differences(least, {**least, **usual, "rms_norm_eps": 1e-06, "rope_theta": 10000, "mlp_bias": False}) == []
    assert differences(least, {**least, "hidden_act": "relu"}) == [Difference("hidden_act", "silu", "relu")]
    assert differences({**least, "num_key_value_heads": 8}, least) == [Difference("num_key_value_heads", 8, 32)]


def test_of_an_unknown_family_what_only_one_config_has_is_not_stated_in_the_other() -> None:
    assert differences({**UNKNOWN, "scale": 2}, UNKNOWN) == [Difference("scale", 2, NOT_STATED, changes=False)]
    assert differences({**UNKNOWN, "scale": None}, UNKNOWN) == []


def test_code_of_its_own_may_read_what_the_family_does_not() -> None:
    assert differences({**LLAMA, "scale": 2}, LLAMA) == []
    own = {**LLAMA, "auto_map": {"AutoModel": "modeling.Model"}, "scale": 2}
    assert differences(own, {**own, "scale": 3}) == [Difference("scale", 2, 3)]


def test_spellings_of_one_value_are_equal() -> None:
    assert differences({**LLAMA, "hidden_act": "swish"}, LLAMA) == []
    assert differences({**UNKNOWN, "act": "gelu_new"}, {**UNKNOWN, "act": "gelu_pytorch_tanh"}) == []
    assert differences({**LLAMA, "rms_norm_eps": 9.999999747378752e-06}, LLAMA) == []
    assert differences({**UNKNOWN, "bias": None}, {**UNKNOWN, "bias": False}) == []


def test_another_family_is_found() -> None:
    own, theirs = {**LLAMA, "num_hidden_layers": 32}, {**MISTRAL, "hidden_size": 4096, "sliding_window": None}
    found = keys(own, {**theirs, "rms_norm_eps": 1e-05, "rope_theta": 500000.0})
    assert found == ["model_type", "max_position_embeddings"]
    assert keys(own, {**theirs, "sliding_window": 4096, "rms_norm_eps": 1e-06})[-2:] == ["rope_theta", "sliding_window"]


def test_a_length_alone_changes_nothing() -> None:
    (length,) = differences(LLAMA, {**LLAMA, "max_position_embeddings": 32768})
    assert length == Difference("max_position_embeddings", 8192, 32768, changes=False)


def test_llama_3_1_scales_what_llama_3_does_not() -> None:
    longer = {**LLAMA, "max_position_embeddings": 131072, "rope_scaling": LONGER}
    found = {difference.key: difference for difference in differences(LLAMA, longer)}
    assert list(found) == ["max_position_embeddings", "rope_scaling"]
    assert found["rope_scaling"].changes
    assert found["rope_scaling"].theirs["factor"] == 8.0


def test_mistral_0_2_has_no_window_and_another_base() -> None:
    first = {**MISTRAL, "sliding_window": 4096, "rope_theta": 10000.0}
    second = {**MISTRAL, "sliding_window": None, "rope_theta": 1000000.0}
    assert differences(first, second) == [
        Difference("sliding_window", 4096, None),
        Difference("rope_theta", 10000.0, 1000000.0),
    ]


def test_the_size_of_a_window_that_no_layer_has_is_of_no_use() -> None:
    assert differences(QWEN, {**QWEN, "sliding_window": 4096, "max_window_layers": 28}) == []
    assert keys(QWEN, {**QWEN, "use_sliding_window": True}) == ["layer_types of layer 21 and 6 more"]


def test_kinds_of_layers_are_equal_however_they_are_said() -> None:
    gemma = {"model_type": "gemma3_text", "num_hidden_layers": 6, "sliding_window_pattern": 3}
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    listed = {"model_type": "gemma3_text", "num_hidden_layers": 6, "layer_types": kinds}
    assert differences(gemma, listed) == []
    other = {**listed, "layer_types": [*kinds[:5], "sliding_attention"]}
    assert differences(gemma, other) == [
        Difference("layer_types of layer 5", "full_attention", "sliding_attention"),
    ]
    assert differences(gemma, other, layers=False) == []


def test_parts_are_compared_each_by_its_family() -> None:
    own = {
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 2, "rope_local_base_freq": 10000},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_act": "gelu_pytorch_tanh"},
    }
    theirs = {
        **own,
        "text_config": {"num_hidden_layers": 2, "rope_theta": 5.0, "rope_local_base_freq": 10000},
        "vision_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-06},
    }
    assert keys(own, theirs) == ["text_config.full_attention.rope_theta", "vision_config.hidden_act"]


def test_a_language_model_alone_is_compared_with_the_part_of_the_other() -> None:
    text = {"model_type": "gemma3_text", "num_hidden_layers": 2, "final_logit_softcapping": 30.0}
    whole = {"model_type": "gemma3", "text_config": {**text, "final_logit_softcapping": None}, "vision_config": {}}
    assert differences(whole, text) == [Difference("text_config.final_logit_softcapping", None, 30.0)]
    assert differences({**whole, "text_config": text}, text) == []


SAME_ROPES = [
    ({"rope_theta": 10000}, {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    ({"rope_theta": 1e6, "rope_scaling": None}, {"rope_theta": 1000000}),
    ({"rope_scaling": {"type": "linear", "factor": 1.0}}, {}),
    ({"rope_scaling": {"type": "linear", "factor": 2}}, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ({"rotary_emb_base": 5, "rotary_pct": 0.25}, {"rope_parameters": {"rope_theta": 5, "partial_rotary_factor": 0.25}}),
    ({"rope_scaling": {"type": "yarn", "factor": 4, "beta_fast": 32}}, {"rope_scaling": {"type": "yarn", "factor": 4}}),
    (
        {"rope_theta": 5.0, "rope_scaling": LONGER},
        {"rope_parameters": {**LONGER, "rope_theta": 5.0}},
    ),
    (
        {"rope_scaling": {"type": "su", "long_factor": [2]}, "original_max_position_embeddings": 2},
        {"rope_parameters": {"rope_type": "longrope", "long_factor": [2], "original_max_position_embeddings": 2}},
    ),
    (
        {"rope_theta": 7, "rope_local_base_freq": 3},
        {"rope_parameters": {"full_attention": {"rope_theta": 7}, "sliding_attention": {"rope_theta": 3}}},
    ),
    (
        {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1]}},
        {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1], "rope_theta": 10000.0}},
    ),
]


@pytest.mark.parametrize(("older", "newer"), SAME_ROPES)
def test_rotary_positions_are_equal_in_all_spellings(older: dict[str, Any], newer: dict[str, Any]) -> None:
    size, usual = {"max_position_embeddings": 64}, {"rope_theta": 10000.0, "rope_type": "default"}
    assert rope_settings(older | size, usual) == rope_settings(newer | size, usual)


OTHER_ROPES = [
    ({"rope_theta": 10000.0}, {"rope_theta": 500000.0}),
    ({"rope_scaling": {"type": "linear", "factor": 2}}, {"rope_scaling": {"type": "linear", "factor": 4}}),
    ({"rope_scaling": {"type": "linear", "factor": 2}}, {"rope_scaling": {"type": "dynamic", "factor": 2}}),
    ({"rope_scaling": LONGER}, {"rope_scaling": {**LONGER, "original_max_position_embeddings": 4096}}),
    ({"partial_rotary_factor": 0.5}, {"partial_rotary_factor": 1.0}),
]


@pytest.mark.parametrize(("own", "theirs"), OTHER_ROPES)
def test_rotary_positions_that_turn_otherwise_are_found(own: dict[str, Any], theirs: dict[str, Any]) -> None:
    (difference,) = differences({**LLAMA, **own}, {**LLAMA, **theirs})
    assert difference.changes


def test_a_length_counts_where_the_scaling_follows_it() -> None:
    config = {**LLAMA, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    assert keys(config, {**config, "max_position_embeddings": 4096}) == ["max_position_embeddings", "rope_scaling"]


def test_the_defaults_name_their_source() -> None:
    from importlib.resources import files

    lines = json.loads((files("cuvee.structure") / "config_defaults.json").read_text(encoding="utf-8"))
    assert "transformers" in lines[""]["source"]
