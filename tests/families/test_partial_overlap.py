"""Models that agree in part only, merged and loaded by transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import cuvee  # noqa: E402  # after the skip

from .zoo import FAMILIES, GROUPED  # noqa: E402

Triple = Callable[[str], list[Path]]


def merged(out: Path, *models: Path, more: str = "") -> tuple[Path, tuple[str, ...]]:
    listed = ", ".join(f"{{model: {model}}}" for model in models)
    text = f"merge_method: linear\nmodels: [{listed}]\nparameters: {{weight: 1}}\n{more}"
    return out, cuvee.merge(cuvee.recipe_from_text(text), out).notes


def loaded(kind: Any, folder: Path) -> dict[str, Any]:
    model, told = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    return dict(model.named_parameters(remove_duplicate=False))


def test_a_head_that_one_model_ties_is_averaged_with_the_other_models_own(triple: Triple, tmp_path: Path) -> None:
    kind = transformers.LlamaForCausalLM
    tied, own = triple("llama with a tied head")[0], triple("llama")[0]
    out, (warning,) = merged(tmp_path / "out", tied, own)
    assert "tie_word_embeddings: false" in warning
    result, first, second = (loaded(kind, folder) for folder in (out, tied, own))
    for name, number in result.items():
        assert torch.allclose(number, (first[name] + second[name]) / 2, rtol=0, atol=1e-6), name
    assert not torch.equal(result["lm_head.weight"], result["model.embed_tokens.weight"])


def test_an_encoder_saved_without_its_head_gives_its_part(triple: Triple, tmp_path: Path) -> None:
    whole, other = triple("bert")[:2]
    bare = tmp_path / "bare"
    transformers.BertModel.from_pretrained(other, add_pooling_layer=False).save_pretrained(bare)
    out, notes = merged(tmp_path / "out", whole, bare, more="missing: base\n")
    assert notes[0].startswith(f"{bare}: 37 tensors are matched without the prefix 'bert.'")
    kind = transformers.BertForMaskedLM
    result, first, second = (loaded(kind, folder) for folder in (out, whole, other))
    for name, number in result.items():
        expected = (
            first[name] if name.startswith("cls") and "decoder.weight" not in name else (first[name] + second[name]) / 2
        )
        assert torch.allclose(number, expected, rtol=0, atol=1e-6), name


def test_a_language_model_is_merged_into_one_that_sees(triple: Triple, tmp_path: Path) -> None:
    seeing, speaking = triple("llava")[0], tmp_path / "llm"
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED)).save_pretrained(speaking)
    out, notes = merged(tmp_path / "out", seeing, speaking, more="vision: base\nprojector: base\n")
    assert "21 tensors are matched without the prefix 'language_model.'" in notes[0]
    result, first = (loaded(type(FAMILIES["llava"]()), folder) for folder in (out, seeing))
    second = loaded(transformers.LlamaForCausalLM, speaking)
    assert set(result) == set(first)
    for name, number in result.items():
        own = name.replace("model.language_model.", "model.")
        expected = (first[name] + second[own]) / 2 if own in second else first[name]
        assert torch.allclose(number, expected, rtol=0, atol=1e-6), name
