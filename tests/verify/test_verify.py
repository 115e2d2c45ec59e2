"""A sound merge passes; whatever is done to it afterwards is found by the check that is for it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import cuvee  # after the skips
from cuvee.cli import main
from cuvee.errors import CheckpointError
from cuvee.structure import layer_rules
from cuvee.testing import TINY_LLAMA, random_weights, write_model
from cuvee.verify import Verification, verify
from tokenizers_made import byte_level_bpe

CONFIG = {**TINY_LLAMA, "vocab_size": 340}


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    for i, name in enumerate(("a", "b")):
        place = write_model(folder / name, random_weights(i, config=CONFIG), config=CONFIG)
        (place / "tokenizer.json").write_text(byte_level_bpe(size=340))
        (place / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    text = f"merge_method: linear\nmodels: [{{model: {folder / 'a'}}}, {{model: {folder / 'b'}}}]\n"
    cuvee.merge(cuvee.recipe_from_text(text + "parameters: {weight: 0.5}\n"), folder / "out", hash_inputs=True)
    return folder


@pytest.fixture
def own(merged: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; the parents stay where they are."""
    return Path(shutil.copytree(merged / "out", tmp_path / "own"))


def states(found: Verification) -> dict[str, str]:
    return {check.name: check.state for check in found.checks}


def change(own: Path, at: Callable[[np.ndarray], None]) -> None:
    raw = np.memmap(own / "model.safetensors", np.uint8, "r+")
    at(raw[int.from_bytes(raw[:8].tobytes(), "little") + 8 :].view(np.float32))
    raw.flush()


def test_a_sound_merge_passes_every_check(merged: Path) -> None:
    found = verify(merged / "out")
    assert set(states(found).values()) == {"passed"}, found.checks
    assert list(states(found)) == [
        "digest",
        "finite",
        "counts",
        "parents",
        "shapes",
        "layers",
        "norms",
        "loads",
        "sample",
    ]
    assert not found.failed
    assert found.digest == json.loads((merged / "out" / "cuvee.json").read_text())["weights_digest"]


def test_one_flipped_bit_is_found(own: Path) -> None:
    def flip(numbers: np.ndarray) -> None:
        numbers.view(np.uint32)[77] ^= 1

    change(own, flip)
    found = states(verify(own))
    assert found.pop("digest") == "failed"
    assert set(found.values()) == {"passed"}


def test_what_is_no_number_is_found(own: Path) -> None:
    change(own, lambda numbers: numbers.__setitem__(5, np.nan))
    found = verify(own)
    assert states(found)["finite"] == "failed"
    assert "model.embed_tokens.weight" in next(check.found for check in found.checks if check.name == "finite")


def test_a_tensor_that_has_grown_is_found(own: Path) -> None:
    change(own, lambda numbers: np.multiply(numbers, 50, out=numbers))
    assert states(verify(own))["norms"] == "failed"


def test_a_config_that_lies_about_layers_is_found(own: Path) -> None:
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    found = verify(own)
    assert states(found)["loads"] == "failed"
    assert "unexpected keys" in next(check.found for check in found.checks if check.name == "loads")


def test_parents_that_have_changed_are_found(merged: Path, own: Path, tmp_path: Path) -> None:
    parent = Path(shutil.copytree(merged / "a", tmp_path / "a"))
    for name in ("recipe.yaml", "cuvee.json"):
        (own / name).write_text((own / name).read_text().replace(str(merged / "a"), str(parent)))
    assert states(verify(own))["parents"] == "passed"
    change(parent, lambda numbers: numbers.__setitem__(0, 1.0))
    assert states(verify(own))["parents"] == "failed"


def test_without_the_parents_the_rest_is_checked(own: Path) -> None:
    (own / "recipe.yaml").write_text((own / "recipe.yaml").read_text().replace("/a}", "/gone}"))
    found = states(verify(own))
    assert [name for name, state in found.items() if state == "skipped"] == ["parents", "shapes", "layers", "norms"]
    assert not verify(own).failed


def test_a_folder_that_no_merge_wrote_is_refused(merged: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no cuvee\.json to verify against"):
        verify(merged / "a")


def test_the_command_exits_with_3_for_what_failed(
    own: Path, merged: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[Any, str]:
        monkeypatch.setattr("sys.argv", ["cuvee", "verify", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().out

    code, said = run(str(merged / "out"), "--json")
    assert (code, json.loads(said)["passed"]) == (0, True)
    change(own, lambda numbers: numbers.__setitem__(0, 9.0))
    code, said = run(str(own))
    assert code == 3
    assert "the weights have changed" in said


@pytest.fixture
def stacked(tmp_path: Path) -> Path:
    """A stack of layers of which every other one has a window."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    settings = {
        "vocab_size": 70, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4,
    }  # fmt: skip
    Gemma2ForCausalLM(Gemma2Config(**settings)).save_pretrained(tmp_path / "m")
    source = f"{{model: {tmp_path / 'm'}, layer_range: "
    slices = f"[{{sources: [{source}[1, 2]}}]}}, {{sources: [{source}[0, 2]}}]}}]"
    cuvee.merge(cuvee.recipe_from_text(f"merge_method: passthrough\nslices: {slices}\n"), tmp_path / "out")
    return tmp_path / "out"


def test_layers_that_slices_moved_are_of_their_sources_kinds(stacked: Path) -> None:
    found = {check.name: check for check in verify(stacked).checks}
    assert found["layers"].state == "passed"
    assert (
        found["layers"].found
        == "3 layers are of the kinds of their sources, by the rules of its family and transformers"
    )


def test_a_config_that_lies_about_kinds_of_layers_is_found(stacked: Path) -> None:
    file = stacked / "config.json"
    config = json.loads(file.read_text())
    assert config["layer_types"] == ["full_attention", "sliding_attention", "full_attention"]
    file.write_text(json.dumps(config | {"layer_types": ["full_attention"] * 3}))
    found = {check.name: check for check in verify(stacked).checks}
    assert found["layers"].state == "failed"
    assert found["layers"].found.startswith("layer 1 has layer_types full_attention, its source, layer 0 of ")


def test_what_transformers_builds_of_a_layer_counts_too(stacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that is wrong of parent and model alike is found by the modules that transformers makes."""
    file = stacked / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}))
    monkeypatch.setattr("cuvee.verify.layers._by_rules", lambda _: [{}] * 3)
    found = {check.name: check for check in verify(stacked).checks}
    assert found["layers"].state == "failed"
    assert "sliding" in found["layers"].found


def test_a_merge_whose_layers_come_out_otherwise_fails(
    stacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule that is off by one is found by the modules that transformers makes of the written config."""
    file = tmp_path / "m" / "config.json"
    config = {key: value for key, value in json.loads(file.read_text()).items() if key != "layer_types"}
    file.write_text(json.dumps(config))
    known = layer_rules.families()
    (rule,) = known["gemma2"].rules
    wrong = replace(known["gemma2"], rules=(replace(rule, says=rule.says.replace("(i + 1)", "i")),))
    monkeypatch.setattr(layer_rules, "families", lambda: {**known, "gemma2": wrong})
    recipe = str(stacked / "recipe.yaml")
    monkeypatch.setattr("sys.argv", ["cuvee", "merge", recipe, str(tmp_path / "wrong")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 3
    assert "moved layers do not do what they did: layer 0 has" in " ".join(capsys.readouterr().err.split())
