"""Near copies are found by recipe, weights and wrong answers; honest families of models raise no alarm."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from competition.made import Clock, items_of, scores_of, tiny_competition
from competition.serving import FakeJudge, Served, serve
from cuvee.competition.agreement import LEAST_JOINT, agreements, poisson_binomial_tail
from cuvee.competition.alike import LEVEL
from cuvee.competition.database import Database
from cuvee.competition.recipe_shape import largest_gap, shape_of
from cuvee.submission.likeness import NUMBERS, Likeness
from cuvee.submission.verdict import PublicScores, Verdict

HALVES = (
    "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 0.5}}\n- {model: b, parameters: {weight: 0.5}}\n"
)
SAME_SHAPE = {
    "another weight": (HALVES.replace("0.5", "0.5001", 1), 0.0002),
    "another order of models": (
        "models:\n- {model: b, parameters: {weight: 0.5}}\n- {model: a, parameters: {weight: 0.5}}\n"
        "merge_method: linear\n",
        0.0,
    ),
    "comments and layout": ("# mine\n" + HALVES.replace("\n- ", "\n  - "), 0.0),
    "numbers in quotes": (HALVES.replace("0.5", "'0.5'"), 0.0),
    "a whole number": (HALVES.replace("0.5", "1", 1), 0.5),
    "a gradient of other length": (HALVES.replace("0.5", "[0, 1, 0.5]", 1), None),
}
OTHER_SHAPE = {
    "another method": HALVES.replace("linear", "ties"),
    "another model": HALVES.replace("model: b", "model: c"),
    "one more parameter": HALVES + "parameters: {normalize: true}\n",
    "a model named by a number": HALVES.replace("model: b", "model: 7"),
}


@pytest.mark.parametrize("name", SAME_SHAPE)
def test_a_recipe_has_the_shape_of_its_copy(name: str) -> None:
    recipe, gap = SAME_SHAPE[name]
    one, other = shape_of(HALVES), shape_of(recipe)
    assert one is not None
    assert other is not None
    assert one.text == other.text
    found = largest_gap(one.numbers, other.numbers)
    assert found == (gap if gap is None else pytest.approx(gap, rel=1e-3))


@pytest.mark.parametrize("name", OTHER_SHAPE)
def test_a_recipe_of_other_models_or_methods_has_another_shape(name: str) -> None:
    one, other = shape_of(HALVES), shape_of(OTHER_SHAPE[name])
    assert one is not None
    assert other is not None
    assert one.text != other.text


def test_what_is_no_recipe_has_no_shape() -> None:
    assert shape_of("a: [") is None


def test_the_tail_of_unequal_chances_is_exact() -> None:
    assert poisson_binomial_tail(np.array([0.5, 0.5, 0.5]), 2) == pytest.approx(0.5)
    assert poisson_binomial_tail(np.array([0.1, 0.9]), 2) == pytest.approx(0.09)
    assert poisson_binomial_tail(np.array([0.1, 0.9]), 0) == pytest.approx(1.0)


ITEMS, CHOICES, PARENTS = 300, 4, 5


def family(seed: int, *, own: float, spread: float, teams: int = 40) -> list[dict[str, list[str]]]:
    """Let honest teams blend the same parents: each by weights of its own, with `own` noise besides.

    Parents make mistakes of their own and share some; a small `spread` lets most teams lean on a single parent.
    """
    generator = np.random.default_rng(seed)
    right = generator.integers(CHOICES, size=ITEMS)
    shared = generator.normal(size=(ITEMS, CHOICES))
    shared[np.arange(ITEMS), right] += 0.7
    parents = generator.normal(size=(PARENTS, ITEMS, CHOICES))
    weights = generator.dirichlet(np.full(PARENTS, spread), size=teams)
    logits = shared + np.einsum("tp,pic->tic", weights, parents)
    answers = (logits + own * generator.normal(size=logits.shape)).argmax(-1)
    return [{"quiz": ["" if a == r else str(a) for a, r in zip(row, right, strict=True)]} for row in answers]


def nearly(entry: dict[str, list[str]], seed: int, changed: int = 6) -> dict[str, list[str]]:
    """Copy a model with a little noise: a few answers come out otherwise."""
    generator, copy = np.random.default_rng(seed), list(entry["quiz"])
    for item in generator.integers(ITEMS, size=changed):
        copy[item] = str(generator.integers(CHOICES))
    return {"quiz": copy}


@pytest.mark.parametrize(("own", "spread"), [(0.1, 0.3), (0.3, 1.0), (0.6, 0.3), (1.0, 5.0)])
def test_honest_teams_raise_no_alarm_at_the_stated_level(own: float, spread: float) -> None:
    alarms = sum(bool(agreements(family(seed, own=own, spread=spread), range(40), level=LEVEL)) for seed in range(10))
    assert alarms == 0, "ten families of 780 pairs each; at the level of 0.01 one alarm in ten has a chance below 0.1"


@pytest.mark.parametrize(("own", "spread"), [(0.6, 0.3), (0.6, 1.0), (1.0, 5.0)])
def test_a_copy_with_a_little_noise_is_found_among_honest_teams(own: float, spread: float) -> None:
    for seed in range(5):
        honest = family(seed, own=own, spread=spread)
        found = agreements([*honest, nearly(honest[7], seed)], range(41), level=LEVEL)
        assert [(pair.first, pair.second) for pair in found] == [(7, 40)]
        assert found[0].agreed > found[0].expected


def test_few_joint_mistakes_are_not_judged() -> None:
    entries = family(0, own=1.0, spread=1.0)
    short = [{"quiz": entry["quiz"][: LEAST_JOINT - 1]} for entry in entries]
    assert agreements([*short, short[0]], range(41), level=1.0) == []
    assert agreements([], [], level=1.0) == []


BLENDS = {
    "half": (0.5, 0.5),
    "half and a bit": (0.5001, 0.5),
    "sixty": (0.6, 0.4),
    "seventy": (0.7, 0.3),
    "thirty": (0.3, 0.7),
}


@pytest.fixture(scope="module")
def sketches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Sketches of real blends of the bundled family, and of a copy with a little noise."""
    from safetensors.numpy import load_file, save_file

    from cuvee.api import recipe_from_text
    from cuvee.engine import merge
    from cuvee.submission.likeness import likeness_of
    from cuvee.submission.template import new_competition

    folder = tmp_path_factory.mktemp("blends")
    models = new_competition(folder / "family", "a secret of the tests", items=8).folder / "models"
    found = {}
    for name, (sort, odd) in BLENDS.items():
        recipe = (
            f"merge_method: task_arithmetic\nbase_model: {models}/base\nmodels:\n"
            f"- {{model: {models}/sort, parameters: {{weight: {sort}}}}}\n"
            f"- {{model: {models}/odd, parameters: {{weight: {odd}}}}}\ndtype: float32\n"
        )
        merge(recipe_from_text(recipe, folder=folder), folder / name)
        found[name] = np.array(likeness_of(folder / name, models / "base", {}).sketch)
    generator, noisy = np.random.default_rng(0), folder / "half"
    ground = likeness_of(models / "base", models / "base", {})
    assert ground.sketch == (), "nothing was changed"
    for file in noisy.glob("*.safetensors"):
        tensors = load_file(file)
        for name, values in tensors.items():
            noise = generator.normal(size=values.shape).astype(np.float32)
            tensors[name] = values + np.float32(1e-4) * np.abs(values).mean() * noise
        save_file(tensors, file)
    found["half with noise"] = np.array(likeness_of(noisy, models / "base", {}).sketch)
    return found


