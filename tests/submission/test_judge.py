"""From an archive to a verdict: a whole one in the sandbox of this machine, and each way to fail before that."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cuvee.api import recipe_from_text
from cuvee.evaluation import load_task
from cuvee.hub import Hub
from cuvee.submission.competition import Competition
from cuvee.submission.gather import gather
from cuvee.submission.judge import Pace, judge
from cuvee.submission.lock import make_lock
from cuvee.submission.sandbox import Limits, Sandbox, choose_sandbox
from cuvee.submission.sandbox.choose import find_walls
from cuvee.submission.sandbox.protocol import Ended, Hear, Job
from cuvee.submission.verdict import Verdict
from made_up_library import write_made_up_transformers
from submission.conftest import AVERAGE, packed


@pytest.fixture(scope="module")
def verdict(competition: Competition, tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    """The verdict of an average of two experts, eight items a part."""
    folder = tmp_path_factory.mktemp("judged")
    few = replace(competition, tasks=tuple(replace(task, limit=8) for task in competition.tasks))
    return judge(packed(folder, few, AVERAGE), few, folder / "work", private_items=few.folder)


def test_a_recipe_is_built_measured_and_accepted(verdict: Verdict, competition: Competition) -> None:
    assert (verdict.outcome, verdict.reason, verdict.message) == ("accepted", None, "")
    assert verdict.public is not None
    assert verdict.private is not None
    assert {score.task for score in verdict.public.tasks} == {task.name for task in competition.tasks}
    assert {len(items) for items in verdict.private.items.values()} == {8}
    assert all(finding.outcome == "pass" for finding in verdict.findings)


def test_the_figures_say_what_was_taken_and_where(verdict: Verdict) -> None:
    figures = verdict.figures
    assert figures is not None
    assert figures.parameters == 1_410_400
    assert figures.sandbox == choose_sandbox().name
    assert figures.peak_memory_bytes > 50_000_000
    assert figures.tokens > 0
    measured = not {"cgroup", "cpu"} & find_walls().lacks.keys()
    assert (figures.normalised_cpu_seconds is not None) is measured
    assert figures.normalised_cpu_seconds is None or figures.normalised_cpu_seconds > 1
    assert figures.hardware.versions["torch"]


def test_scores_are_of_our_labels_and_not_of_what_the_sandbox_says(verdict: Verdict, competition: Competition) -> None:
    assert verdict.private is not None
    task = load_task(competition.folder / "private/tasks/odd.yaml")
    assert set(verdict.private.items["odd"]) <= {0.0, 1.0}
    assert len(verdict.private.items["odd"]) == len(task.samples)


def test_a_verdict_is_the_same_after_json(verdict: Verdict) -> None:
    assert Verdict.from_json(verdict.to_json()) == verdict


@pytest.mark.parametrize(
    ("recipe", "reason", "message"),
    [
        (AVERAGE.replace("linear", "lineer"), "recipe", "did you mean 'linear'"),
        (AVERAGE + "seed: 3\n", "archive", "the lock is of another recipe"),
    ],
)
def test_what_cannot_be_read_is_rejected(
    competition: Competition, tmp_path: Path, recipe: str, reason: str, message: str
) -> None:
    archive = packed(tmp_path, competition, AVERAGE)
    files = _replaced(archive, recipe)
    archive.write_bytes(files)
    verdict = judge(archive, competition, tmp_path / "work")
    assert (verdict.outcome, verdict.reason) == ("rejected", reason)
    assert message in verdict.message


def test_a_model_that_is_not_the_competitions_is_against_the_rules(competition: Competition, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for file in (competition.folder / "models/sort").iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    config = own / "config.json"
    config.write_text(config.read_text().replace('"silu"', '"gelu"'))
    recipe = AVERAGE.replace("../models/sort", str(own))
    verdict = judge(packed(tmp_path, competition, recipe), competition, tmp_path / "work")
    assert (verdict.outcome, verdict.reason) == ("rejected", "rules")
    assert "known" in verdict.message
    assert verdict.evidence is not None


def test_a_model_is_known_by_its_files_and_not_by_its_name(competition: Competition, tmp_path: Path) -> None:
    own = tmp_path / "my-copy"
    own.mkdir()
    for file in (competition.folder / "models/sort").iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    read = recipe_from_text(AVERAGE.replace("../models/sort", str(own)), folder=competition.folder / "baselines")
    evidence = gather(make_lock(read), "recipe", competition, Hub(offline=True))
    assert [model.origin for model in evidence.models] == ["competition", "competition"]


def test_a_submission_to_another_competition_is_rejected(competition: Competition, tmp_path: Path) -> None:
    archive = packed(tmp_path, replace(competition, name="elsewhere"), AVERAGE)
    verdict = judge(archive, competition, tmp_path / "work")
    assert (verdict.outcome, verdict.reason) == ("rejected", "archive")
    assert "elsewhere" in verdict.message


def test_no_archive_is_rejected_and_not_our_failure(competition: Competition, tmp_path: Path) -> None:
    file = tmp_path / "noise.tar"
    file.write_bytes(b"no archive" * 1000)
    verdict = judge(file, competition, tmp_path / "work")
    assert (verdict.outcome, verdict.reason) == ("rejected", "archive")


def test_a_damaged_competition_is_our_failure(competition: Competition, tmp_path: Path) -> None:
    archive = packed(tmp_path, competition, AVERAGE)
    elsewhere = replace(competition, folder=tmp_path / "nowhere")
    verdict = judge(archive, elsewhere, tmp_path / "work")
    assert (verdict.outcome, verdict.reason) == ("errored", "infrastructure")
    assert not verdict.costs_quota


@dataclass(frozen=True)
class LibraryBefore:
    """A sandbox whose jobs find another library before the installed one."""

    inner: Sandbox
    library: Path
    name: str = "with another library"
    isolates: bool = True

    def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
        path = f"{self.library}:{job.environment['PYTHONPATH']}"
        changed = replace(
            job, readable=(*job.readable, self.library), environment={**job.environment, "PYTHONPATH": path}
        )
        return self.inner.run(changed, limits, hear)


def test_a_library_that_nobody_has_tried_costs_a_team_nothing(competition: Competition, tmp_path: Path) -> None:
    library = write_made_up_transformers(tmp_path / "library")
    sandbox = LibraryBefore(choose_sandbox(), library)
    archive = packed(tmp_path, competition, AVERAGE)
    verdict = judge(archive, competition, tmp_path / "work", private_items=competition.folder, sandbox=sandbox)
    assert (verdict.outcome, verdict.reason) == ("errored", "infrastructure")
    assert "transformers 5.99.0 is not known here; tested: " in verdict.message
    assert not verdict.costs_quota


def test_an_extra_that_the_judge_lacks_costs_a_team_nothing(competition: Competition, tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError('no transformers', name='transformers')"
    library = write_made_up_transformers(tmp_path / "library", missing)
    sandbox = LibraryBefore(choose_sandbox(), library)
    archive = packed(tmp_path, competition, AVERAGE)
    verdict = judge(archive, competition, tmp_path / "work", private_items=competition.folder, sandbox=sandbox)
    assert (verdict.outcome, verdict.reason) == ("errored", "infrastructure")
    assert not verdict.costs_quota


def test_the_budget_grows_on_a_slower_machine(competition: Competition) -> None:
    budget = replace(competition.budget, seconds=100.0, calibration_seconds=0.5)
    assert Pace.of(budget, 1.0).limits(20.0).seconds == pytest.approx(180.0)
    assert Pace.of(budget, 0.25).limits(20.0).seconds == pytest.approx(30.0)
    assert Pace.of(replace(budget, calibration_seconds=None), None).limits(20.0).seconds == pytest.approx(80.0)


def test_the_second_job_has_the_cpu_seconds_that_the_first_has_left(competition: Competition) -> None:
    budget = replace(competition.budget, cpu_seconds=60.0, calibration_seconds=0.5)
    assert Pace.of(budget, 1.0).limits(0.0).cpu_seconds == pytest.approx(120.0)
    assert Pace.of(budget, 1.0).limits(5.0, 30.0).cpu_seconds == pytest.approx(90.0)
    assert Pace.of(replace(budget, cpu_seconds=None), 1.0).limits(5.0, 30.0).cpu_seconds is None


def test_a_submission_over_its_cpu_seconds_is_rejected_by_name(competition: Competition, tmp_path: Path) -> None:
    if {"sandbox", "cgroup", "cpu"} & find_walls().lacks.keys():
        pytest.skip("nothing counts them here")
    short = replace(competition, budget=replace(competition.budget, cpu_seconds=0.5, calibration_seconds=None))
    verdict = judge(packed(tmp_path, short, AVERAGE), short, tmp_path / "work")
    assert (verdict.outcome, verdict.reason) == ("rejected", "cpu")
    assert "over the budget's cpu" in verdict.message


def _replaced(archive: Path, recipe: str) -> bytes:
    """Return the archive with another recipe under an honest manifest."""
    from cuvee.submission.pack import make_archive, read_archive

    old = read_archive(archive)
    return make_archive(old.name, old.tier, old.manifest.competition, {**old.files, "recipe.yaml": recipe.encode()})
