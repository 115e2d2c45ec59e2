"""A check that a model cannot be asked is skipped by name, and what all parents have too is theirs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import transformers  # after the skips

import cuvee
from cuvee.testing import TINY_LLAMA, random_weights, write_model
from cuvee.verify import Check, verify
from tokenizers_made import byte_level_bpe

ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}


def merged(
    folder: Path, write: Callable[[Path, int], object], weights: tuple[float, float] = (0.5, 0.5), **options: Any
) -> dict[str, Check]:
    """Merge two models and verify the output."""
    listed = []
    for seed, weight in enumerate(weights):
        write(folder / f"m{seed}", seed)
        (folder / f"m{seed}" / "tokenizer.json").write_text(byte_level_bpe(size=340))
        (folder / f"m{seed}" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        listed.append(f"{{model: {folder}/m{seed}, parameters: {{weight: {weight}}}}}")
    text = f"merge_method: linear\nmodels: [{', '.join(listed)}]\n"
    cuvee.merge(cuvee.recipe_from_text(text), folder / "out", **options)
    return {check.name: check for check in verify(folder / "out").checks}


def nothing_failed(checks: Mapping[str, Check]) -> bool:
    return not [check for check in checks.values() if check.state == "failed"]


def whisper(folder: Path, seed: int) -> None:
    transformers.set_seed(seed)
    config = transformers.WhisperConfig(
        vocab_size=340, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=20,
        max_target_positions=20, suppress_tokens=None, begin_suppress_tokens=None, **ENDS,
    )  # fmt: skip
    transformers.WhisperForConditionalGeneration(config).save_pretrained(folder)


def gpt2(folder: Path, seed: int) -> None:
    transformers.set_seed(seed)
    config = transformers.GPT2Config(vocab_size=340, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)


def with_tensor(folder: Path, name: str, array: np.ndarray) -> None:
    """Add a tensor to a model that has one file."""
    from safetensors.numpy import load_file, save_file

    file = folder / "model.safetensors"
    save_file({**load_file(file), name: array}, file, {"format": "pt"})


def test_a_model_that_takes_no_text_is_not_asked_by_text(tmp_path: Path) -> None:
    checks = merged(tmp_path, whisper)
    assert checks["loads"].state == "passed"
    assert checks["sample"].state == "skipped"
    assert checks["sample"].found == "WhisperForConditionalGeneration takes input_features, not text alone"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "there is no config.json"),
        ({"_class_name": "UNet2DModel"}, "it is a UNet2DModel of diffusers"),
        ({"hidden_size": 64}, "config.json names neither a class nor a model type"),
        ({"model_type": "never_heard_of"}, "transformers knows no model type never_heard_of"),
        ({"architectures": ["NeverHeardOf"]}, "transformers has no class NeverHeardOf"),
    ],
)
def test_a_model_that_transformers_does_not_know_is_not_loaded(
    tmp_path: Path, config: dict[str, Any] | None, words: str
) -> None:
    def write(folder: Path, seed: int) -> None:
        write_model(folder, random_weights(seed), config=config or {})
        if config is None:
            (folder / "config.json").unlink()

    checks = merged(tmp_path, write)
    assert nothing_failed(checks)
    assert checks["loads"].state == checks["sample"].state == checks["layers"].state == "skipped"
    assert words in checks["loads"].found
    assert "config" in checks["layers"].found


def test_names_that_transformers_does_not_expect_of_the_parents_either_are_theirs(tmp_path: Path) -> None:
    def write(folder: Path, seed: int) -> None:
        gpt2(folder, seed)
        with_tensor(folder, "transformer.h.0.attn.masked_bias", np.array(-1e4, np.float32))
        with_tensor(folder, "transformer.h.0.attn.other_old_buffer", np.array(-1e4, np.float32))

    checks = merged(tmp_path, write)
    assert nothing_failed(checks), checks
    assert checks["loads"].found == (
        "GPT2LMHeadModel reports what it reports of all parents, too: "
        "unexpected keys: 2, transformer.h.0.attn.masked_bias"
    )


def test_names_that_the_parents_do_not_have_astray_are_the_models_own(tmp_path: Path) -> None:
    merged(tmp_path, gpt2)
    file = tmp_path / "out" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "n_layer": 2}))
    checks = {check.name: check for check in verify(tmp_path / "out").checks}
    assert checks["loads"].state == "failed"
    assert "missing keys" in checks["loads"].found


def test_a_sample_that_no_parent_gives_either_is_skipped(tmp_path: Path) -> None:
    def write(folder: Path, seed: int) -> None:
        config = {**TINY_LLAMA, "vocab_size": 40}  # fewer rows than tokens
        write_model(folder, random_weights(seed, config=config), config=config)

    checks = merged(tmp_path, write)
    assert checks["sample"].state == "skipped"
    assert "neither this model nor its parents" in checks["sample"].found


def test_a_sample_that_a_parent_gives_fails(tmp_path: Path) -> None:
    merged(tmp_path, gpt2)
    words = {"type": "WordLevel", "vocab": {"The": 999, "?": 0}, "unk_token": "?"}
    tokenizer: dict[str, Any] = {"version": "1.0", "added_tokens": [], "model": words}
    tokenizer |= dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding"))
    (tmp_path / "out" / "tokenizer.json").write_text(json.dumps(tokenizer))
    checks = {check.name: check for check in verify(tmp_path / "out").checks}
    assert checks["sample"].state == "failed"


@pytest.mark.parametrize(("entries", "state"), [(1, "passed"), (8, "passed"), (4096, "failed")])
def test_tiny_tensors_that_cancel_are_no_failure(tmp_path: Path, entries: int, state: str) -> None:
    def write(folder: Path, seed: int) -> None:
        weights = random_weights(seed) | {"model.extra.bias": np.full(entries, 1 - 2 * seed, np.float32)}
        write_model(folder, weights)

    norms = merged(tmp_path, write)["norms"]
    assert norms.state == state
    assert ("1 tiny ones nearly cancel" in norms.found) == (state == "passed")


def test_infinity_that_all_parents_have_is_theirs(tmp_path: Path) -> None:
    def write(folder: Path, seed: int) -> None:
        write_model(folder, random_weights(seed) | {"model.mask": np.array([0, -np.inf], np.float32)})

    checks = merged(tmp_path, write, allow_nonfinite=True)
    assert checks["finite"].state == "passed"
    assert checks["finite"].found == "NaN or infinity only where all parents have it, too: model.mask"
    assert checks["norms"].state == "passed"


def test_the_largest_numbers_are_numbers(tmp_path: Path) -> None:
    def write(folder: Path, seed: int) -> None:
        mask = np.full(4, np.finfo(np.float64).min / 4)
        write_model(folder, random_weights(seed))
        with_tensor(folder, "model.mask", mask)

    assert merged(tmp_path, write)["finite"].state == "passed"