def test_sketches_tell_copies_from_other_blends(sketches: dict[str, np.ndarray]) -> None:
    half = sketches["half"]
    assert all(math.hypot(*sketch) == pytest.approx(1.0, abs=1e-5) for sketch in sketches.values())
    for copy in ("half and a bit", "half with noise"):
        assert half @ sketches[copy] > 0.999, copy
    for honest in ("sixty", "seventy", "thirty"):
        assert half @ sketches[honest] < 0.999, honest


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition())


def judge_of(seed: int, copied: int | None = None) -> Callable[..., Verdict]:
    """Judge with answers and weights drawn from a seed; of a copy, those of another seed with a little noise."""
    right = FakeJudge()
    generator = np.random.default_rng(seed if copied is None else copied)
    items = items_of(0.4, 0)
    wrong = {task: tuple("" if s else str(generator.integers(5)) for s in scores) for task, scores in items.items()}
    sketch = generator.normal(size=NUMBERS)
    if copied is not None:
        sketch = sketch + 0.01 * np.random.default_rng(seed).normal(size=NUMBERS)
    likeness = Likeness("a layout", tuple(map(float, sketch / np.linalg.norm(sketch))), wrong)

    def judge(archive: Path, *rest: Any) -> Verdict:
        public = PublicScores(**scores_of(items))  # type: ignore[arg-type]  # as made
        return replace(right(archive, *rest), public=public, likeness=likeness)

    return judge


def test_the_organiser_sees_planted_copies_and_nobody_else_does(everywhere: Served) -> None:
    served = everywhere
    teams = [
        served.ask("organiser", "POST", "/api/organiser/teams", json={"name": name}).json()
        for name in ("Growers", "Pickers", "Pressers", "Tasters", "Bottlers", "Corkers", "Labellers", "Porters")
    ]
    tokens = {f"team {n}": team["token"] for n, team in enumerate(teams)}
    served = replace(served, tokens={**served.tokens, **tokens})
    for n in range(len(teams)):
        served.send(f"team {n}", title=f"try {n}", weight=0.1 * (n + 1))
        served.work(judge_of(n))
    assert served.ask("organiser", "GET", "/api/organiser/alike").json() == []
    served.send("other", title="all mine", weight=0.3001)
    served.work(judge_of(100, copied=2))
    found = served.ask("organiser", "GET", "/api/organiser/alike").json()
    assert [(pair["what"], pair["submissions"]) for pair in found] == [
        ("recipe", [3, 9]),
        ("weights", [3, 9]),
        ("wrong answers", [3, 9]),
    ]
    shown = served.page("organiser", "/organiser/alike").text
    assert "numbers differ by at most 0.03 %" in shown
    assert "Pickers" not in shown
    assert "Pressers" in shown
    for who in ("team", "worker", None):
        assert served.ask(who, "GET", "/api/organiser/alike").status_code in (401, 403)
    assert served.page("team", "/organiser/alike").status_code == 403
    assert served.ask("other", "GET", "/api/submissions/9").json()["state"] == "scored", "nothing follows by itself"
    assert "likeness" not in served.ask("other", "GET", "/api/submissions/9").text


MISFITS: dict[str, tuple[Likeness, str]] = {
    "a sketch that is too short": (Likeness("l", (1.0,), {}), "its sketch has 1 numbers"),
    "a sketch of another length": (Likeness("l", (1.0,) * NUMBERS, {}), "its sketch has not the length 1"),
    "answers of other items": (Likeness("", (), {"sums": ("1",)}), "wrong answers of other items"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_likeness_that_does_not_fit_is_refused(served: Served, name: str) -> None:
    likeness, problem = MISFITS[name]
    right = FakeJudge()
    served.send()
    served.work(lambda archive, *rest: replace(right(archive, *rest), likeness=likeness))
    assert problem in served.ask("organiser", "GET", "/api/submissions/1").json()["reason"]
