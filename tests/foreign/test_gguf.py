"""GGUF files against transformers' own reading of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import cuvee  # noqa: E402  # after the skips
from cuvee.checkpoint.dtypes import NUMPY  # noqa: E402
from cuvee.errors import CheckpointError  # noqa: E402
from cuvee.foreign import open_files  # noqa: E402
from cuvee.foreign.gguf_names import family, family_of, paired_rows  # noqa: E402

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "max_position_embeddings": 64, "head_dim": 16,
}  # fmt: skip
MADE = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES)),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SIZES)),
    "gemma2": lambda: transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**SIZES, query_pre_attn_scalar=16)),
    "gemma3": lambda: transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**SIZES, query_pre_attn_scalar=16)),
}


def write(folder: Path, key: str, kind: str = "F32") -> tuple[Path, Any]:
    """Write a tiny model as llama.cpp's converter would, matrices in one type."""
    torch.manual_seed(0)
    model, known = MADE[key](), family(key)
    assert known is not None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    file = folder / "model.gguf"
    writer = gguf.GGUFWriter(file, key)
    writer.add_vocab_size(64)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        array = tensor.numpy()
        if known.rotated_rows and ("q_proj" in name or "k_proj" in name):
            array = array[paired_rows(len(array), 4 if "q_proj" in name else 2)]
        if known.norm_offset and name.endswith("norm.weight"):
            array = array + np.float32(known.norm_offset)
        chosen = gguf.GGMLQuantizationType[kind] if array.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(known.gguf_name(name), gguf.quantize(array, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, model


def read(source: Any, name: str, step: int = 0) -> np.ndarray:
    spec = source.tensors[name]
    out = np.empty(spec.elements, NUMPY[spec.dtype])
    for start in range(0, spec.elements, step or spec.elements):
        part = out[start : start + (step or spec.elements)]
        source.read_into(name, start * out.itemsize, [part])
    return out.reshape(spec.shape)


@pytest.mark.parametrize("key", MADE)
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
def test_a_tiny_model_of_every_type_is_read_in_pieces_under_its_own_names(tmp_path, key, kind):
    file, model = write(tmp_path, key, kind)
    source = open_files(file)
    weights = model.state_dict()
    assert set(source.tensors) == {n for n in weights if n != "lm_head.weight" or not model.config.tie_word_embeddings}
    bits = {"F32": 0, "F16": 2**-11, "BF16": 2**-8, "Q8_0": 1 / 127, "Q4_1": 1 / 15}[kind]
    for name in source.tensors:
        whole, expected = read(source, name).astype(np.float32), weights[name].numpy()
        assert np.array_equal(whole, read(source, name, 37).astype(np.float32))
        error = 1e-6 if expected.ndim == 1 else bits
        assert np.abs(whole - expected).max() <= error * np.abs(expected).max() + 1e-6, name


@pytest.mark.parametrize("key", ["llama", "qwen2", "gemma2"])
def test_transformers_reads_the_same_numbers(tmp_path, key):
    file, _ = write(tmp_path, key, "Q8_0")
    theirs = type(MADE[key]()).from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32).state_dict()
    source = open_files(file)
    for name in source.tensors:
        assert np.allclose(read(source, name), theirs[name].numpy(), rtol=0, atol=1e-6), name


@pytest.mark.parametrize("key", MADE)
def test_the_config_is_that_of_the_model(tmp_path, key):
    file, model = write(tmp_path, key)
    config = open_files(file).config
    assert config["architectures"] == [type(model).__name__]
    for name in (*SIZES, "tie_word_embeddings", "rms_norm_eps", "model_type"):
        assert config[name] == pytest.approx(getattr(model.config, name)), name


def test_a_merge_of_gguf_files_loads(tmp_path):
    file, model = write(tmp_path, "qwen3", "F16")
    text = f"merge_method: passthrough\nmodels: [{{model: {file}}}]\n"
    result = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out")
    loaded, told = type(model).from_pretrained(result.folder, output_loading_info=True, dtype=torch.float32)
    assert not any(told.values())
    tokens = torch.arange(10)[None]
    assert torch.allclose(loaded(tokens).logits, model(tokens).logits, atol=1e-2)


@pytest.mark.parametrize("kind", ["Q8_K", "I32"])
def test_a_type_whose_numbers_are_not_known_is_refused_when_it_is_opened(tmp_path, kind):
    stored = gguf.GGMLQuantizationType[kind]
    block, block_bytes = gguf.GGML_QUANT_SIZES[stored]
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_embedding_length(256)
    writer.add_head_count(4)
    codes = np.zeros((4, 256 // block * block_bytes), np.uint8)
    writer.add_tensor("blk.0.ffn_up.weight", codes, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match=f"does not read the type {kind}"):
        open_files(tmp_path / "m.gguf")


def test_an_unknown_family_is_refused_by_name(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "starcoder")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="the GGUF architecture 'starcoder' is not known"):
        open_files(tmp_path / "m.gguf")


def test_names_go_there_and_back():
    for model_type in ("llama", "qwen2", "gemma2", "gemma3_text"):
        known = family_of(model_type)
        for ours, theirs in known.tensors.items():
            for last in ("weight", "bias") if known.switch_of(theirs) else ("weight",):
                own = f"{theirs.replace('*', '12')}.{last}"
                assert known.own_name(f"{ours.replace('*', '12')}.{last}") == own
                assert known.own_name(known.gguf_name(own)) == own
    assert family("llama").own_name("rope_freqs.weight") is None
