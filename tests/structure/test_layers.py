"""Layers from names."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.structure import Layer, Stack, is_before_layers, layer_of, stacks

words = st.from_regex(r"[a-z_][a-z_0-9]{0,6}", fullmatch=True)


@given(prefix=st.lists(words, min_size=1, max_size=3), index=st.integers(0, 999_999), rest=st.lists(words, min_size=1))
def test_a_layer_is_the_first_number_between_dots(prefix, index, rest):
    name = ".".join([*prefix, str(index), *rest])
    layer = layer_of(name)
    assert layer == Layer(".".join(prefix), index, ".".join(rest))
    assert layer.at(index) == name


@given(st.text(max_size=30))
def test_any_name_is_a_layers_or_not(name):
    layer = layer_of(name)
    assert layer is None or layer.at(layer.index) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.3.mlp.up_proj.weight", Layer("model.layers", 3, "mlp.up_proj.weight")),
        ("model.layers.3.mlp.experts.7.w1.weight", Layer("model.layers", 3, "mlp.experts.7.w1.weight")),
        ("transformer.h.11.attn.c_attn.bias", Layer("transformer.h", 11, "attn.c_attn.bias")),
        ("h.0.ln_1.weight", Layer("h", 0, "ln_1.weight")),
        ("layers.0.mlp.experts.7.w1.weight", Layer("layers", 0, "mlp.experts.7.w1.weight")),
        ("model.embed_tokens.weight", None),
        ("lm_head.weight", None),
        ("layers.3", None),
        ("0.weight", None),
        ("layers.007.weight", None),
        ("layers." + "9" * 5000 + ".weight", None),
        ("layers.٣.weight", None),
        ("", None),
    ],
)
def test_names_of_real_and_odd_models(name, expected):
    assert layer_of(name) == expected


def test_the_stack_with_most_tensors_comes_first():
    names = ["a.0.x", "b.0.x", "b.0.y", "b.3.x", "norm"]
    assert stacks(names) == (Stack("b", 4, 3), Stack("a", 1, 1))
    assert stacks(["norm"]) == ()


def test_many_stacks_and_long_names_take_no_long_time():
    started = time.process_time()
    stacks([f"s{i}.0.x" for i in range(20_000)])
    layer_of("a." * 50_000 + "b")
    layer_of("9." * 50_000 + "b")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("model.embed_tokens.weight", True),
        ("transformer.wte.weight", True),
        ("transformer.wpe.weight", True),
        ("shared.weight", True),
        ("model.norm.weight", False),
        ("lm_head.weight", False),
        ("transformer.ln_f.bias", False),
        ("embed_out.weight", False),
        ("unembed.W_U", False),
    ],
)
def test_embeddings_come_before_the_layers_norm_and_head_after(name, before):
    assert is_before_layers(name) == before
