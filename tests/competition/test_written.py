"""Recipes written on the site: checked line by line, packed to the bytes of the command, and no path is opened."""

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from competition.made import Clock
from competition.serving import Served, archive, serve
from cuvee.competition.database import open_database, sqlite_url
from cuvee.competition.limits import Limits
from cuvee.competition.what_is import kind_of, name_of
from cuvee.hub import Hub
from cuvee.submission.assemble import Entry, pack_entry
from cuvee.submission.competition import Competition
from cuvee.submission.competition_yaml import load_competition, parse_competition
from cuvee.submission.template import new_competition
from cuvee.submission.written import MOST_CHARACTERS, WrittenRecipes

RECIPE = "merge_method: linear\nmodels:\n  - model: models/sort\n  - model: models/odd\nparameters: {weight: 1.0}\n"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Competition:
    folder = tmp_path_factory.mktemp("written") / "family"
    new_competition(folder, "a secret of these tests", items=4)
    return load_competition(folder)


@pytest.fixture(scope="module")
def site(family: Competition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    database = open_database(sqlite_url(tmp_path_factory.mktemp("written-site") / "competition.db"))
    yield from serve(database, Clock(family.phases[0].opens), family)
    database.close()


@pytest.fixture
def signed_in(site: Served) -> Iterator[Served]:
    site.http.cookies.set("cuvee", site.tokens["team"])
    yield site
    site.http.cookies.clear()


@pytest.mark.parametrize("name", ["average", "task-arithmetic"])
def test_the_site_packs_the_bytes_that_the_command_packs(family: Competition, name: str) -> None:
    place = family.folder / "baselines" / f"{name}.yaml"
    by_command = pack_entry(Entry(place), family, name=name, hub=Hub(offline=True))
    assert WrittenRecipes(family).pack(place.read_text(encoding="utf-8"), name) == by_command


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("linear", "liner"), 1, "unknown merge method"),
        (("{weight: 1.0}", "{wieght: 1.0}"), 5, "takes no parameter"),
        (("models/odd", "models/od"), 4, "not one of the competition's models"),
        (("models/odd", "org/model"), 4, "not one of the competition's models"),
        (("models/odd", "models/odd@main"), 4, "revision"),
        (("models/odd", "models/odd+models/none"), 4, "not one of the competition's models"),
        (("models:", "models: ["), 3, "not YAML"),
        (("linear", "[linear"), 2, "not YAML"),
    ],
)
def test_a_problem_is_told_with_its_line(family: Competition, change: tuple[str, str], line: int, words: str) -> None:
    found = WrittenRecipes(family).check(RECIPE.replace(*change)).problems
    assert any(words in problem.message for problem in found), found
    assert line in [problem.line for problem in found], found


def test_a_broken_rule_is_told_with_the_line_of_its_model(family: Competition) -> None:
    text = family.text.replace("max_parameters: 10000000", "max_parameters: 10").replace(
        "rules:", "rules:\n  methods: [ties]"
    )
    strict = WrittenRecipes(parse_competition(text, folder=family.folder))
    found = {(problem.line, problem.hint) for problem in strict.check(RECIPE).problems}
    assert (3, "the competition's rule 'parameters'") in found
    assert (1, "the competition's rule 'method'") in found


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../private/seed.txt", "models/../private", "~/x", "private", ".", "models/base/config.json"],
)
def test_no_path_that_a_recipe_names_is_opened(family: Competition, path: str) -> None:
    recipes = WrittenRecipes(family)
    recipes.check(RECIPE)
    with (
        mock.patch("pathlib.Path.open", side_effect=AssertionError),
        mock.patch("pathlib.Path.exists", side_effect=AssertionError),
        mock.patch("builtins.open", side_effect=AssertionError),
    ):
        found = recipes.check(RECIPE.replace("models/odd", path)).problems
    assert [problem.message for problem in found] == [f"'{path}' is not one of the competition's models"]


@pytest.mark.parametrize("text", ["", "a", "- 1", "a: &a [*a]", "x" * (MOST_CHARACTERS + 1), "a\0b", "merge_method: 3"])
def test_what_is_no_recipe_is_a_problem_and_no_failure(family: Competition, text: str) -> None:
    assert WrittenRecipes(family).check(text).problems


def test_secrets_are_refused_here_too(signed_in: Served) -> None:
    token = "hf_" + "a" * 30
    answer = signed_in.http.post("/me/send", data={"recipe": f"# {token}\n{RECIPE}"})
    assert answer.status_code == 422
    assert "a token of a model hub" in answer.text


