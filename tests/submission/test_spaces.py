"""A search space as a submission: locked and checked like a recipe, searched by the judge within its tokens."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cuvee.checkpoint.hashes import sha256_of
from cuvee.errors import RecipeError, SubmissionError
from cuvee.evaluation import load_task
from cuvee.hub import Hub
from cuvee.search.race import Race
from cuvee.search.setting import Budget, Clock
from cuvee.submission.asked import read_asked
from cuvee.submission.assemble import Entry, pack_entry
from cuvee.submission.competition import Competition
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.judge import judge
from cuvee.submission.searched import space_at_home, write_tasks
from cuvee.submission.verdict import Verdict
from cuvee.submission.written import WrittenRecipes

SPACE = """\
base_model: ../models/base
models: [../models/sort, ../models/odd]
tasks: ['competition:sort', 'competition:odd']
budget: 12
search: {method: [task_arithmetic], parameters: {lambda: [0.2, 1.2]}}
select: {top: 2}
"""
FEW = 48
"""Rows of each text: half of them are searched on, and that is as few as a search takes."""

TOKENS = 40_000


@pytest.fixture(scope="module")
def tuned(competition: Competition, tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """The bundled competition with short texts, two items a task, and few tokens for a search."""
    folder = shutil.copytree(competition.folder, tmp_path_factory.mktemp("searched") / "family")
    text = competition.text
    for short in competition.calibration:
        place = folder / short.file
        place.write_text("".join(place.read_text().splitlines(keepends=True)[:FEW]))
        text = text.replace(short.sha256, sha256_of([place])[place])
    (folder / "competition.yaml").write_text(text)
    opened = load_competition(folder)
    few = tuple(replace(task, limit=2) for task in opened.tasks)
    return replace(opened, tasks=few, budget=replace(opened.budget, tuning_tokens=TOKENS))


@pytest.fixture(scope="module")
def space(tuned: Competition) -> Path:
    place = tuned.folder / "baselines/space.yaml"
    place.write_text(SPACE)
    return place


@pytest.fixture(scope="module")
def judged(tuned: Competition, space: Path, tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    folder = tmp_path_factory.mktemp("judged")
    archive = folder / "space.tar"
    archive.write_bytes(pack_entry(Entry(space), tuned, name="space", hub=Hub(offline=True)))
    return judge(archive, tuned, folder / "work")


def test_the_judge_searches_a_space_and_stops_at_its_tokens(judged: Verdict) -> None:
    assert (judged.outcome, judged.message) == ("accepted", "")
    assert judged.figures is not None
    assert judged.figures.tuning is not None
    searched = judged.figures.tuning.search
    assert searched is not None
    assert TOKENS / 4 < searched.tokens <= TOKENS
    assert searched.candidates > 5
    assert judged.figures.merge_seconds > searched.seconds > 0


def test_the_recipe_that_was_found_names_the_spaces_own_models(judged: Verdict) -> None:
    assert judged.found_recipe is not None
    found = read_asked(judged.found_recipe, source="found")
    assert {str(model) for model in found.models} <= {"../models/base", "../models/sort", "../models/odd"}
    assert judged.for_participants().found_recipe == judged.found_recipe
    assert Verdict.from_json(judged.to_json()) == judged


def test_the_site_checks_and_packs_a_space_like_the_command(tuned: Competition, space: Path) -> None:
    by_command = pack_entry(Entry(space), tuned, name="space", hub=Hub(offline=True))
    assert WrittenRecipes(tuned).pack(SPACE, "space") == by_command
    assert WrittenRecipes(tuned).check(SPACE).method == "task_arithmetic"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'competition:sort'", "sort", "none of the competition's texts"),
        ("'competition:sort'", "sort-private", "none of the competition's texts"),
        ("'competition:sort'", "private/tasks/sort.yaml", "none of the competition's texts"),
        ("'competition:sort'", "'competition:srot'", "the competition has no text 'srot'"),
        ("../models/odd", "../models/none", "not one of the competition's models"),
        ("budget: 12", "anchors: [{file: /etc/passwd}]", "is a file of yours, which no judge has"),
        ("budget: 12", "items: {report: private}", "a search in the judge sees nothing private"),
        ("budget: 12", "bugdet: 12", "bugdet"),
    ],
)
def test_what_no_judge_has_is_told_while_a_space_is_written(
    tuned: Competition, old: str, new: str, message: str
) -> None:
    problems = WrittenRecipes(tuned).check(SPACE.replace(old, new)).problems
    assert any(message in problem.message for problem in problems), problems


def test_a_competition_without_tokens_for_it_takes_no_space(tuned: Competition, space: Path) -> None:
    without = replace(tuned, budget=replace(tuned.budget, tuning_tokens=None))
    with pytest.raises(SubmissionError, match="no tokens for a search"):
        pack_entry(Entry(space), without, name="space", hub=Hub(offline=True))


def test_texts_are_asked_like_the_tasks_that_they_are_like(tuned: Competition, tmp_path: Path) -> None:
    written = write_tasks(("sort", "odd"), tuned, tmp_path / "tasks")
    sort, public = load_task(written["competition:sort"]), load_task(tuned.folder / "tasks/sort.yaml")
    assert (sort.prompt, sort.metrics) == (public.prompt, public.metrics)
    assert len(sort.samples) == FEW
    assert not {sample.input for sample in sort.samples} & {sample.input for sample in public.samples}


def test_nothing_can_be_searched_by_plain_text(tuned: Competition, tmp_path: Path) -> None:
    folder = shutil.copytree(tuned.folder, tmp_path / "family")
    (folder / "texts/sort.jsonl").write_text('{"text": "no question"}\n')
    with pytest.raises(SubmissionError, match="no list of questions with answers"):
        write_tasks(("sort",), replace(tuned, folder=folder), tmp_path / "tasks")


def test_at_home_a_space_is_searched_by_the_same_tasks(tuned: Competition, space: Path, tmp_path: Path) -> None:
    run, texts = space_at_home(space, tmp_path / "out")
    assert [Path(task).stem for task in run.tasks] == ["sort", "odd"]
    assert run.items.report == 0.25
    assert set(texts) == {"competition:sort", "competition:odd"}
    plain = tmp_path / "plain.yaml"
    plain.write_text("base_model: a\nmodels: [b]\ntasks: [sort]\n")
    assert space_at_home(plain, tmp_path / "other")[1] == {}


class _Raced(Race):
    """A race of which only the cost is known: 10 candidates of 100 items at 10 tokens, one at 20."""

    def __init__(self) -> None:
        self.blocks = [{"task": ["item"] * 100}]

    @property
    def tokens(self) -> int:
        return 12_000

    @property
    def outcomes(self) -> list[object]:  # type: ignore[override]
        from types import SimpleNamespace

        return [SimpleNamespace(tokens=1000, items=100)] * 10 + [SimpleNamespace(tokens=2000, items=100)]


@pytest.mark.parametrize(("most", "is_over"), [(16_000, True), (16_001, False)])
def test_a_race_leaves_room_for_a_candidate_and_for_all_measures_after_it(most: int, is_over: bool) -> None:
    clock = Clock(Budget(1e9, "candidates", "many"), most, items_after=100)
    clock._share = lambda race: 0.0  # type: ignore[method-assign]
    assert (clock.spent(_Raced()) >= 1) is is_over


def test_a_space_is_told_from_a_recipe() -> None:
    with pytest.raises(RecipeError):
        read_asked("- a list\n", source="recipe.yaml")
    assert read_asked(SPACE, source="recipe.yaml").space is not None
    assert read_asked("merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n", source="x").space is None
