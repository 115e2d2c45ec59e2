"""Modifiers: their factors by hand, with every method that merges changes, and bits that depend on nothing else."""

from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.addition import MergedTensor
from cuvee.catalogue import modifiers, registry
from cuvee.checkpoint import MemoryCheckpoint, open_checkpoint
from cuvee.engine.run import run_plan
from cuvee.errors import RecipeError
from cuvee.kernels import BLOCK
from cuvee.plan import make_plan
from cuvee.recipe.reference import ModelRef
from cuvee.testing import TINY_LLAMA, random_weights, write_model
from plain_methods import PLAIN

DELTA_METHODS = [method for method in PLAIN.values() if method.base in ("delta", "optional")]
SETTINGS = {"weight": 0.6, "density": 0.6, "t": 0.3, "epsilon": 0.001, "gamma": 0.05}
NAMES = ("embed.weight", "layers.0.up", "layers.1.up", "layers.2.up", "norm.weight")

StateDict = dict[str, np.ndarray]


def family(count: int = 3) -> tuple[StateDict, list[StateDict]]:
    generator = np.random.default_rng(3)
    base = {name: generator.standard_normal((6, 8)).astype(np.float32) for name in NAMES}
    common = {name: generator.standard_normal(array.shape) for name, array in base.items()}
    experts = [
        {
            n: (a + 0.1 * common[n] + 0.1 * generator.standard_normal(a.shape)).astype(np.float32)
            for n, a in base.items()
        }
        for _ in range(count)
    ]
    return base, experts


def merge(method: str = "task_arithmetic", post: list[object] | None = None, **settings: object) -> StateDict:
    """Return the changes from the base."""
    known = registry()[method]
    base, experts = family(min(3, known.models[1] or 3))
    given = {name: value for name, value in SETTINGS.items() if name in known.settings} | settings
    merged = cuvee.merge_state_dicts(method, experts, base=base, post=post or [], **given)
    return {name: merged[name].astype(np.float64) - base[name] for name in base}


def recipe(post: str, method: str = "ties", rest: str = "") -> str:
    base = "" if method == "linear" else "base_model: base\n"
    weight = "parameters: {weight: 1}\n" if "weight" in registry()[method].settings else ""
    return f"merge_method: {method}\n{base}models: [{{model: x}}, {{model: y}}]\npost: {post}\n{weight}{rest}"


def planned(text: str) -> cuvee.Plan:
    models = {ModelRef(name): MemoryCheckpoint(family()[0]) for name in ("base", "x", "y")}
    return make_plan(cuvee.recipe_from_text(text), models=models)


@pytest.mark.parametrize("method", DELTA_METHODS, ids=lambda method: method.key)
def test_lines_scales_each_layer_of_any_method(method: object) -> None:
    plain, scaled = merge(method.key), merge(method.key, [{"lines": {"alpha": 0.25, "beta": 0.5}}])
    for name, factor in zip(NAMES, (0.25, 0.25, 0.5, 0.75, 0.25), strict=True):
        np.testing.assert_allclose(scaled[name], factor * plain[name], atol=1e-6)


@pytest.mark.parametrize("method", DELTA_METHODS, ids=lambda method: method.key)
def test_norm_match_gives_the_mean_norm_of_the_task_vectors(method: object) -> None:
    base, experts = family(min(3, method.models[1] or 3))
    scaled = merge(method.key, ["norm_match"], **{"lambda": 0.5})
    for name in NAMES:
        norms = [np.linalg.norm(expert[name].astype(np.float64) - base[name]) for expert in experts]
        assert np.linalg.norm(scaled[name]) == pytest.approx(0.5 * np.mean(norms), rel=1e-5)


def test_lines_without_alpha_takes_that_of_the_paper() -> None:
    # for a plain sum of N task vectors alpha is 1/N, whatever they are
    plain, scaled = merge(weight=1), merge(post=["lines"], weight=1)
    for name, factor in zip(NAMES, (1 / 3, 1 / 3, 2 / 3, 1, 1 / 3), strict=True):
        np.testing.assert_allclose(scaled[name], factor * plain[name], rtol=1e-4, atol=1e-6)


def test_a_later_modifier_sees_what_an_earlier_one_left() -> None:
    matched = merge(post=["norm_match"])
    undone = merge(post=[{"lines": {"alpha": 0.25}}, "norm_match"])
    both = merge(post=["norm_match", {"lines": {"alpha": 0.25}}])
    np.testing.assert_allclose(undone["layers.0.up"], matched["layers.0.up"], atol=1e-6)
    np.testing.assert_allclose(both["layers.0.up"], 0.25 * matched["layers.0.up"], atol=1e-6)


