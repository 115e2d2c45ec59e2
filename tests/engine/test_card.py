"""What an output says of itself: parents, licences, languages, how to make it again; and what is copied."""

import json
from pathlib import Path

import pytest
import yaml

import cuvee
from adapters.made import write_adapter
from cuvee.checkpoint.model_card import joint_licence, licence_conflict
from cuvee.testing import random_weights, write_model

RECIPE = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate("ab"):
        write_model(tmp_path / name, random_weights(i))
    return tmp_path


def card(model: Path, front: str) -> None:
    (model / "README.md").write_text(f"---\n{front}\n---\n# A model\n", encoding="utf-8")


def front_of(out: Path) -> dict[str, object]:
    text = (out / "README.md").read_text(encoding="utf-8")
    found = yaml.safe_load(text.split("---")[1])
    assert isinstance(found, dict)
    return found


def test_one_licence_is_that_of_the_blend(family: Path) -> None:
    card(family / "a", "license: apache-2.0\nlanguage: [en, de]")
    card(family / "b", "license: apache-2.0\nlanguage: fr")
    made = cuvee.merge(cuvee.recipe_from_text(RECIPE), family / "out")
    front = front_of(made.folder)
    assert front == {
        "library_name": "transformers",
        "tags": ["merge", "cuvee", "linear"],
        "license": "apache-2.0",
        "language": ["en", "de", "fr"],
    }
    text = (made.folder / "README.md").read_text()
    assert "- `a`, apache-2.0; fingerprint of sampled contents of `model.safetensors` `" in text
    assert RECIPE.strip() in text
    assert "cuvee merge recipe.yaml OUT" in text
    assert made.digest in text


def test_licences_in_conflict_are_warned_of(family: Path) -> None:
    card(family / "a", "license: other\nlicense_name: llama3")
    card(family / "b", "license: cc-by-nc-4.0")
    made = cuvee.merge(cuvee.recipe_from_text(RECIPE), family / "out")
    assert "licences differ: llama3 (a), cc-by-nc-4.0 (b)" in made.warnings[0]
    assert "licences differ: llama3 (a), cc-by-nc-4.0 (b)" in (made.folder / "README.md").read_text()
    assert front_of(made.folder)["license"] == "other"


def test_an_adapters_licence_counts_as_well_as_its_bases(family: Path) -> None:
    card(family / "a", "license: apache-2.0")
    write_adapter(family / "change", {"model.layers.0.mlp.up_proj": 2}, seed=0, shape=(48, 32), alpha=4)
    recipe = cuvee.recipe_from_text(RECIPE.replace("model: b", "model: a+change"))
    unstated = cuvee.merge(recipe, family / "unstated")
    assert "license" not in front_of(unstated.folder)
    card(family / "change", "license: cc-by-nc-4.0")
    made = cuvee.merge(recipe, family / "out")
    assert "licences differ: apache-2.0 (a), cc-by-nc-4.0 (change)" in made.warnings[0]
    assert front_of(made.folder)["license"] == "other"
    assert "- `a+change`, apache-2.0, its adapter cc-by-nc-4.0" in (made.folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("stated", "joint", "conflict"),
    [
        (["mit", "mit"], "mit", False),
        (["mit", "apache-2.0", "mit"], ["mit", "apache-2.0"], False),
        (["mit", None], None, False),
        ([None, None], None, False),
        (["gemma", "mit"], "other", True),
        (["gemma", None, "llama3"], None, True),
    ],
)
def test_licences_are_joined(stated: list[str | None], joint: object, conflict: bool) -> None:
    assert joint_licence(stated) == joint
    assert (licence_conflict([str(i) for i in range(len(stated))], stated) is not None) is conflict


@pytest.mark.parametrize("text", ["no front", "---\nlicense: [", "---\n- 1\n---", "\xff", "---\nlicense: {a: b}\n---"])
def test_a_card_that_cannot_be_read_states_nothing_harmful(family: Path, text: str) -> None:
    (family / "a" / "README.md").write_bytes(text.encode("latin-1"))
    assert cuvee.merge(cuvee.recipe_from_text(RECIPE), family / "out").folder.exists()


def test_code_is_copied_only_if_asked_for(family: Path) -> None:
    (family / "a" / "modeling_own.py").write_text("print('hello')")
    recipe = cuvee.recipe_from_text(RECIPE)
    made = cuvee.merge(recipe, family / "out")
    assert not (made.folder / "modeling_own.py").exists()
    assert "a brings code of its own (modeling_own.py), which is not copied" in made.warnings[0]
    asked = cuvee.merge(recipe, family / "with", custom_code=True)
    assert (asked.folder / "modeling_own.py").exists()
    assert asked.warnings == ()


@pytest.mark.parametrize(
    ("generation", "warned_of"),
    [(None, "config.json"), ({"use_cache": False}, "generation_config.json"), ({"use_cache": True}, ""), ({}, "")],
)
def test_a_cache_that_training_turned_off_is_warned_of(
    family: Path, generation: dict[str, bool] | None, warned_of: str
) -> None:
    config = json.loads((family / "a" / "config.json").read_text())
    (family / "a" / "config.json").write_text(json.dumps(config | {"use_cache": False}))
    if generation is not None:
        (family / "a" / "generation_config.json").write_text(json.dumps(generation))
    made = cuvee.merge(cuvee.recipe_from_text(RECIPE), family / "out")
    expected = [f"'use_cache' is false in {warned_of} of a"] if warned_of else []
    assert [warning.split(",")[0] for warning in made.warnings] == expected
