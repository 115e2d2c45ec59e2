"""`competition.yaml` is read strictly, and the template makes one that holds together."""

from datetime import timedelta
from pathlib import Path

import pytest

from cuvee.demo import task_file
from cuvee.demo.skills import SKILLS
from cuvee.errors import RecipeError
from cuvee.evaluation import load_task
from cuvee.submission.competition import Competition, Licences
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.template import new_competition
from submission.conftest import OPENED, written


def test_the_template_reads_back_from_its_folder(competition: Competition) -> None:
    assert load_competition(competition.folder) == competition
    assert load_competition(competition.folder / "competition.yaml") == competition


def test_private_items_are_fresh_and_depend_on_the_seed(competition: Competition, tmp_path: Path) -> None:
    other = new_competition(tmp_path / "other", "another secret", now=OPENED, items=8)
    for name in SKILLS:
        shipped = {s.input for part in (name, f"{name}-private") for s in load_task(task_file(part)).samples}
        own, theirs = (
            {s.input for s in load_task(each.folder / f"private/tasks/{name}.yaml").samples}
            for each in (competition, other)
        )
        assert len(own) == 8
        assert not own & shipped
        assert not own & theirs


def test_the_same_seed_draws_the_same_items(competition: Competition, tmp_path: Path) -> None:
    again = new_competition(tmp_path / "again", "a secret of the tests", now=OPENED, items=8)
    for name in SKILLS:
        file = f"private/tasks/{name}.csv"
        assert (again.folder / file).read_bytes() == (competition.folder / file).read_bytes()


def test_what_is_private_is_for_the_owner_alone(competition: Competition) -> None:
    assert (competition.folder / "private").stat().st_mode & 0o077 == 0
    assert (competition.folder / "private/key.pem").stat().st_mode & 0o077 == 0


def test_a_folder_with_something_in_it_is_left_alone(competition: Competition) -> None:
    with pytest.raises(RecipeError, match="something here already"):
        new_competition(competition.folder, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_models: 10", "max_modells: 10", ":13: unknown key 'rules.max_modells'\n  hint: .*max_models"),
        ("seconds: 600", "seconds: 0", "'budget.seconds': input should be greater than 0"),
        ("tokens: 5000000", "cpu_seconds: -1", "'budget.cpu_seconds': input should be greater than 0"),
        ("memory: 6GB", "memory: lots", "'budget.memory': expected an amount such as 512MB"),
        ("version: 1\n", "version: 2\n", "the changelog ends at version 1"),
        ("hub: false", "remote_code: always", "rules.remote_code"),
        ("tiers: [recipe]", "tiers: [anything]", "rules.tiers.0"),
        ("version: 1\n", "version: 1\nwithout: [walls]\n", r"'without.0': .*'sandbox', 'cgroup' or 'filesystem'"),
        ("public: tasks/sort.yaml", "public: ../sort.yaml", "a path within the competition's folder"),
        ("public: tasks/sort.yaml", "public: /tasks/sort.yaml", "a path within the competition's folder"),
        ("private: private/tasks/sort.yaml", "private: tasks/sort.yaml", "the private part is the public one"),
        ("name: sort,", "name: odd,", "two tasks are named 'odd'"),
        ("per_day: 20", "per_day: 20, per_day: 30", "written twice"),
        ("public_key: ed", "public_key: rsa:ed", "public_key"),
        ("title:", "titel:", "unknown key 'titel'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(text: str, tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in text
    with pytest.raises(RecipeError, match=message):
        load_competition(written(tmp_path, text.replace(old, new, 1)))


def test_an_organiser_names_the_walls_that_may_be_lacking(text: str, tmp_path: Path) -> None:
    waived = load_competition(written(tmp_path, f"{text}without: [cgroup, filesystem]\n"))
    assert waived.without == ("cgroup", "filesystem")
    assert load_competition(written(tmp_path, f"{text}without: [sandbox]\n")).without == ("sandbox",)


def test_no_organiser_lets_code_run_without_a_sandbox(text: str, tmp_path: Path) -> None:
    code = text.replace("tiers: [recipe]", "tiers: [recipe, plugin]")
    with pytest.raises(RecipeError, match=r"a tier brings code.*\n  hint: take 'sandbox' out"):
        load_competition(written(tmp_path, f"{code}without: [sandbox]\n"))


def test_phases_follow_one_another(text: str, tmp_path: Path) -> None:
    opens = f"opens: {OPENED.isoformat()}"
    late = f"opens: {(OPENED + timedelta(days=90)).isoformat()}"
    with pytest.raises(RecipeError, match="the phase closes before it opens"):
        load_competition(written(tmp_path, text.replace(opens, late)))


def test_a_phase_takes_what_comes_until_it_closes_and_within_the_grace(competition: Competition) -> None:
    public, final = competition.phases
    tick = timedelta(seconds=1)
    assert not public.is_open(public.opens - tick)
    assert public.is_open(public.opens)
    assert public.is_open(public.closes - tick)
    assert competition.phase(public.closes) == final


def test_grace_is_for_what_comes_late(text: str, tmp_path: Path) -> None:
    public = load_competition(written(tmp_path, text.replace("selections: 2", "grace_seconds: 30"))).phases[0]
    assert public.is_open(public.closes + timedelta(seconds=29))
    assert not public.is_open(public.closes + timedelta(seconds=30))


@pytest.mark.parametrize(
    ("licence", "policy"),
    [("apache-2.0", "allow"), ("Apache-2.0", "allow"), ("cc-by-nc-4.0", "note"), ("gpl-3.0", "deny"),
     ("made-up", "note"), (None, "deny")],
)  # fmt: skip
def test_a_licence_has_a_policy(licence: str | None, policy: str) -> None:
    licences = Licences(allow=("apache-2.0",), note=("cc-by-nc-4.0",), deny=("gpl-3.0",), others="note")
    assert licences.policy(licence) == policy
