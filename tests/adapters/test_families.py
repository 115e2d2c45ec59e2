"""Unusual adapters of unusual models compute, applied and combined, what PEFT's own forward pass does."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cuvee
from adapters.conftest import TOKENS, peft, quiet, relative_error, torch, transformers
from cuvee.adapters.low_rank import Wanted
from cuvee.engine.combine import How
from cuvee.errors import CheckpointError
from families.zoo import FAMILIES, GROUPED

Q = ["q_proj", "v_proj"]

ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "a tied head beside a model that sees": ("gemma 3 with vision", {"target_modules": [*Q, "lm_head"]}),
    "tied by demand in a model that sees": (
        "gemma 3 with vision",
        {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    ),
    "names of a mixture in memory": ("minimax m2", {"target_modules": "all-linear"}),
    "stacks under other names": (
        "granite mixture",
        {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    ),
    "experts saved whole": ("qwen3 moe", {"target_modules": ["q_proj"], "modules_to_save": ["experts"]}),
    "a convolution": ("vit", {"target_modules": ["q_proj", "patch_embeddings.projection"], "use_rslora": True}),
    "a convolution with DoRA": ("vit", {"target_modules": ["patch_embeddings.projection"], "use_dora": True}),
}
"""Adapters by what is special about them: the family of the base, and the arguments of PEFT's LoraConfig."""

ONLY_APPLIED = ("experts saved whole",)

MORE_FAMILIES: dict[str, Callable[[], Any]] = {
    "minimax m2": lambda: transformers.MiniMaxM2ForCausalLM(
        transformers.MiniMaxM2Config(**GROUPED, head_dim=8, num_local_experts=4, num_experts_per_tok=2)
    ),
    "granite mixture": lambda: transformers.GraniteMoeForCausalLM(
        transformers.GraniteMoeConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2)
    ),
}


@torch.no_grad()
def logits(model: Any) -> "torch.Tensor":
    inputs = {"input_ids": TOKENS}
    if model.config.model_type == "vit":
        inputs = {"pixel_values": torch.arange(2.0 * 3 * 64).reshape(2, 3, 8, 8).sin()}
    return model.eval()(**inputs).logits


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_adapter_computes_what_it_does_by_peft(name: str, tmp_path: Path) -> None:
    family, settings = ADAPTERS[name]
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    torch.manual_seed(0)
    plain = {**FAMILIES, **MORE_FAMILIES}[family]().eval()
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
    if name in ONLY_APPLIED:
        with pytest.raises(CheckpointError, match="as a whole"):
            cuvee.combine_adapters([adapter], [1.0], tmp_path / "one", How(), base=base)
        return
    how = How(wanted=Wanted(energy=1.0))
    one = cuvee.combine_adapters([adapter], [1.0], tmp_path / "one", how, base=base).folder
    with quiet():
        loaded = peft.PeftModel.from_pretrained(plain, one)
    assert relative_error(logits(loaded), expected) < 1e-5


CONVOLUTIONS = {"wav2vec2": "conv_layers.1.conv", "vit": "patch_embeddings.projection", "qwen2-vl": "patch_embed.proj"}
"""Convolutions over one, two and three axes."""


@pytest.mark.parametrize("family", CONVOLUTIONS)
def test_a_convolution_gets_the_change_that_peft_merges(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = FAMILIES[family]()
    plain.save_pretrained(tmp_path / "base")
    with quiet():
        config = peft.LoraConfig(r=4, target_modules=[CONVOLUTIONS[family]], init_lora_weights=False)
        model = peft.get_peft_model(copy.deepcopy(plain), config)
        model.save_pretrained(tmp_path / "adapter")
        expected = model.merge_and_unload().state_dict()
    whole = cuvee.apply_adapter(tmp_path / "base", tmp_path / "adapter", tmp_path / "whole").folder
    found = type(plain).from_pretrained(whole, dtype=torch.float32).state_dict()
    (name,) = [name for name, tensor in plain.state_dict().items() if not torch.equal(tensor, expected[name])]
    assert torch.allclose(found[name], expected[name], rtol=0, atol=1e-6)
