"""Roles, experts, fused projections and ties, from names, shapes and config."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.checkpoint import MemoryCheckpoint
from cuvee.structure import Fused, Structure, Tie, infer

CONFIG = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}


def inferred(config: dict[str, Any] = CONFIG, /, **shapes: Any) -> Structure:
    return infer(checkpoint({name.replace("__", "."): shape for name, shape in shapes.items()}, config))


def checkpoint(shapes: dict[str, Any], config: dict[str, Any] = CONFIG) -> MemoryCheckpoint:
    return MemoryCheckpoint({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, config)


def place(name: str, shape: tuple[int, ...], config: dict[str, Any] = CONFIG, **others: tuple[int, ...]):
    return infer(checkpoint({name: shape} | {n.replace("__", "."): s for n, s in others.items()}, config)).of(name)


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("model.layers.0.self_attn.q_proj.weight", (32, 32), "linear"),
        ("model.layers.0.self_attn.q_proj.bias", (32,), "bias"),
        ("h.0.attn.bias", (1, 1, 8, 8), "buffer"),
        ("model.layers.0.input_layernorm.weight", (32,), "norm"),
        ("transformer.h.0.ln_1.weight", (32,), "norm"),
        ("bert.embeddings.LayerNorm.gamma", (32,), "norm"),
        ("vision_model.pre_layrnorm.weight", (32,), "norm"),
        ("transformer.word_embeddings_layernorm.weight", (32,), "norm"),
        ("model.embed_tokens.weight", (64, 32), "embedding"),
        ("transformer.wpe.weight", (16, 32), "embedding"),
        ("vision.embeddings.class_embedding", (32,), "embedding"),
        ("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, 4), "embedding"),
        ("lm_head.weight", (64, 32), "head"),
        ("embed_out.weight", (64, 32), "head"),
        ("score.weight", (3, 32), "head"),
        ("lm_head.dense.weight", (32, 32), "linear"),
        ("model.layers.0.mlp.router.weight", (4, 32), "router"),
        ("model.layers.0.mlp.shared_expert_gate.weight", (1, 32), "router"),
        ("model.layers.0.mlp.gate_proj.weight", (48, 32), "linear"),
        ("vision.patch_embed.proj.weight", (32, 3, 4, 4), "conv"),
        ("layers.0.mixer.conv1d.weight", (64, 1, 4), "conv"),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (4,), "buffer"),
        ("layers.0.mixer.A_log", (64, 4), "unknown"),
        ("logit_scale", (), "unknown"),
    ],
)
def test_a_role_is_told_by_name_and_shape(name, shape, role):
    assert place(name, shape).role == role


def test_integers_are_buffers_whatever_their_name():
    model = MemoryCheckpoint({"model.layers.0.mlp.weight": np.zeros((2, 2), np.int64)})
    assert infer(model).of("model.layers.0.mlp.weight").role == "buffer"


names = st.lists(st.from_regex(r"[a-zA-Z_0-9]{1,9}", fullmatch=True), min_size=1, max_size=7).map(".".join)


@given(st.dictionaries(names, st.lists(st.integers(0, 3), max_size=5).map(tuple), max_size=9))
def test_every_tensor_of_any_model_has_a_place(shapes):
    structure = infer(checkpoint(shapes))
    assert set(structure.tensors) == set(shapes)
    assert str(structure).count("tensors") + str(structure).count("outside") >= bool(shapes)


def test_named_experts_are_numbered_and_their_router_is_known_by_its_shape():
    layer = "model__layers__0__moe"
    shapes = {f"{layer}__experts__{i}__w1__weight": (48, 32) for i in range(4)}
    structure = inferred(**shapes, **{f"{layer}__gate__weight": (4, 32), f"{layer}__shared__w1__weight": (48, 32)})
    assert [structure.of(f"model.layers.0.moe.experts.{i}.w1.weight").expert for i in range(4)] == [0, 1, 2, 3]
    assert structure.of("model.layers.0.moe.gate.weight").role == "router"
    assert structure.of("model.layers.0.moe.shared.w1.weight").expert is None


def test_experts_of_another_name_are_known_by_the_configs_number():
    shapes = {f"layers__0__ffn__branch__{i}__w1__weight": (48, 32) for i in range(4)}
    assert inferred({"num_experts": 4}, **shapes).of("layers.0.ffn.branch.3.w1.weight").expert == 3
    assert inferred(**shapes).of("layers.0.ffn.branch.3.w1.weight").expert is None


@pytest.mark.parametrize(
    ("word", "shape", "input_first"),
    [
        ("gate_up_proj", (4, 32, 96), True),
        ("gate_up_proj", (4, 96, 32), False),
        ("down_proj", (4, 48, 32), True),
        ("down_proj", (4, 32, 48), False),
    ],
)
def test_a_stack_of_experts_has_its_axes_told_by_the_hidden_size(word, shape, input_first):
    found = place(f"model.layers.0.mlp.experts.{word}", shape)
    assert (found.role, found.experts, found.input_first) == ("linear", 4, input_first)


def test_matrices_are_input_first_where_the_biases_of_their_stack_say_so():
    conv = {"h__0__c_fc__bias": (128,), "h__0__c_proj__weight": (32, 32), "h__0__c_proj__bias": (32,)}
    assert place("h.0.c_fc.weight", (32, 128), **conv).input_first
    assert inferred(h__0__c_fc__weight=(32, 128), **conv).of("h.0.c_proj.weight").input_first
    assert not place("h.0.c_fc.weight", (128, 32), **conv).input_first


@pytest.mark.parametrize(
    ("name", "shape", "config", "fused"),
    [
        ("model.layers.0.attn.qkv_proj.weight", (64, 32), CONFIG, Fused(("query", "key", "value"), (32, 16, 16))),
        ("model.layers.0.attn.qkv_proj.bias", (64,), CONFIG, Fused(("query", "key", "value"), (32, 16, 16))),
        ("visual.blocks.0.attn.qkv.weight", (96, 32), CONFIG, Fused(("query", "key", "value"), (32, 32, 32))),
        ("model.layers.0.attn.qkv_proj.weight", (65, 32), CONFIG, Fused(("query", "key", "value"), None)),
        ("model.layers.0.mlp.gate_up_proj.weight", (96, 32), CONFIG, Fused(("gate", "up"), (48, 48))),
        ("h.0.query_key_value.weight", (96, 32), {"model_type": "gpt_neox"}, Fused(("query", "key", "value"), None)),
        ("model.layers.0.self_attn.q_proj.weight", (32, 32), CONFIG, None),
    ],
)
def test_fused_projections_are_named_with_their_sizes(name, shape, config, fused):
    assert place(name, shape, config).fused == fused


EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.mark.parametrize(
    ("said", "has_head", "tie"),
    [
        (True, False, Tie(EMBEDDING, None, "tied")),
        (True, True, Tie(EMBEDDING, HEAD, "stored twice")),
        (False, True, Tie(EMBEDDING, HEAD, "separate")),
        (None, True, Tie(EMBEDDING, HEAD, "separate")),
        (None, False, Tie(EMBEDDING, None, "no head")),
    ],
)
def test_ties_are_told_by_the_config_and_what_is_stored(said, has_head, tie):
    shapes = {EMBEDDING: (64, 32), "model.norm.weight": (32,)} | ({HEAD: (64, 32)} if has_head else {})
    flag = {} if said is None else {"tie_word_embeddings": said}
    for config in (CONFIG | flag, {"text_config": CONFIG | flag}):
        assert infer(checkpoint(shapes, config)).ties == (tie,)


def test_modules_are_told_apart():
    structure = inferred(
        **{f"vision_tower__encoder__layers__{i}__fc__weight": (2, 2) for i in range(3)},
        **{f"language_model__model__layers__{i}__{fc}__weight": (2, 2) for i in range(2) for fc in "abc"},
        multi_modal_projector__linear_1__weight=(2, 2),
    )
    found = {place.name.partition(".")[0]: place.module for place in structure}
    assert found == {"vision_tower": "vision", "language_model": "language", "multi_modal_projector": "projector"}
    assert str(structure) == ("language: 2 blocks × 3 tensors; vision: 3 outside; projector: 1 outside")


def test_a_projector_with_a_row_a_token_is_no_head():
    shapes = {EMBEDDING: (64, 32), "image_to_text_projection.latent_query": (64, 32)}
    assert [tie.head for tie in infer(checkpoint(shapes, CONFIG)).ties] == [None]


@pytest.mark.parametrize(
    ("names", "module"),
    [
        ("image_newline mlp1.0.weight mlp_AR.linear_1.weight model.merger.mlp.0.weight resampler.query", "projector"),
        ("qformer.encoder.layer.0.x.weight language_projection.weight query_tokens patch_merger.x.weight", "projector"),
        ("video_tower.encoder.layers.0.x.weight vpm.encoder.layers.0.x.weight visual.merger.mlp.0.weight", "vision"),
        ("apm.layers.0.x.weight", "audio"),
        ("mlp1.weight model.layers.0.merger.weight model.norm.weight", "language"),
    ],
)
def test_what_stands_between_the_parts_of_a_model_is_told_by_its_name(names, module):
    structure = infer(checkpoint(dict.fromkeys(names.split(), (2, 2)), {}))
    assert {place.name: place.module for place in structure} == dict.fromkeys(names.split(), module)


def test_encoder_and_decoder_are_modules_only_where_there_are_both():
    both = inferred(encoder__block__0__a__weight=(2, 2), decoder__block__0__a__weight=(2, 2))
    assert {place.module for place in both} == {"encoder", "decoder"}
    assert inferred(bert__encoder__layer__0__a__weight=(2, 2)).modules == ("language",)
