"""An adapter that was trained after tokens had been added brings their rows, the size and the tokenizer's files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cuvee
from adapters.conftest import Made, load, peft, quiet, relative_error, torch
from adapters.test_adapted import merged
from cuvee.adapters import open_adapter
from cuvee.errors import CheckpointError

ROWS = 66
IDS = torch.tensor([[3, 5, 64, 11, 65, 17]])
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "saved": ("llama", {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "saved, tied": ("tied", {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "embedding saved": ("llama", {"modules_to_save": ["embed_tokens"]}),
    "embedding saved, tied": ("tied", {"modules_to_save": ["embed_tokens"]}),
    "factors": ("llama", {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "factors, tied": ("tied", {"target_modules": ["q_proj", "embed_tokens"]}),
    "factors of both, tied": ("tied", {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "rows": ("llama", {"trainable_token_indices": [64, 65, 3]}),
    "rows, tied": ("tied", {"trainable_token_indices": [64, 65, 3]}),
    "nothing but their rows": ("llama", {}),
    "nothing but their rows, tied": ("tied", {}),
}


def trained(base: Path, folder: Path, settings: dict[str, Any]) -> Made:
    """Train an adapter, by random numbers, over a base to which two tokens were added."""
    with quiet():
        torch.manual_seed(5)
        plain = load(base)
        plain.resize_token_embeddings(ROWS)
        model = peft.get_peft_model(plain, peft.LoraConfig(r=4, **{"target_modules": ["q_proj"], **settings}))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
            model.eval().save_pretrained(folder)
            return Made(base, folder, model(input_ids=IDS).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_has_the_tokens_and_computes_what_peft_does(
    kind: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    base, settings = KINDS[kind]
    made = trained(bases(base), tmp_path / "adapter", settings)
    model = load(merged(made, tmp_path / "out")).eval()
    assert model.config.vocab_size == ROWS
    with torch.no_grad():
        assert relative_error(model(input_ids=IDS).logits, made.logits) < 1e-5


def test_rows_that_are_nowhere_are_refused(bases: Callable[[str], Path], tmp_path: Path) -> None:
    """PEFT saves the embedding below its factors, and leaves out the head, which has grown, too."""
    made = trained(bases("llama"), tmp_path / "adapter", {"target_modules": ["q_proj", "embed_tokens"]})
    with pytest.raises(CheckpointError, match=r"66 rows for 'model.embed_tokens.weight' and none for 'lm_head.weight'"):
        merged(made, tmp_path / "out")


def test_the_tokenizer_is_that_of_the_training(bases: Callable[[str], Path], tmp_path: Path) -> None:
    made = trained(bases("llama"), tmp_path / "adapter", {})
    (made.adapter / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}, "merges": []}}')
    (made.adapter / "chat_template.jinja").write_text("of the adapter")
    (made.adapter / "trainer_state.json").write_text("{}")
    out = merged(made, tmp_path / "out")
    assert (out / "tokenizer.json").read_text() == (made.adapter / "tokenizer.json").read_text()
    assert (out / "chat_template.jinja").read_text() == "of the adapter"
    assert not (out / "trainer_state.json").exists()
    assert (out / "generation_config.json").exists()


def test_combining_refuses_other_vocabularies(bases: Callable[[str], Path], tmp_path: Path) -> None:
    made = trained(bases("llama"), tmp_path / "adapter", {})
    from cuvee.engine.combine import How

    with pytest.raises(CheckpointError, match="for other tokens than the base has"):
        cuvee.combine_adapters([made.adapter], [0.5], tmp_path / "out", How(), base=made.base)


def test_names_of_adapters_within_names_of_tensors_are_passed_over(
    adapters: Callable[..., Made], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    made = adapters("modules_to_save")
    tensors = load_file(made.adapter / "adapter_model.safetensors")
    named = {}
    for name, tensor in tensors.items():
        module, _, rest = name.rpartition(".")
        saved = "lora_" not in name
        named[f"{module}.modules_to_save.default.{rest}" if saved else f"{module}.default.{rest}"] = tensor
    folder = tmp_path / "named"
    folder.mkdir()
    save_file(named, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text((made.adapter / "adapter_config.json").read_text())
    plain, found = open_adapter(made.adapter), open_adapter(folder)
    assert set(found.full) == set(plain.full)
    assert set(found.factors) == set(plain.factors)


def test_several_adapters_in_one_file_are_refused(adapters: Callable[..., Made], tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    made = adapters("plain")
    tensors = load_file(made.adapter / "adapter_model.safetensors")
    both = {name.replace(".weight", f".{own}.weight"): t for own in ("first", "second") for name, t in tensors.items()}
    save_file(both, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text((made.adapter / "adapter_config.json").read_text())
    with pytest.raises(CheckpointError, match=r"holds several adapters \(first, second\)"):
        open_adapter(tmp_path)
