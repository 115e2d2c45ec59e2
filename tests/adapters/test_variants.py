"""Variants of LoRA that PEFT runs over quantised bases alone, and what is refused of the others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cuvee
from adapters.conftest import Made, load, logits, peft, quiet, relative_error, torch
from adapters.test_adapted import merged
from cuvee.adapters.starts import STARTS
from cuvee.engine.combine import How
from cuvee.errors import CheckpointError, RecipeError


def test_qalora_computes_what_peft_does_over_a_quantised_base(bases: Callable[[str], Path], tmp_path: Path) -> None:
    from peft.tuners.lora.variants import QALoraLinearVariant

    base, group = bases("llama"), 8
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"])
    with quiet():
        torch.manual_seed(0)
        model = peft.get_peft_model(load(base), config)
        for module in model.modules():
            if isinstance(module, peft.tuners.lora.Linear):
                module.lora_A["default"] = torch.nn.Linear(module.in_features // group, 4, bias=False)
                torch.nn.init.normal_(module.lora_B["default"].weight)
                module.qalora_group_size = {"default": group}
                module.lora_variant["default"] = QALoraLinearVariant()
        expected = logits(model)
        model.peft_config["default"].use_qalora = True
        model.peft_config["default"].qalora_group_size = group
        model.save_pretrained(tmp_path / "adapter")
    made = Made(base, tmp_path / "adapter", expected)
    assert relative_error(logits(load(merged(made, tmp_path / "out"))), expected) < 1e-5


def test_an_adapter_that_repeats_layers_is_applied_and_not_combined(
    adapters: Callable[..., Made], tmp_path: Path
) -> None:
    made = adapters("layer replication")
    with pytest.raises(CheckpointError, match="repeats layers of its base"):
        cuvee.combine_adapters([made.adapter], [1.0], tmp_path / "x", How(), base=made.base)


def test_a_change_that_hangs_on_the_base_asks_how_much_to_keep(adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters("pissa")
    with pytest.raises(RecipeError, match="makes changes of any rank"):
        cuvee.combine_adapters([made.adapter], [1.0], tmp_path / "x", How(), base=made.base)


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9)])
def test_strongest_and_weakest_directions_make_up_the_whole(shape: tuple[int, int]) -> None:
    weight = np.random.default_rng(0).standard_normal(shape)
    rank = 3
    strong, strong_right = STARTS["pissa"](weight, rank, 0.5)
    weak, weak_right = STARTS["kasa"](weight, min(shape) - rank, 0.5)
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    assert np.allclose(strong @ strong_right, (left[:, :rank] * values[:rank]) @ right[:rank])
    assert np.allclose(strong @ strong_right + weak @ weak_right, weight)


def test_bytes_do_not_hang_on_threads_that_share_what_a_training_took_out(
    adapters: Callable[..., Made], tmp_path: Path
) -> None:
    from cuvee.checkpoint import weights_digest

    made = adapters("pissa")
    folders = [merged(made, tmp_path / str(i), **more) for i, more in enumerate(({"threads": 3}, {"chunk": 65_536}))]
    assert len({weights_digest(folder) for folder in folders}) == 1
