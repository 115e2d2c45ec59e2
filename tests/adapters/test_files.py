"""The files in which adapters lie: shards, and state dicts that were saved as they are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import cuvee
from adapters.conftest import Made, load, logits, peft, quiet, relative_error, torch
from adapters.test_adapted import merged
from cuvee.adapters import open_adapter
from cuvee.adapters.low_rank import Wanted
from cuvee.checkpoint import weights_digest
from cuvee.engine.combine import How
from cuvee.engine.extract import Extraction
from cuvee.errors import CheckpointError

safetensors = pytest.importorskip("safetensors.torch")


def test_an_adapter_in_shards_is_the_same(adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters("plain")
    one = cuvee.combine_adapters([made.adapter], [1.0], tmp_path / "one", How())
    many = cuvee.combine_adapters([made.adapter], [1.0], tmp_path / "many", How(shard_bytes=2000))
    assert one.digest == many.digest
    assert "PEFT 0.21.2 loads adapters of one file alone" in many.warnings[0]
    assert not one.warnings
    assert len(list(many.folder.glob("adapter_model-*.safetensors"))) > 2
    results = [merged(replace(made, adapter=one), tmp_path / str(i)) for i, one in enumerate((one.folder, many.folder))]
    assert len(set(map(weights_digest, results))) == 1


def test_a_missing_shard_is_named(adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters("plain")
    folder = cuvee.combine_adapters([made.adapter], [1.0], tmp_path / "many", How(shard_bytes=2000)).folder
    shard = sorted(folder.glob("adapter_model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=shard.name):
        open_adapter(folder)


def test_what_is_extracted_may_be_in_shards(adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters("plain")
    whole = merged(made, tmp_path / "whole")
    how = Extraction(wanted=Wanted(rank=4), shard_bytes=2000)
    back = cuvee.extract_adapter(whole, made.base, tmp_path / "back", how).folder
    assert relative_error(logits(load(merged(replace(made, adapter=back), tmp_path / "x"))), made.logits) < 1e-5


@pytest.mark.parametrize("kind", ["plain", "dora", "modules_to_save", "tokens", "kasa"])
@pytest.mark.parametrize("inner", [False, True])
def test_a_state_dict_saved_as_it_is_says_the_same(
    kind: str, inner: bool, adapters: Callable[..., Made], tmp_path: Path
) -> None:
    made = adapters(kind)
    with quiet():
        model = peft.PeftModel.from_pretrained(load(made.base), made.adapter)
    module = model.base_model.model if inner else model
    state = module.state_dict()
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "adapter_config.json").write_text((made.adapter / "adapter_config.json").read_text())
    own = {name: tensor.clone() for name, tensor in state.items() if ".default" in name}
    safetensors.save_file(own, raw / "adapter_model.safetensors")
    found = logits(load(merged(replace(made, adapter=raw), tmp_path / "out")))
    assert relative_error(found, made.logits) < 1e-5
    assert torch.isfinite(found).all()
