"""Weight rules: their numbers, how a recipe names them, and merges with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cuvee
from cuvee.catalogue import weight_rules
from cuvee.checkpoint import MemoryCheckpoint
from cuvee.errors import CheckpointError, MethodError, RecipeError
from cuvee.plan import make_plan
from cuvee.recipe.reference import ModelRef
from cuvee.testing import write_model

MERGEKIT = json.loads((Path(__file__).parent.parent / "golden" / "mergekit.json").read_text())
PAPER = json.loads((Path(__file__).parent.parent / "golden" / "paper.json").read_text())
COUNTING = [rule for rule in weight_rules().values() if not rule.measures({}) and not rule.by_loss]


def state(*values: float) -> dict[str, np.ndarray]:
    return {"a": np.array(values, np.float32), "layers.0.b": np.full((2, 2), values[0], np.float32)}


def recipe(weights: str, method: str = "task_arithmetic", rest: str = "") -> str:
    base = "" if method == "linear" else "base_model: base\n"
    return f"merge_method: {method}\n{base}models: [{{model: x}}, {{model: y}}]\nweights: {weights}\n{rest}"


def planned(text: str) -> cuvee.Plan:
    models = {ModelRef(name): MemoryCheckpoint(state(1, 2)) for name in ("base", "x", "y")}
    return make_plan(cuvee.recipe_from_text(text), models=models)


@given(models=st.integers(1, 20))
@pytest.mark.parametrize("rule", COUNTING, ids=lambda rule: rule.key)
def test_weights_are_shares(rule: object, models: int) -> None:
    weights = rule.rule(models)
    assert len(weights) == models
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(1)


def test_examples_by_hand() -> None:
    rules = weight_rules()
    assert rules["uniform"].rule(4) == [0.25] * 4
    assert rules["wma"].rule(3) == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert rules["ema"].rule(3, factor=0.5) == [0.25, 0.25, 0.5]
    assert rules["decay"].rule(4) == pytest.approx([0.25] * 4)
    assert rules["decay"].rule(3, factors=(0.75, 0.25)) == [0.25, 0.5, 0.25]
    assert rules["decay"].rule(2, shape="cosine") == pytest.approx([0.5, 0.5])
    assert rules["metagpt"].rule([1.0, 3.0]) == [0.25, 0.75]
    assert rules["metagpt"].rule([0.0, 0.0]) == [0.5, 0.5]


def test_decay_counts_each_update_with_its_factor() -> None:
    updates = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    checkpoints = [{"w": np.zeros(2)}, {"w": updates[0]}, {"w": updates[0] + updates[1]}]
    merged = cuvee.merge_state_dicts("linear", checkpoints, weights={"rule": "decay", "factors": [0.9, 0.4]})
    np.testing.assert_allclose(merged["w"], [0.9, 0.4])


def test_metagpt_gives_the_golden_weights() -> None:
    deltas = [np.array(MERGEKIT[f"tau{i}"], np.float64) for i in (1, 2, 3)]
    weights = weight_rules()["metagpt"].rule([float(delta @ delta) for delta in deltas])
    np.testing.assert_allclose(weights, PAPER["MetaGPT coeffs"], atol=6e-5)


def test_metagpt_measures_whole_models() -> None:
    base, models = state(0, 0), [state(1, 2), state(2, 0)]
    # squared norms: 1 + 4 + 4·1 = 9 and 4 + 4·4 = 20
    merged = cuvee.merge_state_dicts("task_arithmetic", models, base=base, weights="metagpt")
    np.testing.assert_allclose(merged["a"], [9 / 29 + 40 / 29, 18 / 29], rtol=1e-6)
    by_hand = cuvee.merge_state_dicts("ties", models, base=base, weight=[9 / 29, 20 / 29])
    ruled = cuvee.merge_state_dicts("ties", models, base=base, weights="metagpt", threads=2)
    assert ruled["a"].tobytes() == by_hand["a"].tobytes()


def test_the_plan_shows_weights_that_are_known() -> None:
    plan = planned(recipe("{rule: ema, factor: 0.25}", "linear"))
    assert plan.steps[0].settings["weight"] == (0.25, 0.75)


def test_the_plan_counts_the_pass_that_measures() -> None:
    measured, known = planned(recipe("metagpt")), planned(recipe("uniform"))
    assert measured.forecast.passes == known.forecast.passes + 1
    assert "weight" not in measured.steps[0].settings


def test_metagpt_needs_the_same_models_in_every_slice() -> None:
    def sliced(second: str) -> str:
        parts = [f"{{sources: [{{model: {m}, layer_range: [0, 1]}}]}}" for m in ("x", second)]
        return f"merge_method: ties\nbase_model: base\nslices: [{', '.join(parts)}]\nweights: metagpt\n"

    assert len(planned(sliced("x")).steps) == 3
    with pytest.raises(RecipeError, match="'weights: metagpt' needs the same models in every slice"):
        planned(sliced("y"))


def test_numbers_that_are_not_finite_do_not_spread(tmp_path: Path) -> None:
    for name, value in (("base", 1.0), ("x", np.nan), ("y", 2.0)):
        write_model(tmp_path / name, state(value, 2))
    for extra in ("", "post: [norm_match]\n"):
        text = recipe("uniform" if extra else "metagpt", rest=extra)
        with pytest.raises(MethodError, match="not all finite"):
            cuvee.merge(cuvee.recipe_from_text(text, folder=tmp_path), tmp_path / "out", allow_nonfinite=True)
        with pytest.raises(CheckpointError, match="holds nan at element 0"):
            cuvee.merge(cuvee.recipe_from_text(text, folder=tmp_path), tmp_path / "out")


def test_the_digest_knows_defaults_and_settings() -> None:
    def digest(weights: str) -> str:
        return cuvee.recipe_from_text(recipe(weights)).digest

    assert digest("ema") == digest("{rule: ema, factor: 0.5}")
    assert len({digest("ema"), digest("wma"), digest("{rule: ema, factor: 0.4}")}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (recipe("metagtp"), "recipe:4: unknown weight rule 'metagtp'.*did you mean 'metagpt'"),
        (recipe("{rule: ema, factr: 1}"), "recipe:4: 'ema' takes no parameter 'factr'.*did you mean 'factor'"),
        (recipe("{rule: ema, factor: 2}"), r"'factor' of 'ema': expected a number in \[0, 1\], found 2"),
        (recipe("{factor: 2}"), r"expected a rule's name or \{rule: name"),
        (recipe("{rule: decay, factors: 0.5}"), "expected a list, found 0.5"),
        (recipe("{rule: decay, shape: square}"), "expected one of linear, cosine"),
        (recipe("[uniform]"), "unknown weight rule"),
        (recipe("metagpt", "linear"), "measures task vectors, and 'linear' merges none here"),
        (recipe("uniform", "model_stock"), "'model_stock' takes no weights"),
        (recipe("uniform", rest="parameters: {weight: 1}"), "recipe:5: 'weights: uniform' sets the weight"),
        (recipe("uniform").replace("model: x", "model: x, parameters: {weight: 1}"), "recipe:3: 'weights: uniform'"),
    ],
)
def test_wrong_rules_are_refused_with_their_line(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        cuvee.recipe_from_text(text)


@pytest.mark.parametrize(("factors", "message"), [("[1, 0.5]", "each of 1 updates, found 2"), ("[]", "found 0")])
def test_factors_that_do_not_fit_the_models_stop_the_plan(factors: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        planned(recipe(f"{{rule: decay, factors: {factors}}}", "linear"))
    with pytest.raises(ValueError, match="may not increase"):
        weight_rules()["decay"].rule(3, factors=(0.2, 0.5))
