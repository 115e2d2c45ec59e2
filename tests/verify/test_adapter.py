"""What `cuvee adapters extract` writes is loaded by PEFT once, and a wrong adapter is not left under its name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cuvee.adapters.low_rank import Wanted
from cuvee.engine.extract import Extraction
from cuvee.errors import CheckpointError, EvaluationError
from cuvee.verify import adapter as checks
from cuvee.verify.adapter import check_adapter, extract_checked
from families.zoo import FAMILIES

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

WHOLE = Extraction(wanted=Wanted(energy=1.0))


@pytest.fixture(scope="module", params=["mixtral", "t5"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write a base and a fine-tune of which two matrices have changed."""
    torch.manual_seed(0)
    model = FAMILIES[request.param]()
    folder = tmp_path_factory.mktemp("pair")
    model.save_pretrained(folder / "base")
    names = [name for name, parameter in model.named_parameters() if parameter.ndim == 2][1:6:4]
    with torch.no_grad():
        for name in names:
            parameter = model.get_parameter(name)
            parameter += torch.randn_like(parameter) * 0.1
    model.save_pretrained(folder / "tuned")
    return folder / "tuned", folder / "base"


def test_an_adapter_of_the_whole_change_passes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    result, found = extract_checked(*pair, tmp_path / "a", WHOLE)
    assert found is not None
    assert (found.state, result.folder) == ("passed", tmp_path / "a")
    assert found.error is not None
    assert found.base is not None
    assert found.error < 1e-5 < found.base


def test_what_is_lost_is_told_beside_the_base(pair: tuple[Path, Path], tmp_path: Path) -> None:
    _, found = extract_checked(*pair, tmp_path / "a", Extraction(wanted=Wanted(rank=2)))
    assert found is not None
    assert found.state == "passed"
    assert found.error is not None
    assert found.error > 1e-4
    assert "the base's are" in found.found


def test_an_adapter_that_computes_something_else_is_set_aside(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = checks.extract_adapter

    def spoilt(*given: object, **more: object) -> object:
        result = written(*given, **more)  # type: ignore[arg-type]  # as it was called
        config = result.folder / "adapter_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 1, "alpha_pattern": {}}))
        return result

    monkeypatch.setattr(checks, "extract_adapter", spoilt)
    with pytest.raises(CheckpointError, match="the adapter is wrong: run by PEFT"):
        extract_checked(*pair, tmp_path / "a", WHOLE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.wrong"]


def test_tensors_that_peft_does_not_know_fail(pair: tuple[Path, Path], tmp_path: Path) -> None:
    extract_checked(*pair, tmp_path / "a", WHOLE, check=False)
    config = tmp_path / "a" / "adapter_config.json"
    known = json.loads(config.read_text())
    config.write_text(json.dumps(known | {"target_modules": ["lm_head"], "target_parameters": None}))
    found = check_adapter(tmp_path / "a", pair[1], pair[0], is_whole=False)
    assert found.state == "failed"
    assert "tensors are astray" in found.found


def test_without_peft_nothing_is_checked_unless_asked(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert extract_checked(*pair, tmp_path / "a", WHOLE)[1] is None
    with pytest.raises(EvaluationError, match="written and not checked"):
        extract_checked(*pair, tmp_path / "b", WHOLE, check=True)


def test_a_model_too_large_to_load_beside_others_is_not_checked_by_itself(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory: Callable[[], int] = lambda: 1000  # noqa: E731  # a name for the type
    monkeypatch.setattr(checks, "_memory_at_hand", memory)
    found = extract_checked(*pair, tmp_path / "a", WHOLE)[1]
    assert found is not None
    assert found.state == "skipped"
    assert "--check asks for it" in found.found
