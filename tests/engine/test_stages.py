"""Recipes in one file that follow one another: the same as by hand, planned whole, cached by content."""

import json
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.catalogue import language
from cuvee.checkpoint import open_checkpoint
from cuvee.cli import main
from cuvee.errors import CuveeError, RecipeError
from cuvee.plan.stages import plan_stages
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.stages import parse_stages
from cuvee.testing import random_weights, write_model

FIRST = """\
name: inner
merge_method: dare_linear
base_model: base
models: [{model: a, parameters: {weight: 1, density: 0.5}}, {model: b, parameters: {weight: 0.5, density: 0.5}}]
"""
SECOND = """\
merge_method: dare_linear
base_model: base
models: [{model: inner, parameters: {weight: 0.5, density: 0.7}}, {model: c, parameters: {weight: 1, density: 1}}]
"""
TWO = f"{FIRST}---\n{SECOND}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    base = random_weights(0)
    write_model(tmp_path / "base", base)
    for i, name in enumerate("abc", 1):
        write_model(tmp_path / name, random_weights(i, base=base))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stages(text: str) -> tuple[Recipe, ...]:
    return parse_stages(text, language(), source="r.yaml")


def test_stages_are_the_same_as_merges_by_hand(here: Path) -> None:
    made = cuvee.merge_stages(stages(TWO), "out")
    cuvee.merge(cuvee.recipe_from_text(FIRST), "inner")
    by_hand = cuvee.merge(cuvee.recipe_from_text(SECOND), "out-2")  # draws depend on the name, which is the same
    assert made.digest == by_hand.digest
    assert sorted(path.name for path in here.glob("*out*")) == ["out", "out-2"]
    assert (here / "out" / "recipe.yaml").read_text() == TWO
    assert not (here / "out" / "mergekit_config.yml").exists()


def test_the_record_tells_of_the_stages(here: Path) -> None:
    cuvee.merge_stages(stages(TWO), "out", folder=Path("kept"))
    record = json.loads((here / "out" / "cuvee.json").read_text())
    (stage,) = record["stages"]
    (kept,) = (here / "kept").iterdir()
    assert kept.name.startswith("inner-")
    assert stage["name"] == "inner"
    assert stage["weights_digest"] == json.loads((kept / "cuvee.json").read_text())["weights_digest"]
    assert [given["model"] for given in stage["inputs"]] == ["base", "a", "b"]


def test_what_a_stage_made_is_used_again_until_its_recipe_or_an_input_changes(here: Path) -> None:
    kept = here / "kept"

    def merged(text: str, out: str) -> set[str]:
        before = set(kept.iterdir()) if kept.exists() else set()
        cuvee.merge_stages(stages(text), out, folder=kept)
        return {path.name for path in set(kept.iterdir()) - before}

    assert len(merged(TWO, "out-1")) == 1
    assert merged(TWO, "out-2") == set()
    assert merged(TWO.replace("density: 0.7", "density: 0.8"), "out-3") == set()  # the second stage's
    assert len(merged(TWO.replace("weight: 0.5, density: 0.5", "weight: 0.4, density: 0.5"), "out-4")) == 1
    raw = np.memmap(here / "a" / "model.safetensors", np.uint8, "r+")
    raw[-1] ^= 1  # the same header, another number
    raw.flush()
    assert len(merged(TWO, "out-5")) == 1


def test_a_later_stage_is_checked_before_the_first_one_runs(here: Path) -> None:
    wrong = SECOND.replace("model: c,", "model: nowhere,")
    with pytest.raises(CuveeError, match="no folder or file 'nowhere'"):
        cuvee.merge_stages(stages(f"{FIRST}---\n{wrong}"), "out")
    assert not list(here.glob(".out*"))


def test_the_digest_of_a_recipe_covers_the_stages_that_it_uses() -> None:
    one, other = stages(TWO)[1], stages(TWO.replace("density: 0.5", "density: 0.6"))[1]
    assert one.digest != other.digest
    assert stages(FIRST)[0].digest == stages(TWO)[0].digest


def test_a_stage_may_be_deeper_than_its_models(here: Path) -> None:
    deeper = """\
name: deeper
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources: [{model: b, layer_range: [1, 3]}]
---
name: other
merge_method: passthrough
slices:
  - sources: [{model: c, layer_range: [0, 2]}]
  - sources: [{model: c, layer_range: [1, 3]}]
---
merge_method: linear
models: [{model: deeper}, {model: other}]
parameters: {weight: 0.5}
"""
    plans = plan_stages(stages(deeper))
    assert [plan.config_changes.get("num_hidden_layers") for plan in plans] == [4, 4, None]
    cuvee.merge_stages(stages(deeper), "out")
    assert json.loads((here / "out" / "config.json").read_text())["num_hidden_layers"] == 4
    name = "model.layers.3.mlp.up_proj.weight"
    with open_checkpoint(here / "out") as out, open_checkpoint(here / "b") as b, open_checkpoint(here / "c") as c:
        third = name.replace("3", "2")
        np.testing.assert_allclose(out.read(name), (b.read(third) + c.read(third)) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TWO.replace("name: inner\n", ""), r"r\.yaml:1: a stage needs a 'name'"),
        (f"{FIRST}---\n{FIRST}", r"r\.yaml:6: two stages have the name 'inner'"),
        (f"{FIRST.replace('model: a', 'model: last')}---\nname: last\n{SECOND}", "'last' is made by a later stage"),
        (f"{FIRST.replace('model: a', 'model: inner')}---\n{SECOND}", "a stage uses itself"),
        (TWO.replace("name: inner", "name: ../inner"), "a stage's name is of letters"),
        (f"{FIRST}---\n{SECOND.replace('merge_method', 'merge_metod')}", r"r\.yaml:6: unknown key 'merge_metod'"),
    ],
)
def test_what_is_wrong_with_the_stages_is_told_with_its_line(text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        stages(text)


def test_a_name_that_is_a_folder_too_is_refused(here: Path) -> None:
    (here / "inner").mkdir()
    with pytest.raises(RecipeError, match="'inner' is both an earlier stage and a folder"):
        cuvee.merge_stages(stages(TWO), "out")


def test_a_single_recipe_is_asked_for_where_one_is_needed(here: Path) -> None:
    (here / "r.yaml").write_text(TWO)
    with pytest.raises(RecipeError, match="expected one recipe, found 2 stages"):
        cuvee.load_recipe("r.yaml")


def test_the_commands_show_and_merge_all_stages(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "r.yaml").write_text(TWO)

    def run(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["cuvee", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    said = run("plan", "r.yaml")
    assert "stage 1 of 2: inner" in said
    assert "stage 2 of 2: the output" in said
    assert "inner  ->  an earlier stage" in said
    assert [plan["name"] for plan in json.loads(run("plan", "r.yaml", "--json"))["stages"]] == ["inner", None]
    assert run("merge", "r.yaml", "out", "--stages", "kept").startswith("weights digest")
    assert len(list((here / "kept").iterdir())) == 1
