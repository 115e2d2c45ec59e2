"""A folder that lacks something is refused: transformers makes up weights, and tokenizers without words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from safetensors.torch import load_file, save_file

from cuvee.errors import EvaluationError
from cuvee.evaluation import load_model
from cuvee.evaluation.library import load_skeleton


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("load", [load_model, load_skeleton])
def test_a_config_with_more_layers_than_tensors_is_refused_before_any_is_built(
    load: Callable[[Path], object], nested: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((folder / "config.json").read_text())
    depth = {"num_hidden_layers": 200_000_000}
    (folder / "config.json").write_text(json.dumps({**config, **({"text_config": depth} if nested else depth)}))
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", None)
    with pytest.raises(EvaluationError, match=r"there are 200,000,000 layers, and the files have \d+ tensors"):
        load(folder)


def test_a_tensor_that_the_files_lack_is_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.0.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EvaluationError, match=r"the weights of 'model\.layers\.0\.mlp\.up_proj\.weight' are missing"):
        load_model(folder)


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
@pytest.mark.parametrize("keeps_settings", [False, True])
def test_a_folder_without_a_tokenizer_is_refused(folder: Path, model_type: str, keeps_settings: bool) -> None:
    if model_type == "qwen2":  # transformers makes a tokenizer without words for it
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
        config = transformers.Qwen2Config(**sizes, intermediate_size=8, vocab_size=32)
        transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    for file in folder.glob("tokenizer*"):
        if not keeps_settings or file.name == "tokenizer.json":
            file.unlink()
    if keeps_settings:
        (folder / "tokenizer_config.json").write_text(f'{{"tokenizer_class": "{model_type.title()}Tokenizer"}}')
    for load in (load_model, load_skeleton):
        with pytest.raises(EvaluationError, match=r"the folder has no tokenizer\n  hint: copy tokenizer\.json"):
            load(folder)


def test_a_tokenizer_of_bytes_needs_no_file_of_words(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    transformers.ByT5Tokenizer().save_pretrained(folder)
    (folder / "tokenizer.json").unlink(missing_ok=True)
    assert load_model(folder).encode_plain(["ab"]) == [[100, 101]]
