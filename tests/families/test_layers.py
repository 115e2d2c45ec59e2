"""Layers that slices move compute what they computed in their model, or the recipe is refused."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import cuvee  # noqa: E402  # after the skip
from cuvee.errors import CuveeError  # noqa: E402
from cuvee.structure import layer_rules  # noqa: E402

from .deep import DEEP, LAYERS, SEEING  # noqa: E402
from .layerwise import Source, random_ranges, written, wrong_layers  # noqa: E402

RECIPES = 20

Saved = Callable[..., Source]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Give a saved model of a family, one of several."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # more only wait for one another: the models are tiny
    made: dict[tuple[str, int], Source] = {}

    def make(family: str, seed: int = 0) -> Source:
        if (family, seed) not in made:
            made[family, seed] = written((DEEP | SEEING)[family], tmp_path_factory.mktemp("model") / "m", seed)
        return made[family, seed]

    return make


def wrongs(source: Source, family: str, folder: Path) -> list[tuple[list[tuple[int, int]], list[str]]]:
    """Stack layers of a family at random; return the recipes that are not refused, and what is wrong with each."""
    draw = random.Random(family)
    results = []
    for number in range(RECIPES):
        ranges = random_ranges(draw, LAYERS)
        wrong = wrong_layers(source, ranges, folder / str(number))
        if not isinstance(wrong, str):
            results.append((ranges, wrong))
    return results


@pytest.mark.parametrize("family", DEEP | SEEING)
def test_moved_layers_compute_what_they_did_or_the_recipe_is_refused(family: str, saved: Saved, tmp_path: Path) -> None:
    for ranges, wrong in wrongs(saved(family), family, tmp_path):
        assert not wrong, ranges


@pytest.mark.parametrize(
    ("family", "model_type", "wrong_rule"),
    [
        ("gemma 2", "gemma2", "'full_attention' if i % 2 == 0 else 'sliding_attention'"),
        ("olmo 3", "olmo3", "'sliding_attention' if i % 4 != 0 else 'full_attention'"),
        ("qwen 2 with windows", "qwen2", "'sliding_attention' if i > max_window_layers else 'full_attention'"),
    ],
)
def test_a_rule_that_is_off_by_one_is_found(
    family: str,
    model_type: str,
    wrong_rule: str,
    saved: Saved,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = layer_rules.families()
    (rule,) = known[model_type].rules
    wrong = dataclasses.replace(known[model_type], rules=(dataclasses.replace(rule, says=wrong_rule),))
    monkeypatch.setattr(layer_rules, "families", lambda: {**known, model_type: wrong})
    assert any(wrong for _, wrong in wrongs(saved(family), family, tmp_path))


def merged(out: Path, *models: Path) -> Path | None:
    """Merge models by their mean; None where that is refused."""
    listed = ", ".join(f"{{model: {model}}}" for model in models)
    text = f"merge_method: linear\nmodels: [{listed}]\nparameters: {{weight: 1}}\nmissing: base\n"
    try:
        cuvee.merge(cuvee.recipe_from_text(text), out)
    except CuveeError:
        return None
    return out


def parameters(source: Source, folder: Path) -> dict[str, Any]:
    model, report = source.loaded(folder)
    assert not any(report.values()), report
    return dict(model.named_parameters(remove_duplicate=False))


@pytest.mark.parametrize("family", DEEP)
def test_a_model_and_one_without_its_head_are_merged_where_they_agree(
    family: str, saved: Saved, tmp_path: Path
) -> None:
    first, second = saved(family), saved(family, 1)
    model = second.loaded()[0]
    model.base_model.save_pretrained(tmp_path / "bare")
    out = merged(tmp_path / "out", first.folder, tmp_path / "bare")
    if out is None:
        return
    prefix = f"{model.base_model_prefix}." if model.base_model is not model else ""
    lacking = {f"{prefix}{name}": number for name, number in model.base_model.named_parameters()}
    whole, result = parameters(first, first.folder), first.loaded(out)[0]
    assert set(parameters(first, out)) == set(whole)
    for name, number in result.named_parameters():  # a tied head is named once, as the embedding
        expected = (whole[name] + lacking[name]) / 2 if name in lacking else whole[name]
        assert torch.allclose(number, expected, rtol=0, atol=1e-6), name


@pytest.mark.parametrize("family", DEEP)
def test_three_models_of_a_deep_family_give_their_mean(family: str, saved: Saved, tmp_path: Path) -> None:
    sources = [saved(family, seed) for seed in range(3)]
    out = merged(tmp_path / "out", *(source.folder for source in sources))
    assert out is not None
    parents = [parameters(source, source.folder) for source in sources]
    for name, number in parameters(sources[0], out).items():
        mean = (parents[0][name] + parents[1][name] + parents[2][name]) / 3
        assert torch.allclose(number, mean, rtol=0, atol=1e-6), name


def test_a_tied_head_and_an_own_one_are_averaged_and_stored(saved: Saved, tmp_path: Path) -> None:
    tied, own = saved("llama with a tied head"), saved("llama")
    out = merged(tmp_path / "out", tied.folder, own.folder)
    assert out is not None
    first, second = parameters(tied, tied.folder), parameters(own, own.folder)
    for name, number in parameters(own, out).items():
        assert torch.allclose(number, (first[name] + second[name]) / 2, rtol=0, atol=1e-6), name
