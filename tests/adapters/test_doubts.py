"""An adapter that does nothing, or not what its config says, is used with a warning."""

import json
from pathlib import Path

import numpy as np
import pytest

import cuvee
from adapters.made import PREFIX, write_adapter, write_tensors
from cuvee.adapters import open_adapter
from cuvee.errors import CheckpointError
from cuvee.testing import TINY_LLAMA, llama_shapes, random_weights, write_model

SHAPES = {n.removesuffix(".weight"): s for n, s in llama_shapes(TINY_LLAMA).items() if "q_proj" in n}


def warnings_of(folder: Path, ranks: dict[str, int], **config: object) -> str:
    """Plan a base with an adapter, and return the warnings."""
    base = write_model(folder / "org" / "base", random_weights(0))
    settings = {"target_modules": ["q_proj"], "base_model_name_or_path": "hub/base", **config}
    adapter = write_adapter(folder / "a", ranks, seed=1, shape=SHAPES, alpha=8, **settings)
    recipe = f"merge_method: passthrough\nmodels: [{{model: '{base}+{adapter}'}}]\n"
    return "\n".join(cuvee.make_plan(cuvee.recipe_from_text(recipe)).warnings)


def test_a_whole_adapter_of_this_base_has_no_warning(tmp_path: Path) -> None:
    assert "adapter" not in warnings_of(tmp_path, dict.fromkeys(SHAPES, 4))


def test_layers_that_are_named_and_lacking_are_told(tmp_path: Path) -> None:
    found = warnings_of(tmp_path, dict.fromkeys(list(SHAPES)[1:], 4))
    assert f"config names '{next(iter(SHAPES))}.weight'" in found
    assert "for which it holds nothing" in found


def test_layers_that_are_not_to_be_transformed_may_lack(tmp_path: Path) -> None:
    assert "holds nothing" not in warnings_of(tmp_path, dict.fromkeys(list(SHAPES)[1:], 4), layers_to_transform=[1, 2])


def test_another_base_by_its_name_is_told(tmp_path: Path) -> None:
    found = warnings_of(tmp_path, dict.fromkeys(SHAPES, 4), base_model_name_or_path="org/other-7b")
    assert "names org/other-7b as its base" in found


def test_the_plain_name_of_a_quantised_base_is_no_other(tmp_path: Path) -> None:
    found = warnings_of(tmp_path, dict.fromkeys(SHAPES, 4), base_model_name_or_path="unsloth/base-bnb-4bit")
    assert "as its base" not in found


@pytest.mark.parametrize("how", ["zero B", "zero alpha"])
def test_an_adapter_that_changes_nothing_is_told(how: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    warnings_of(tmp_path, dict.fromkeys(SHAPES, 4))
    file = tmp_path / "a" / "adapter_model.safetensors"
    config = tmp_path / "a" / "adapter_config.json"
    if how == "zero B":
        save_file({n: t * (0 if "lora_B" in n else 1) for n, t in load_file(file).items()}, file)
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 0}))
    recipe = f"merge_method: passthrough\nmodels: [{{model: '{tmp_path}/org/base+{tmp_path}/a'}}]\n"
    found = cuvee.make_plan(cuvee.recipe_from_text(recipe)).warnings
    assert any("changes nothing" in warning for warning in found)


def test_what_transformers_reads_past_an_adapter_is_told(tmp_path: Path) -> None:
    from families.zoo import FAMILIES

    FAMILIES["mamba"]().save_pretrained(tmp_path / "base")
    mixer = "backbone.layers.0.mixer.dt_proj"
    adapter = write_adapter(tmp_path / "a", {mixer: 2}, seed=1, shape=(64, 2), alpha=8)
    recipe = f"merge_method: passthrough\nmodels: [{{model: '{tmp_path}/base+{adapter}'}}]\n"
    found = cuvee.make_plan(cuvee.recipe_from_text(recipe)).warnings
    assert any(f"reads '{mixer}.weight' past an adapter" in warning for warning in found)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_embedding_that_neither_side_reads_is_refused(family: str, ties: bool, tmp_path: Path) -> None:
    """PEFT wraps that module alone, while both sides read the weights that it ties to their own."""
    from families.zoo import FAMILIES

    FAMILIES[family]().save_pretrained(tmp_path / "base")
    module = f"{PREFIX}{'model.' if family == 'bart' else ''}shared"
    factors = {f"{module}.lora_embedding_A": np.ones((2, 64)), f"{module}.lora_embedding_B": np.ones((32, 2))}
    config = {"peft_type": "LORA", "r": 2, "target_modules": ["shared"], "ensure_weight_tying": ties}
    write_tensors(tmp_path / "a", factors, config)
    with pytest.raises(CheckpointError, match="past PEFT's wrapper"):
        cuvee.apply_adapter(tmp_path / "base", tmp_path / "a", tmp_path / "out")


def test_patterns_at_odds_are_told(tmp_path: Path) -> None:
    """PEFT sorts them when it saves: the first in the file need not be the first of the training."""
    patterns = {".*q_proj": 3, "q_proj": 20}
    found = warnings_of(tmp_path, dict.fromkeys(SHAPES, 4), alpha_pattern=patterns)
    assert "several patterns of alpha_pattern match" in found


def test_patterns_that_agree_are_not_told(tmp_path: Path) -> None:
    patterns = {".*q_proj": 20, "q_proj": 20, "v_proj": 3}
    assert "alpha_pattern" not in warnings_of(tmp_path, dict.fromkeys(SHAPES, 4), alpha_pattern=patterns)


def test_of_several_adapters_one_must_be_named(tmp_path: Path) -> None:
    write_adapter(tmp_path / "bank" / "second", dict.fromkeys(SHAPES, 4), seed=1, shape=SHAPES, alpha=8)
    with pytest.raises(CheckpointError) as raised:
        open_adapter(tmp_path / "bank")
    assert raised.value.hint == "name one of the adapters in it: second"


def test_a_head_of_a_task_is_asked_of_the_base(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", random_weights(0))
    module = next(iter(SHAPES))
    tensors = {
        f"{PREFIX}{module}.lora_A.weight": np.ones((2, SHAPES[module][1])),
        f"{PREFIX}{module}.lora_B.weight": np.ones((SHAPES[module][0], 2)),
        f"{PREFIX}score.weight": np.ones((3, 8)),
    }
    config = {"peft_type": "LORA", "task_type": "SEQ_CLS", "r": 2, "target_modules": ["q_proj"]}
    write_tensors(tmp_path / "a", tensors, {**config, "modules_to_save": ["score"]})
    with pytest.raises(CheckpointError) as raised:
        cuvee.apply_adapter(base, tmp_path / "a", tmp_path / "out")
    assert "a head for SEQ_CLS" in str(raised.value)
