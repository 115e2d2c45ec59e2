"""Whatever changed in a fine-tune of a family, PEFT loads what was extracted, and computes with it as the fine-tune."""

import random
from pathlib import Path
from typing import Any

import pytest

import cuvee
from adapters.conftest import TOKENS, peft, quiet, relative_error, torch
from cuvee.adapters.low_rank import Wanted
from cuvee.engine.extract import Extraction
from families.zoo import FAMILIES

WHICH = (
    "mixtral", "deepseek v3", "gpt-oss", "llama 4", "jamba", "mamba", "mamba 2", "gemma 3 with vision", "llava",
    "qwen2-vl", "gpt-neox", "opt", "t5", "rwkv", "bloom",
)  # fmt: skip
"""Mixtures, hybrids, state-space models, models that see, two-sided ones: each of another way to be held by PEFT."""

ALL_MOVED = ("gpt-oss", "deepseek v3", "mamba", "t5", "llava")
"""Those of which no matrix is left for factors, and others."""

MOVED = {
    "some of every kind": lambda parameters, draw: draw.sample(parameters, min(6, len(parameters))),
    "all": lambda parameters, draw: parameters,
}
"""The names of what changes, drawn from those of all parameters."""


@torch.no_grad()
def logits(model: Any) -> "torch.Tensor":
    more = {"decoder_input_ids": TOKENS} if model.config.is_encoder_decoder else {}
    return model.eval()(input_ids=TOKENS, **more).logits


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: tmp_path_factory.mktemp("family") / "base" for family in WHICH}


def opened(family: str, folder: Path) -> Any:
    """Open a family's model, written at the first time."""
    torch.manual_seed(0)
    made = FAMILIES[family]()
    if not folder.exists():
        made.save_pretrained(folder)
    return type(made).from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize(
    ("what", "family"), [(what, family) for family in WHICH for what in MOVED if what != "all" or family in ALL_MOVED]
)
def test_peft_computes_what_was_extracted(what: str, family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    base, tuned, adapter = folders[family], tmp_path / "tuned", tmp_path / "adapter"
    model = opened(family, base)
    parameters = dict(model.named_parameters())
    torch.manual_seed(1)
    with torch.no_grad():
        for name in MOVED[what](list(parameters), random.Random(family)):
            shape = parameters[name].shape
            low_rank = torch.randn(*shape[:-1], 2) @ torch.randn(2, shape[-1]) if len(shape) > 1 else torch.randn(shape)
            parameters[name] += low_rank * 0.05
    model.save_pretrained(tuned)
    cuvee.extract_adapter(tuned, base, adapter, Extraction(wanted=Wanted(energy=1.0)))
    with quiet():
        over = peft.PeftModel(opened(family, base), peft.PeftConfig.from_pretrained(adapter))
        loaded = over.load_adapter(adapter, "default")
    assert not loaded.unexpected_keys
    assert not [key for key in loaded.missing_keys if "lora_" in key or "modules_to_save" in key]
    wanted = logits(model)
    assert relative_error(logits(over), wanted) < 1e-5
    whole = cuvee.apply_adapter(base, adapter, tmp_path / "whole").folder
    assert relative_error(logits(opened(family, whole)), wanted) < 1e-5
