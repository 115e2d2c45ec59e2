"""`modules`: each part of a model merged its way; of a model of one part, the same as without."""

from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import open_checkpoint
from cuvee.errors import CuveeError
from cuvee.testing import random_weights, write_model

LANGUAGE = "model.language_model.layers.0.mlp.up_proj.weight"
VISION = "model.vision_tower.encoder.layers.0.mlp.fc1.weight"
PROJECTOR = "model.multi_modal_projector.linear_1.weight"
CONFIG = {"model_type": "llava", "text_config": {"vocab_size": 64}, "vision_config": {"image_size": 8}}
WHOLE = "models: [{model: a}, {model: b}]"
PARTS = f"""\
merge_method: linear
modules:
  text_decoder: {{models: [{{model: a, parameters: {{weight: 0.9}}}}, {{model: b, parameters: {{weight: 0.1}}}}]}}
  vision_tower: {{{WHOLE}, parameters: {{weight: 0.5}}}}
  multi_modal_projector: {{{WHOLE}}}
parameters: {{weight: [0.25, 0.25]}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, np.ndarray]]:
    monkeypatch.chdir(tmp_path)
    generator, made = np.random.default_rng(0), {}
    for name in "ab":
        made[name] = {n: generator.normal(size=(4, 6)).astype(np.float32) for n in (LANGUAGE, VISION, PROJECTOR)}
        write_model(tmp_path / name, made[name], config=CONFIG)
    return made


def test_each_module_is_merged_with_its_own_numbers(here: dict[str, dict[str, np.ndarray]], tmp_path: Path) -> None:
    cuvee.merge(cuvee.recipe_from_text(PARTS), "out")
    a, b = here["a"], here["b"]
    with open_checkpoint(tmp_path / "out") as out:
        np.testing.assert_allclose(out.read(LANGUAGE), 0.9 * a[LANGUAGE] + 0.1 * b[LANGUAGE], atol=1e-6)
        np.testing.assert_allclose(out.read(VISION), (a[VISION] + b[VISION]) / 2, atol=1e-6)
        np.testing.assert_allclose(out.read(PROJECTOR), (a[PROJECTOR] + b[PROJECTOR]) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("  multi_modal_projector: {models: [{model: a}, {model: b}]}\n", ""),
            "has no module 'projector', which a has",
        ),
        (("vision_tower:", "audio_tower:"), "a has no module 'audio'"),
        (("vision_tower:", "visions:"), "unknown module 'visions'"),
        (("{models: [{model: a}, {model: b}]}", "{models: [{model: a}]}"), "every module needs the same models"),
        (("{models: [{model: a}, {model: b}]}", "{}"), "needs exactly one of 'models' and 'slices'"),
        (("{models: [{model: a}, {model: b}]}", "{model: a}"), "unknown key 'modules.multi_modal_projector.model'"),
    ],
)
def test_what_does_not_fit_is_told(here: dict[str, dict[str, np.ndarray]], change: tuple[str, str], words: str) -> None:
    with pytest.raises(CuveeError, match=words):
        cuvee.make_plan(cuvee.recipe_from_text(PARTS.replace(*change)))


def test_a_single_module_is_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate("ab"):
        write_model(tmp_path / name, random_weights(i))
    cut = "[{sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [1, 3]}], parameters: {weight: 0.3}}]"
    plain = f"merge_method: linear\nslices: {cut}\nparameters: {{weight: 0.5}}\n"
    within = f"merge_method: linear\nmodules: {{default: {{slices: {cut}}}}}\nparameters: {{weight: 0.5}}\n"
    lower = within.replace("}]}}", "}], parameters: {weight: 0.7}}}")  # a slice's own weight goes first
    plans = [cuvee.make_plan(cuvee.recipe_from_text(text)) for text in (plain, within, lower)]
    steps = [[(step.name, step.settings) for step in plan.steps] for plan in plans]
    assert steps[0] == steps[1] == steps[2]
    assert len(steps[0]) == 2 * 9 + 3
