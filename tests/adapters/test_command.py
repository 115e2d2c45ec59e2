"""`cuvee adapters` from the command line, and the benchmark in its small form."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.made import read_changes, write_adapter
from cuvee.cli import main
from cuvee.testing import TINY_LLAMA, llama_shapes, random_weights, write_model

SHAPES = {n.removesuffix(".weight"): s for n, s in llama_shapes(TINY_LLAMA).items() if "q_proj" in n}
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "adapters.py"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base and two adapters in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "base", random_weights(0))
    for seed, name in enumerate(("math", "code")):
        write_adapter(tmp_path / name, dict.fromkeys(SHAPES, 4), seed=seed, shape=SHAPES, alpha=8)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["cuvee", "adapters", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_combine_apply_and_extract_lead_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "combine", "math", "code", "--weights", "0.6,0.4", "--out", "both", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["energy_discarded"] < 1e-12
    assert {module["rank"] for module in told["modules"]} == {8}
    assert run(monkeypatch, "apply", "base", "both", "full", "--json") == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "full"
    assert run(monkeypatch, "extract", "full", "base", "back", "--rank", "8") == 0
    assert "weights digest" in capsys.readouterr().out
    both, back = read_changes(folder / "both"), read_changes(folder / "back")
    assert all(abs(both[module] - back[module]).max() < 1e-5 for module in both)
    record = json.loads((folder / "both" / "cuvee.json").read_text())
    assert record["weights"] == [0.6, 0.4]
    assert [one["model"] for one in record["inputs"]] == ["math", "code"]


def test_compare_shows_the_pair(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "compare", "math", "code") == 0
    assert "1 and 2" in capsys.readouterr().out


def test_a_bank_is_listed_with_energies_and_what_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "odd").mkdir()
    (folder / "odd" / "adapter_config.json").write_text('{"peft_type": "P_TUNING"}')
    assert run(monkeypatch, "list", ".", "--json") == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert list(listed) == ["code", "math", "odd"]
    expected = sum((change**2).sum() for change in read_changes(folder / "math").values())
    assert listed["math"]["energy"] == pytest.approx(expected, rel=1e-5)
    assert (listed["math"]["kind"], listed["math"]["ranks"], listed["math"]["modules"]) == ("LORA", [4], len(SHAPES))
    assert "puts learnt vectors before the text" in listed["odd"]["problem"]
    assert run(monkeypatch, "list", "math") == 0
    assert "LORA" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["combine", "math", "code", "--weights", "1", "--out", "x"], 2, "a weight for each of 2 adapters, found 1"),
        (["combine", "math", "code", "--weights", "a", "--out", "x"], 2, "--weights: expected numbers"),
        (["combine", "math", "--method", "tiess", "--out", "x"], 2, "did you mean 'ties'?"),
        (["combine", "math", "--space", "flat", "--out", "x"], 2, "expected dense, knots or core"),
        (["combine", "math", "--method", "ties", "--set", "densty=1", "--out", "x"], 2, "did you mean 'density'?"),
        (["combine", "base", "--out", "x"], 3, "expected adapter_config.json, found none"),
        (["combine", "math", "--out", "base"], 2, "the output exists already"),
        (["extract", "base", "base", "x"], 3, "there is nothing to extract"),
        (["extract", "base", "base", "x", "--rank", "4", "--budget", "9"], 2, "it goes with neither"),
        (["list", "base"], 3, "expected adapters in folders, found none"),
        (["apply", "base", "nowhere", "x"], 3, "no folder 'nowhere'"),
    ],
)
def test_mistakes_are_told(
    words: list[str], code: int, complaint: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(monkeypatch, *words) == code
    assert complaint in capsys.readouterr().err
    assert not (folder / "x").exists()


def test_the_benchmark_runs_in_its_small_form(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), str(tmp_path), "--small", "--one", "geometric_median"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["discarded"] < 1e-9
