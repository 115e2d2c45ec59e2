"""What a person sees when something is wrong: one clear error, the exit code of its kind, and no output."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cuvee.cli import main
from cuvee.testing import TINY_LLAMA, random_weights, write_model

RECIPE = """\
merge_method: ties
base_model: base
models:
  - model: a
    parameters:
      density: 0.5
  - model: b
parameters:
  weight: 1.0
dtype: bfloat16
"""


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    base = random_weights(0)
    for i, name in enumerate(("base", "a", "b")):
        write_model(tmp_path / name, random_weights(i, base=base) if i else base, dtype="BF16", shard_bytes=40_000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cuvee", *arguments])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def truncate(family: Path) -> None:
    shard = max((family / "a").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1000])


def remove(family: Path) -> None:
    (family / "b").rename(family / "elsewhere")


def reshape(family: Path) -> None:
    weights = random_weights(1, config={**TINY_LLAMA, "intermediate_size": 64})
    write_model(family / "other", weights, dtype="BF16")
    (family / "b").rename(family / "elsewhere")
    (family / "other").rename(family / "b")


def poison(family: Path) -> None:
    weights = random_weights(1)
    weights["lm_head.weight"][0, 5] = np.nan
    write_model(family / "other", weights, dtype="BF16")
    (family / "b").rename(family / "elsewhere")
    (family / "other").rename(family / "b")


def nothing(family: Path) -> None:
    pass


CASES = {
    "key": (
        2,
        RECIPE.replace("dtype:", "dtpe:"),
        nothing,
        ["recipe.yaml:10", "unknown key 'dtpe'", "did you mean 'dtype'"],
    ),
    "method": (2, RECIPE.replace("ties", "tise"), nothing, ["recipe.yaml:1", "unknown merge method 'tise'", "'ties'"]),
    "setting": (
        2,
        RECIPE.replace("density", "densty"),
        nothing,
        ["recipe.yaml:6", "no parameter 'densty'", "'density'"],
    ),
    "range": (2, RECIPE.replace("0.5", "1.5"), nothing, ["recipe.yaml:6", "expected a number in [0, 1], found 1.5"]),
    "folder": (3, RECIPE, remove, ["b", "no folder or file 'b'"]),
    "truncated": (3, RECIPE, truncate, ["a/model-0000", "truncated in '", "hint:"]),
    "shape": (3, RECIPE, reshape, ["different shapes", "[64, 32] in b", "[48, 32] in "]),
    "nan": (3, RECIPE, poison, ["lm_head.weight' holds nan at element 5", "--allow-nonfinite"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_clear_error_with_the_code_of_its_kind(
    case: str, family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, recipe, spoil, words = CASES[case]
    (family / "recipe.yaml").write_text(recipe)
    spoil(family)
    assert run(monkeypatch, "merge", "recipe.yaml", "out") == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    assert all(word in said.err for word in words), said.err
    assert not [path for path in family.iterdir() if "out" in path.name]


def test_all_mistakes_of_an_author_are_told_at_once(
    family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = RECIPE.replace("dtype:", "dtpe:").replace("density", "densty").replace("weight: 1.0", "weight: heavy")
    (family / "recipe.yaml").write_text(text)
    assert run(monkeypatch, "plan", "recipe.yaml") == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("3 problems", "'dtpe'", "'densty'", "expected a number, found 'heavy'"))


def test_json_is_one_document_on_stdout(
    family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (family / "recipe.yaml").write_text(RECIPE)
    commands = (["plan", "recipe.yaml"], ["merge", "recipe.yaml", "out"], ["methods"], ["methods", "ties"])
    for command in commands:
        assert run(monkeypatch, *command, "--json") == 0
        assert json.loads(capsys.readouterr().out)
    assert run(monkeypatch, "recipe-schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Cuvée recipe"


def test_a_wrong_option_is_the_authors_mistake(
    family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (family / "recipe.yaml").write_text(RECIPE)
    for wrong in (["--memory", "lots"], ["--no-such-option"], ["--threads", "-3"]):
        assert run(monkeypatch, "merge", "recipe.yaml", "out", *wrong) == 2
    assert run(monkeypatch, "merge", "recipe.yaml", "out", "--memory", "1kB") == 75
    assert run(monkeypatch, "evaluate", "base", "no-such-task") in (2, 3)
    assert "Traceback" not in capsys.readouterr().err


def test_settings_that_no_tensor_can_use_are_told_once(
    family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: -1}}]"
    (family / "recipe.yaml").write_text(f"merge_method: linear\n{models}\n")
    assert run(monkeypatch, "plan", "recipe.yaml") == 2
    assert capsys.readouterr().err.count("sum to zero") == 1


def test_a_formula_is_shown_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "methods", "ties") == 0
    assert "mᵢ = [sign" in capsys.readouterr().out


def test_parts_and_their_join_speak_of_what_is_missing(
    family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (family / "recipe.yaml").write_text(RECIPE)
    for wrong in ("3/2", "0/2", "1", "a/b"):
        assert run(monkeypatch, "merge", "recipe.yaml", "out", "--part", wrong) == 2
        assert f"--part: expected a part such as 1/3, 2/3 or 3/3, found '{wrong}'" in capsys.readouterr().err
    assert run(monkeypatch, "merge", "recipe.yaml", "out", "--part", "1/2") == 0
    assert "missing parts: 2/2" in capsys.readouterr().out
    assert run(monkeypatch, "join", "out") == 3
    assert "part 2/2 is missing" in capsys.readouterr().err
    assert run(monkeypatch, "merge", "recipe.yaml", "out", "--part", "2/2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["missing"] == []
    assert run(monkeypatch, "join", "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "out"


SLIPS = """\
merge_method: slerp
base_model: base
models:
  - model: base
  - model: a
    parameters: {weight: 0.5}
parameters: {t: "0.5"}
dtype: bfloat16
"""


def test_slips_that_mergekit_passes_over_are_warnings_and_errors_with_strict(
    family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (family / "r.yaml").write_text(SLIPS)
    unused = "'slerp' takes no parameter 'weight'"
    quoted = "'t' of 'slerp' is a number in quotes"
    for words in (("merge", "r.yaml", "out"), ("plan", "r.yaml")):
        assert run(monkeypatch, *words, "--strict") == 2
        refused = capsys.readouterr().err
        assert f"r.yaml:6: {unused}" in refused
        assert f"r.yaml:7: {quoted}" in refused
        assert not (family / "out").exists()
    assert run(monkeypatch, "merge", "r.yaml", "out") == 0
    merged = capsys.readouterr().err
    assert f"warning: {unused}: it is ignored, as in mergekit (r.yaml:6)" in merged
    assert f"warning: {quoted}: it is read as one, as in mergekit (r.yaml:7)" in merged
    assert run(monkeypatch, "plan", "r.yaml", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["warnings"]) == 2
