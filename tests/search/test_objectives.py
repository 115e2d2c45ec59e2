"""Several objectives: who leaves a race, what samplers are told, and what a search writes of the front."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cuvee import demo
from cuvee.cli.app import app
from cuvee.errors import RecipeError
from cuvee.search.arms import Arms
from cuvee.search.journal import open_journal
from cuvee.search.objectives import outer
from cuvee.search.race import Answer, Items, Race
from cuvee.search.racing import weighted_mean
from cuvee.search.samplers import make_sampler
from cuvee.search.setting import setting_of
from cuvee.search.space import Dimension
from cuvee.search.split import blocks

from .surrogate import Surrogate, items, space

BOTH = {"one": 1.0, "two": 1.0}
APART = [{"one": 1.0}, {"two": 1.0}]
SKILLS = ("sort", "shift")


class Opposed(Surrogate):
    """Task `one` wants a large red weight, `two` a small one, and both want no blue."""

    def __init__(self) -> None:
        super().__init__(lambda recipe: 0.0)

    def submit(self, slot: int, recipe: str, items: Items) -> None:
        weights = [model.get("parameters", {}).get("weight", 1.0) for model in yaml.safe_load(recipe)["models"]]
        numbers = [weight[0] if isinstance(weight, list) else weight for weight in weights]
        red, blue = numbers[0], numbers[-1]
        chances = {"one": 0.2 + 0.5 * red - 0.3 * blue, "two": 0.8 - 0.5 * red - 0.3 * blue}
        scores = {task: [self._score(recipe, item, chances[task]) for item in ids] for task, ids in items.items()}
        self._waiting.append(Answer(slot, scores, 1, 0.01))


def raced(folder: Path, objectives: list[dict[str, float]], *, sampler: str = "random") -> Race:
    written = space(
        sampler=sampler,
        objectives={"first": ["one"], "second": ["two"]} if objectives else {},
        search={"method": "task_arithmetic"},
        anchors=["defaults"],
    )
    journal = open_journal(folder, {"space": written.model_dump(mode="json")})
    race = Race(blocks(items(each=200), block=20), BOTH, Arms(written, folder), journal, objectives=objectives)
    race.run(Opposed(), lambda race: race.items / race.whole / 25)
    return race


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Race:
    return raced(tmp_path_factory.mktemp("objectives"), APART)


def test_only_those_leave_whom_another_beats_in_all_objectives(race: Race) -> None:
    dropped = [each for each in race.done.values() if each.outcome.state == "dropped"]
    assert dropped
    for each in dropped:
        name = each.outcome.reason.split(" is better")[0]
        rival = next(other for other in race.done.values() if other.candidate.name == name)
        for weights in APART:
            (task,) = weights
            answered = len(each.scores[task])
            assert sum(each.scores[task]) < sum(rival.scores[task][:answered])


def test_a_candidate_that_is_best_in_one_objective_stays(race: Race) -> None:
    for weights in APART:
        (task,) = weights
        shares = {n: sum(each.scores[task]) / len(each.scores[task]) for n, each in race.done.items()}
        assert race.done[max(shares, key=lambda number: shares[number])].outcome.state == "measured"


def test_worth_is_a_value_for_each_objective(race: Race) -> None:
    for each in race.done.values():
        assert len(each.outcome.worth) == 2
        if each.outcome.state == "measured":
            own = [weighted_mean({task: each.scores[task] for task in weights}, weights) for weights in APART]
            assert each.outcome.worth == pytest.approx(own)


def test_a_killed_race_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = raced(tmp_path / "whole", APART, sampler="tpe")
    first = raced(tmp_path / "cut", APART, sampler="tpe")
    lines = (tmp_path / "cut" / "candidates.jsonl").read_text().splitlines(keepends=True)
    kept = lines[: len(lines) // 2]
    (tmp_path / "cut" / "candidates.jsonl").write_text("".join(kept))
    asked = {str(json.loads(line)["number"]) for line in kept}
    for file in (tmp_path / "cut" / "items").glob("*.jsonl"):
        if file.stem not in asked:
            file.unlink()
    again = raced(tmp_path / "cut", APART, sampler="tpe")
    for other in (first, again):
        assert {n: each.outcome.worth for n, each in other.done.items()} == {
            n: each.outcome.worth for n, each in whole.done.items()
        }


def test_a_sampler_learns_from_two_numbers() -> None:
    sampler = make_sampler("tpe", [Dimension("a"), Dimension("b")], seed=0, objectives=2)
    asked = []
    for number in range(40):
        values = sampler.ask(number)
        assert values is not None
        asked.append(float(values["b"]))
        sampler.tell(
            number, values, [float(values["a"]) - float(values["b"]), -float(values["a"]) - float(values["b"])]
        )
    assert sum(asked[20:]) < sum(asked[:20])


def test_the_outer_ones_are_those_that_no_other_reaches() -> None:
    candidates = {
        "left": {"one": [1.0, 1.0], "two": [0.0, 0.0]},
        "right": {"one": [0.0, 0.0], "two": [1.0, 1.0]},
        "between": {"one": [1.0, 0.0], "two": [1.0, 0.0]},
        "below": {"one": [1.0, 0.0], "two": [0.0, 0.0]},
    }
    assert outer(candidates, APART) == ["left", "between", "right"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"objectives": {"one": ["one"]}}, "'objectives': expected none, or two to 3"),
        ({"objectives": {"a": ["one"], "b": {"two": 0.0}}}, "weights above 0"),
        ({"objectives": {"a": ["one"], "b": ["two"]}, "sampler": "cma"}, "knows one objective only"),
    ],
)
def test_what_cannot_be_is_refused(keys: Mapping[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        space(**keys)


def test_an_objective_of_an_unknown_task_is_refused() -> None:
    written = space(tasks=["sort", "shift"], objectives={"a": ["sort"], "b": ["shfit"]})
    with pytest.raises(RecipeError, match="there is no task 'shfit' among sort, shift"):
        setting_of(written)


def test_a_search_writes_the_front_and_its_recipes(tmp_path: Path) -> None:
    for skill in SKILLS:
        rows = list(csv.reader(demo.task_file(skill).with_suffix(".csv").open(encoding="utf-8")))
        with (tmp_path / f"{skill}.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(rows[:81])
    written = {
        "base_model": str(demo.model_folder("base")),
        "models": [str(demo.model_folder(skill)) for skill in SKILLS],
        "tasks": [f"{skill}.csv" for skill in SKILLS],
        "search": {"method": "task_arithmetic", "weights": {"over": "whole"}},
        "objectives": {"order": ["sort"], "letters": ["shift"]},
        "anchors": ["parents", "defaults"],
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    arguments = ["search", str(tmp_path / "space.yaml"), str(tmp_path / "out"), "--budget", "10"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    front = json.loads((tmp_path / "out" / "report.json").read_text())["front"]
    names = [point["name"] for point in front["points"]]
    assert front["objectives"] == ["order", "letters"]
    assert {"parent sort", "parent shift"} <= set(names)
    recipes = [yaml.safe_load(file.read_text()) for file in (tmp_path / "out" / "front").glob("*.yaml")]
    assert len(recipes) == len(names)
    assert all("merge_method" in recipe for recipe in recipes)
    assert "order" in (tmp_path / "out" / "index.html").read_text()
