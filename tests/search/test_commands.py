"""`cuvee search` and `cuvee bench` on the bundled family, with a few items of two of its tasks."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import cuvee
from cuvee import demo
from cuvee.cli.app import app
from cuvee.evaluation import evaluate, load_model
from cuvee.search.setting import head_of, setting_of
from cuvee.search.space import family_space

SKILLS = ("sort", "shift")
ITEMS = 100


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two short tasks and a space over them."""
    folder = tmp_path_factory.mktemp("searches")
    for skill in SKILLS:
        rows = list(csv.reader(demo.task_file(skill).with_suffix(".csv").open(encoding="utf-8")))
        with (folder / f"{skill}.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(rows[: ITEMS + 1])
    space = {
        "base_model": str(demo.model_folder("base")),
        "models": [str(demo.model_folder(skill)) for skill in SKILLS],
        "tasks": [f"{skill}.csv" for skill in SKILLS],
        "search": {"method": "task_arithmetic"},
        "anchors": ["parents", "average", "defaults"],
        "dtype": "bfloat16",
    }
    (folder / "space.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> Path:
    run("search", place / "space.yaml", place / "found", "--budget", "12")
    return place / "found"


def test_a_search_reports_on_items_that_it_did_not_search_on(found: Path) -> None:
    report = json.loads((found / "report.json").read_text())
    sizes = [(task["search"], task["select"], task["report"]) for task in report["tasks"]]
    assert sizes == [(50, 25, 25)] * 2
    assert report["phase"] == "finished"
    assert report["choice"]["report"]["n"] == 50


def test_the_best_recipe_merges_to_the_model_that_was_measured(found: Path, place: Path) -> None:
    blend = cuvee.merge(found / "best.yaml", place / "blend").folder
    report = json.loads((found / "report.json").read_text())
    winner = next(each for each in report["candidates"] if each["name"] == report["choice"]["winner"])
    tasks = [place / f"{skill}.csv" for skill in SKILLS]
    scores = evaluate(load_model(blend), tasks)
    by_id = {task.task: {item.id: item.score for item in task.items} for task in scores.tasks}
    lines = (found / "items" / f"{winner['number']}.jsonl").read_text().splitlines()
    measured = [score for line in lines for task in json.loads(line)["scores"].values() for score in task]
    head = json.loads((found / "search.json").read_text())
    assert set(head["tasks"]) == set(by_id)
    assert sum(measured) / len(measured) == pytest.approx(winner["value"], abs=0.02)


def test_a_finished_search_run_again_measures_nothing_and_says_the_same(found: Path, place: Path) -> None:
    before = (found / "report.json").read_text()
    journal = (found / "candidates.jsonl").read_text()
    run("search", place / "space.yaml", found, "--budget", "12")
    assert (found / "candidates.jsonl").read_text() == journal
    assert json.loads((found / "report.json").read_text())["choice"] == json.loads(before)["choice"]


def test_show_recipe_and_again_read_the_folder(found: Path, place: Path) -> None:
    assert "searched on" in run("search", "show", found).output
    best = run("search", "recipe", found).output
    assert yaml.safe_load(best)["merge_method"] in ("task_arithmetic", "linear", "passthrough")
    assert yaml.safe_load(run("search", "recipe", found, 0).output)["merge_method"] == "passthrough"
    rows = json.loads(run("search", "again", found, "--task", place / "sort.csv", "--top", 1, "--json").output)
    assert rows == sorted(rows, key=lambda row: -row["value"])


def test_a_budget_that_the_anchors_use_up_is_told_and_can_be_raised(place: Path) -> None:
    arguments = ["search", str(place / "space.yaml"), str(place / "short"), "--budget"]
    result = CliRunner().invoke(app, [*arguments, "1"])
    assert "the budget, 1, was used up" in str(result.exception)
    assert json.loads((place / "short" / "report.json").read_text())["phase"] == "interrupted"
    assert "searched on" in run(*arguments, "6").output


def test_an_unknown_candidate_is_refused(found: Path) -> None:
    result = CliRunner().invoke(app, ["search", "recipe", str(found), "999"])
    assert "there is no candidate 999" in str(result.exception)


def test_a_new_space_can_be_searched(place: Path) -> None:
    models = [word for skill in SKILLS for word in ("--model", demo.model_folder(skill))]
    tasks = ["--tasks", *(place / f"{skill}.csv" for skill in SKILLS)]
    text = run("search", "new", "--base", demo.model_folder("base"), *models, *tasks).output
    assert yaml.safe_load(text)["budget"] == 200


def test_a_bench_ranks_parents_and_the_best_setting_of_each_method(place: Path) -> None:
    experts = [demo.model_folder(skill) for skill in SKILLS]
    files = [place / f"{skill}.csv" for skill in SKILLS]
    arguments = ["--base", demo.model_folder("base"), "--experts", *experts, "--tasks", *files]
    result = run("bench", *arguments, "--budget", "12", "--out", place / "bench", "--json")
    board = json.loads(result.stdout)
    kinds = [entry["kind"] for entry in board["entries"]]
    assert kinds[:3] == ["base", "expert", "expert"]
    assert kinds.count("blend") >= 3
    assert "Holm" in " ".join(board["notes"])
    recipe = cuvee.load_recipe(place / "bench" / "recipes" / "tsv-m.yaml")
    assert recipe.merge_method == "tsv_m"
    assert "<html" in (place / "bench" / "index.html").read_text()


def test_a_search_with_another_text_is_another_search(place: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    heads = []
    for words in ("one", "two"):
        text.write_text(json.dumps({"text": words}) + "\n", encoding="utf-8")
        experts = [str(demo.model_folder(skill)) for skill in SKILLS]
        space = family_space(str(demo.model_folder("base")), experts, [str(place / "sort.csv")], [str(text)] * 2)
        heads.append(head_of(space, setting_of(space)))
    assert [key for key in heads[0] if heads[0][key] != heads[1][key]] == ["texts"]


def test_a_bench_of_one_expert_is_refused(place: Path) -> None:
    arguments = ["--base", str(demo.model_folder("base")), "--experts", "x", "--tasks", str(place / "sort.csv")]
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert "two experts at least" in str(result.exception)