def test_examples_by_hand() -> None:
    lines, norm_match = (modifiers()[key].rule for key in ("lines", "norm_match"))
    tensors = [MergedTensor(0.0, (4.0, 16.0), 25.0, 9.0), MergedTensor(1.0, (0.0, 4.0), 11.0, 0.0)]
    assert norm_match(tensors) == [1.0, 1.0]
    # sums 36 and 9 over two models: alpha is 6 / 3 / 2
    assert lines(tensors) == [1.0, 1.0]
    assert lines(tensors, beta=0.5) == [1.0, 1.5]
    assert lines(tensors, alpha=0.25) == [0.25, 1.0]


def test_one_layer_is_scaled_by_alpha_and_models_equal_to_the_base_stay_the_base() -> None:
    base = {"layers.0.up": np.ones((2, 3), np.float32), "ids": np.arange(3)}
    expert = {"layers.0.up": np.full((2, 3), 2, np.float32), "ids": np.arange(3)}
    post = [{"lines": {"alpha": 0.25, "beta": 9}}]
    merged = cuvee.merge_state_dicts("task_arithmetic", [expert], base=base, weight=1, post=post)
    np.testing.assert_array_equal(merged["layers.0.up"], 1.25)
    same = cuvee.merge_state_dicts("ties", [base, base], base=base, weight=1, post=["lines", "norm_match"])
    assert same["layers.0.up"].tobytes() == base["layers.0.up"].tobytes()


@pytest.mark.parametrize("method", ["ties", "della", "nuslerp"])
def test_chunks_and_threads_change_no_bit(tmp_path: Path, method: str) -> None:
    config = {**TINY_LLAMA, "vocab_size": 3100}
    base = random_weights(0, config=config)
    write_model(tmp_path / "base", base, config=config, dtype="BF16")
    for name in "xy":
        write_model(tmp_path / name, random_weights(ord(name), base=base, config=config), config=config, dtype="BF16")
    text = recipe("[norm_match, lines]", method)
    digests = set()
    for i, options in enumerate([{}, {"chunk": BLOCK}, {"threads": 2}]):
        plan = make_plan(cuvee.recipe_from_text(text, folder=tmp_path))
        digests.add(run_plan(plan, tmp_path / f"out{i}", **options).digest)
    assert len(digests) == 1
    read = [{n: open_checkpoint(tmp_path / m).read(n) for n in base} for m in ("base", "x", "y")]
    weight = {"weight": 1} if "weight" in text else {}
    in_memory = cuvee.merge_state_dicts(
        method, read[1:], base=read[0], names=["x", "y"], post=["norm_match", "lines"], **weight
    )
    written = open_checkpoint(tmp_path / "out0")
    assert all(in_memory[name].tobytes() == written.read(name).tobytes() for name in base)


def test_the_plan_has_the_scales_that_are_known() -> None:
    plan = planned(recipe("[{lines: {alpha: 0.25, beta: 0.5}}]").replace("{weight: 1}", "{weight: 1, lambda: 2}"))
    assert [step.scale for step in plan.steps] == [0.5, 0.5, 1.0, 1.5, 0.5]


def test_the_plan_counts_the_second_pass_of_the_method() -> None:
    plain, known = planned(recipe("[]")), planned(recipe("[{lines: {alpha: 1}}]"))
    assert known.forecast == plain.forecast
    assert planned(recipe("[lines]")).forecast.passes == 2 * plain.forecast.passes
    assert planned(recipe("[norm_match]")).forecast.bytes_read == 2 * plain.forecast.bytes_read


def test_the_digest_knows_order_and_settings() -> None:
    def digest(post: str) -> str:
        return cuvee.recipe_from_text(recipe(post)).digest

    assert digest("[lines]") == digest("[{lines: }]") == digest("[{lines: {}}]")
    assert len({digest(p) for p in ("[]", "[lines]", "[lines, norm_match]", "[norm_match, lines]")}) == 4
    assert digest("[{lines: {alpha: 1}}]") == digest("[{lines: {alpha: 1.0}}]") != digest("[lines]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (recipe("[lime]"), "recipe:4: unknown modifier 'lime'.*did you mean 'lines'"),
        (recipe("[{lines: {alfa: 1}}]"), "recipe:4: 'lines' takes no parameter 'alfa'.*did you mean 'alpha'"),
        (recipe("[{lines: {alpha: -1}}]"), r"'alpha' of 'lines': expected a number in \[0, inf\)"),
        (recipe("lines"), "expected a list of modifiers, found 'lines'"),
        (recipe("[{}]"), "expected a modifier's name"),
        (recipe("[{lines: , norm_match: }]"), "expected a modifier's name"),
        (recipe("[{lines: 1}]"), "expected a modifier's name"),
        (recipe("[lines]", "linear"), "'lines' modifies the change from a base, and 'linear' makes none here"),
        (recipe("[lines]", "slerp").replace("weight", "t"), "and 'slerp' makes none here"),
    ],
)
def test_wrong_modifiers_are_refused_with_their_line(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        cuvee.recipe_from_text(text)
