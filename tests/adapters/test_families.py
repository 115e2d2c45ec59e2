"""Unusual adapters of unusual models compute, applied and combined, what PEFT's own forward pass does."""

import copy
from pathlib import Path
from typing import Any

import pytest

import cuvee
from adapters.conftest import TOKENS, peft, quiet, relative_error, torch
from cuvee.adapters.low_rank import Wanted
from cuvee.engine.combine import How
from families.zoo import FAMILIES

Q = ["q_proj", "v_proj"]

ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "a tied head beside a model that sees": ("gemma 3 with vision", {"target_modules": [*Q, "lm_head"]}),
    "tied by demand in a model that sees": (
        "gemma 3 with vision",
        {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    ),
}
"""Adapters by what is special about them: the family of the base, and the arguments of PEFT's LoraConfig."""


@torch.no_grad()
def logits(model: Any) -> "torch.Tensor":
    more = {"decoder_input_ids": TOKENS} if model.config.is_encoder_decoder else {}
    return model.eval()(input_ids=TOKENS, **more).logits


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_adapter_computes_what_it_does_by_peft(name: str, tmp_path: Path) -> None:
    family, settings = ADAPTERS[name]
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    torch.manual_seed(0)
    plain = FAMILIES[family]().eval()
    plain.save_pretrained(base)
    with quiet():
        model = peft.get_peft_model(copy.deepcopy(plain), peft.LoraConfig(r=4, lora_alpha=6, **settings))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += torch.randn_like(parameter) * 0.2
        model.save_pretrained(adapter)
        expected = logits(model)
    assert relative_error(expected, logits(plain)) > 1e-2
    whole = cuvee.apply_adapter(base, adapter, tmp_path / "whole").folder
    assert relative_error(logits(type(plain).from_pretrained(whole, dtype=torch.float32)), expected) < 1e-5
    how = How(wanted=Wanted(energy=1.0))
    one = cuvee.combine_adapters([adapter], [1.0], tmp_path / "one", how, base=base).folder
    with quiet():
        loaded = peft.PeftModel.from_pretrained(plain, one)
    assert relative_error(logits(loaded), expected) < 1e-5
