"""A model that was saved with an adapter inside becomes the plain model that computes the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.conftest import RANK, Made, load, logits, peft, quiet, relative_error
from adapters.conftest import train as train_lora
from adapters.kinds_of_peft import VARIANTS, train
from cuvee.checkpoint import open_checkpoint
from cuvee.cli import main
from cuvee.engine.bake import bake_adapter
from cuvee.errors import CheckpointError

safetensors = pytest.importorskip("safetensors.torch")
INSIDE = ("plain", "rslora", "dora", "embeddings", "bias of B", "modules_to_save", "tokens", "pissa", "kasa", "olora")


def saved_whole(made: Made, folder: Path, *, inner: bool = False, config: bool = True) -> Path:
    """Save a model of PEFT as a state dict, with the base's config."""
    with quiet():
        model = peft.PeftModel.from_pretrained(load(made.base), made.adapter)
    state = (model.base_model.model if inner else model).state_dict()
    folder.mkdir()
    own = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    safetensors.save_file(own, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(made.base / "config.json", folder)
    if config:
        shutil.copy(made.adapter / "adapter_config.json", folder)
    return folder


@pytest.mark.parametrize("kind", INSIDE)
def test_the_plain_model_computes_the_same(kind: str, adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters(kind)
    out = bake_adapter(saved_whole(made, tmp_path / "inside", inner=kind == "plain"), tmp_path / "out").folder
    extra = set(open_checkpoint(out).tensors) - set(open_checkpoint(made.base).tensors)
    assert extra <= {"lm_head.weight"}  # of a tied base, whose state dict has it twice
    assert relative_error(logits(load(out)), made.logits) < 1e-5
    record = json.loads((out / "cuvee.json").read_text())
    assert record["kind"] == "bake"


def test_a_start_that_nothing_tells_is_in_the_numbers(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("llama")
    settings = {**RANK, "target_modules": ["q_proj"], "init_lora_weights": "pissa_niter_4"}
    with quiet():
        train_lora(base, tmp_path / "adapter", 0, settings)
        model = peft.PeftModel.from_pretrained(load(base), tmp_path / "adapter")
    (tmp_path / "inside").mkdir()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    safetensors.save_file(state, tmp_path / "inside" / "model.safetensors")
    shutil.copy(base / "config.json", tmp_path / "inside")
    shutil.copy(tmp_path / "adapter" / "adapter_config.json", tmp_path / "inside")
    out = bake_adapter(tmp_path / "inside", tmp_path / "out").folder
    assert relative_error(logits(load(out)), logits(model)) < 1e-5


def test_without_a_config_the_alpha_must_be_given(
    adapters: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = adapters("plain")
    inside = saved_whole(made, tmp_path / "inside", config=False)
    with pytest.raises(CheckpointError, match="nothing tells the adapter's scale"):
        bake_adapter(inside, tmp_path / "x")
    words = ["cuvee", "adapters", "bake", str(inside), str(tmp_path / "out"), "--alpha", "6"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "weights digest" in capsys.readouterr().out
    assert relative_error(logits(load(tmp_path / "out")), made.logits) < 1e-5


def test_other_contents_are_refused(
    adapters: Callable[..., Made], bases: Callable[[str], Path], tmp_path: Path
) -> None:
    made = adapters("plain")
    with pytest.raises(CheckpointError, match="has no adapter inside"):
        bake_adapter(made.base, tmp_path / "x", alpha=1)
    shutil.copytree(made.adapter, tmp_path / "alone")
    (tmp_path / "alone" / "adapter_model.safetensors").rename(tmp_path / "alone" / "model.safetensors")
    with pytest.raises(CheckpointError, match="an adapter alone, without a base"):
        bake_adapter(tmp_path / "alone", tmp_path / "x")
    other = train(bases("biased"), tmp_path / "shira", "SHIRA", VARIANTS["SHIRA"][""])
    with pytest.raises(CheckpointError, match="does not fit"):  # a state dict has no places of its numbers
        bake_adapter(saved_whole(other, tmp_path / "inside"), tmp_path / "x")


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("kind", ["ADALORA", "VERA", "TINYLORA", "GLORA", "LN_TUNING", "OSF"])
def test_another_kind_is_taken_out_as_peft_computes(
    kind: str, inner: bool, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    made = train(bases("biased"), tmp_path / "adapter", kind, VARIANTS[kind][""])
    out = bake_adapter(saved_whole(made, tmp_path / "inside", inner=inner), tmp_path / "out").folder
    assert set(open_checkpoint(out).tensors) == set(open_checkpoint(made.base).tensors)
    assert relative_error(logits(load(out)), made.logits) < 1e-5


def test_a_tensor_that_no_such_adapter_has_is_refused(bases: Callable[[str], Path], tmp_path: Path) -> None:
    made = train(bases("biased"), tmp_path / "adapter", "LOHA", VARIANTS["LOHA"][""])
    inside = saved_whole(made, tmp_path / "inside")
    tensors = safetensors.load_file(inside / "model.safetensors")
    name = next(name for name in tensors if ".hada_w1_a." in name)
    tensors[name.replace("hada_w1_a", "hada_t9")] = tensors[name].clone()
    safetensors.save_file(tensors, inside / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="nothing that such an adapter is known to have"):
        bake_adapter(inside, tmp_path / "x")