def test_a_written_recipe_is_sent_checked_and_queued(signed_in: Served) -> None:
    checked = signed_in.http.post("/me/check", data={"recipe": RECIPE.replace("\n", "\r\n")})
    assert "Keeps the rules" in checked.text
    answer = signed_in.http.post("/me/send", data={"recipe": RECIPE.replace("\n", "\r\n"), "title": "by hand"})
    assert answer.status_code == 303, answer.text
    shown = signed_in.http.get(answer.headers["location"]).text
    assert "by hand" in shown
    assert "waits for a worker" in shown


def test_a_wrong_recipe_stays_in_the_form_with_its_problems(signed_in: Served) -> None:
    answer = signed_in.http.post("/me/send", data={"recipe": RECIPE.replace("models/odd", "models/od")})
    assert answer.status_code == 422
    assert 'data-line="4"' in answer.text
    assert "model: models/od\n" in answer.text


def test_a_recipes_file_is_taken_as_the_recipe_that_it_is(signed_in: Served) -> None:
    answer = signed_in.http.post("/me/send", files={"archive": ("mine.yaml", RECIPE.encode())}, data={"title": "file"})
    assert answer.status_code == 303, answer.text


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04" + bytes(400), "a zip file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(400), "a picture"),
        ((20).to_bytes(8, "little") + b'{"a": {}}' + bytes(40), "a file of weights (safetensors)"),
        (b"id,prediction,dummy_field\n0,1,0\n", "a table of predictions"),
        (b'{"cells": [], "nbformat": 4}', "a notebook"),
        (b"import torch\n", "a program in Python"),
        (bytes(range(128, 256)), "neither a recipe nor an archive"),
    ],
)
def test_a_wrong_file_says_what_it_is(signed_in: Served, content: bytes, what: str) -> None:
    answer = signed_in.http.post("/me/send", files={"archive": ("file", content)})
    assert answer.status_code == 422
    assert f"This is {what}" in answer.text
    if name_of(content) is not None:
        refused = signed_in.ask("team", "POST", "/api/submissions", content=content)
        assert f"this is {what}" in refused.json()["error"]["message"]


def test_archives_and_recipes_are_told_apart() -> None:
    assert kind_of(archive()) == "archive"
    assert kind_of(RECIPE.encode()) == "recipe"
    assert kind_of(b" \n") == "other"


def test_checks_are_for_teams_and_counted(family: Competition, tmp_path: Path) -> None:
    database = open_database(sqlite_url(tmp_path / "competition.db"))
    for served in serve(database, Clock(family.phases[0].opens), family, Limits(checks_per_minute=2)):
        assert served.http.post("/me/check", data={"recipe": RECIPE}).status_code == 303  # to sign in
        served.http.cookies.set("cuvee", served.tokens["team"])
        codes = [served.http.post("/me/check", data={"recipe": RECIPE}).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
    database.close()


def test_a_team_starts_from_a_baseline_that_nobody_has_judged_yet(signed_in: Served) -> None:
    assert "/me?baseline=average" in signed_in.http.get("/me").text
    shown = signed_in.http.get("/me?baseline=task-arithmetic").text
    assert "merge_method: task_arithmetic" in shown
    assert "Keeps the rules" in shown
    for odd in ("../private/seed", "competition.yaml", ""):
        assert "merge_method" not in signed_in.http.get("/me", params={"baseline": odd}).text


def test_a_baselines_recipe_is_there_to_start_from_and_a_teams_only_after_the_reveal(served: Served) -> None:
    from competition.filled import fill

    fill(served)
    baseline = next(
        each for each in served.ask(None, "GET", "/api/board").json()["places"] if each["team"]["kind"] == "baseline"
    )
    team = next(
        each for each in served.ask(None, "GET", "/api/board").json()["places"] if each["team"]["name"] == "Oak"
    )
    assert "Start from this recipe" in served.page("other", f"/submissions/{baseline['submission']}").text
    assert "Start from this recipe" not in served.page("other", f"/submissions/{team['submission']}").text
    assert "merge_method: linear" in served.page("other", f"/me?from={baseline['submission']}").text
    assert "merge_method: linear" not in served.page("other", f"/me?from={team['submission']}").text
    for odd in ("0", "x", "-1", "99999999999999", "²"):
        assert served.page("other", f"/me?from={odd}").status_code == 200
