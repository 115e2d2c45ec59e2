"""Recipes that name a competition's texts: locked, checked, tuned in the judge and metered, to the same bits twice."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cuvee.api import load_stages, stages_from_text
from cuvee.errors import CuveeError, PlatformError, RecipeError, SubmissionError
from cuvee.hub import Hub
from cuvee.submission.assemble import Entry, check_entry, pack_entry
from cuvee.submission.build import Rejection
from cuvee.submission.competition import Competition
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.judge import judge, keep_tokens
from cuvee.submission.lock import make_lock, read_lock
from cuvee.submission.pack import LOCK, RECIPE, canonical_json, make_archive
from cuvee.submission.tuned import merge_tuned
from cuvee.submission.tuning import places_of, refuse_to_plan, texts_near
from cuvee.submission.verdict import Verdict
from cuvee.submission.verify import verify
from cuvee.submission.written import WrittenRecipes

EXPERTS = ("sort", "odd")
FEW = 24
"""Documents of each text: as many as statistics need, and no more."""


def recipe(head: str, key: str, texts: Mapping[str, str] | None = None, tail: str = "") -> str:
    """Write a recipe of two experts that name texts below `key`."""
    named = texts or {name: f"competition:{name}" for name in EXPERTS}
    models = "".join(f"  - model: ../models/{name}\n    {key}: {text}\n" for name, text in named.items())
    return f"{head}models:\n{models}{tail}dtype: bfloat16\n"


SUM = "merge_method: task_arithmetic\nbase_model: ../models/base\nparameters: {weight: 0.5}\n"
ALIGNED = recipe(SUM, "text", tail="align: {ridge: 3.0e-4}\n")
REGMEAN = recipe("merge_method: regmean\nbase_model: ../models/base\n", "statistics")


@pytest.fixture(scope="module")
def tuned(competition: Competition, tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """The bundled competition with short texts and two items a task, so that judging takes seconds."""
    folder = shutil.copytree(competition.folder, tmp_path_factory.mktemp("tuned") / "family")
    text = competition.text
    for short in competition.calibration:
        place = folder / short.file
        place.write_text("".join(place.read_text().splitlines(keepends=True)[:FEW]))
        text = text.replace(short.sha256, _sha256(place))
    (folder / "competition.yaml").write_text(text)
    opened = load_competition(folder)
    return replace(opened, tasks=tuple(replace(task, limit=2) for task in opened.tasks))


def _sha256(place: Path) -> str:
    from cuvee.checkpoint.hashes import sha256_of

    return sha256_of([place])[place]


def packed(folder: Path, competition: Competition, text: str) -> Path:
    place = competition.folder / "baselines" / f"mine-{folder.name}.yaml"
    place.write_text(text)
    try:
        content = pack_entry(Entry(place), competition, name="mine", hub=Hub(offline=True))
    finally:
        place.unlink()
    archive = folder / "mine.tar"
    archive.write_bytes(content)
    return archive


@pytest.fixture(scope="module")
def judged(tuned: Competition, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verdict]:
    folder = tmp_path_factory.mktemp("aligned")
    archive = packed(folder, tuned, ALIGNED)
    return archive, judge(archive, tuned, folder / "work")


def test_an_aligned_recipe_is_judged_and_says_what_it_read(judged: tuple[Path, Verdict]) -> None:
    verdict = judged[1]
    assert (verdict.outcome, verdict.message, verdict.reproducible) == ("accepted", "", "tolerance")
    assert verdict.figures is not None
    tuning = verdict.figures.tuning
    assert tuning is not None
    assert set(tuning.texts) == set(EXPERTS)
    assert tuning.tokens == sum(tuning.texts.values()) > 200
    assert Verdict.from_json(verdict.to_json()) == verdict
    told = [finding.message for finding in verdict.findings if finding.rule == "calibration"]
    assert told == ["tuned by odd, sort"]


def test_it_comes_out_again_to_the_bit_on_the_same_machine(
    judged: tuple[Path, Verdict], tuned: Competition, tmp_path: Path
) -> None:
    archive, earlier = judged
    again = verify(archive, tuned, tmp_path / "work", earlier=earlier.for_participants())
    assert again.reproduction is not None
    assert (again.reproduction.weights, again.reproduction.predictions) == ("bit_identical", "bit_identical")


def test_at_home_the_same_weights_come_out(judged: tuple[Path, Verdict], tuned: Competition, tmp_path: Path) -> None:
    place = tuned.folder / "baselines/at-home.yaml"
    place.write_text(ALIGNED)
    stages = load_stages(place)
    merged = merge_tuned(stages, tmp_path / "merged", texts_near(stages))
    assert merged.outcome.result.digest == judged[1].weights_digest  # type: ignore[union-attr]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged"]


def test_statistics_are_made_of_the_texts_that_a_recipe_names(tuned: Competition, tmp_path: Path) -> None:
    """As the job in the sandbox does it: models are at places, and nothing else is searched."""
    stages = stages_from_text(REGMEAN)
    places = {f"../models/{name}": tuned.folder / "models" / name for name in ("base", *EXPERTS)}
    texts = places_of(EXPERTS, tuned)
    merged = merge_tuned(stages, tmp_path / "merged", texts, places=places, hub=Hub(offline=True))
    assert set(merged.tokens) == {"competition:sort", "competition:odd"}
    assert min(merged.tokens.values()) > 100
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_reading_more_than_the_budget_has_is_rejected(judged: tuple[Path, Verdict], tuned: Competition) -> None:
    figures = judged[1].figures
    assert figures is not None
    keep_tokens(replace(tuned.budget, tuning_tokens=2000), 0, figures.tuning)
    with pytest.raises(Rejection, match="tokens were read to tune the recipe; the budget has 100"):
        keep_tokens(replace(tuned.budget, tuning_tokens=100), 0, figures.tuning)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("/etc/passwd", "is a file of yours, which no judge has", "its texts: competition:middle"),
        ("private/tasks/sort.csv", "is a file of yours, which no judge has", "competition:sort"),
        ("sort-private", "is a file of yours, which no judge has", "competition:sort"),
        ("competition:srot", "the competition has no text 'srot'", "did you mean 'competition:sort'?"),
    ],
)
def test_other_texts_are_refused_before_anything_is_sent(
    tuned: Competition, text: str, message: str, hint: str
) -> None:
    written = ALIGNED.replace("competition:sort", text)
    with pytest.raises(SubmissionError) as raised:
        make_lock(stages_from_text(written, folder=tuned.folder / "baselines"), tuned)
    assert message in raised.value.message
    assert hint in str(raised.value.hint)
    problem = WrittenRecipes(tuned).check(written.replace("../", "")).problems[0]
    assert (problem.line, message in problem.message) == (6, True)


@pytest.mark.parametrize("reference", ["/etc/passwd", "private/tasks/sort.csv", "../private/seed.txt", "sort-private"])
def test_the_judge_opens_no_text_by_a_path_whatever_a_lock_says(
    tuned: Competition, tmp_path: Path, reference: str
) -> None:
    """Whoever packs an archive by hand can write any recipe, and a lock that fits it."""
    written = ALIGNED.replace("competition:sort", reference)
    stages = stages_from_text(written, folder=tuned.folder / "baselines")
    honest = make_lock(stages_from_text(ALIGNED, folder=tuned.folder / "baselines"), tuned)
    lock = replace(honest, recipe=stages[-1].digest)
    archive = tmp_path / "by-hand.tar"
    files = {RECIPE: written.encode(), LOCK: canonical_json(lock.to_json())}
    archive.write_bytes(make_archive("by-hand", "recipe", tuned.name, files))
    verdict = judge(archive, tuned, tmp_path / "work")
    assert (verdict.outcome, verdict.reason) == ("rejected", "archive")
    assert "no judge has" in verdict.message


def test_a_lock_of_another_text_is_against_the_rules(tuned: Competition, tmp_path: Path) -> None:
    stages = stages_from_text(ALIGNED, folder=tuned.folder / "baselines")
    lock = make_lock(stages, tuned)
    changed = replace(lock, texts={**lock.texts, "sort": "0" * 64})
    archive = tmp_path / "old.tar"
    files = {RECIPE: ALIGNED.encode(), LOCK: canonical_json(changed.to_json())}
    archive.write_bytes(make_archive("old", "recipe", tuned.name, files))
    verdict = judge(archive, tuned, tmp_path / "work")
    assert (verdict.outcome, verdict.reason) == ("rejected", "rules")
    assert "'sort' is not the competition's text of this name" in verdict.message


def test_a_text_that_has_changed_is_the_organisers_fault(tuned: Competition, tmp_path: Path) -> None:
    folder = shutil.copytree(tuned.folder, tmp_path / "family")
    (folder / "texts/sort.jsonl").write_text('{"text": "another"}\n')
    with pytest.raises(PlatformError, match="the competition's text 'sort' has changed"):
        places_of(("sort",), replace(tuned, folder=folder))


def test_code_of_a_participant_meets_no_text(tuned: Competition) -> None:
    stages = stages_from_text(ALIGNED, folder=tuned.folder / "baselines")
    from cuvee.submission.gather import gather
    from cuvee.submission.rules import check_rules

    evidence = gather(make_lock(stages, tuned), "plugin", tuned, Hub(offline=True), ALIGNED)
    broken = [finding.message for finding in check_rules(tuned.rules, evidence) if finding.outcome == "fail"]
    assert "the tier 'plugin' brings code, and the judge tunes recipes alone" in broken


def test_the_site_packs_what_the_command_packs(tuned: Competition) -> None:
    place = tuned.folder / "baselines/tuned-by-hand.yaml"
    place.write_text(ALIGNED)
    by_command = pack_entry(Entry(place), tuned, name="mine", hub=Hub(offline=True))
    assert WrittenRecipes(tuned).pack(ALIGNED, "mine") == by_command
    assert all(finding.outcome == "pass" for finding in check_entry(Entry(place), tuned, Hub(offline=True))[1])
    place.unlink()


def test_locks_without_texts_are_written_as_before(tuned: Competition) -> None:
    plain = make_lock(load_stages(tuned.folder / "baselines/average.yaml"), tuned)
    assert "texts" not in plain.to_json()
    assert read_lock(plain.to_json(), LOCK) == plain


def test_a_text_of_a_competition_is_named_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as raised:
        texts_near(stages_from_text(ALIGNED, folder=tmp_path))
    assert "cuvee competition get" in str(raised.value.hint)


def test_a_plan_says_in_one_message_that_a_merge_makes_statistics(tuned: Competition) -> None:
    folder = tuned.folder / "baselines"
    with pytest.raises(RecipeError, match=r"statistics of competition:sort, competition:odd while it runs") as raised:
        refuse_to_plan(stages_from_text(REGMEAN, folder=folder))
    assert "`cuvee merge RECIPE OUT` makes them" in str(raised.value.hint)
    with pytest.raises(RecipeError, match="the competition has no text 'srot'"):
        refuse_to_plan(stages_from_text(REGMEAN.replace("competition:sort", "competition:srot"), folder=folder))
    refuse_to_plan(stages_from_text(ALIGNED, folder=folder))


def test_stages_are_not_aligned_and_have_no_statistics(tuned: Competition, tmp_path: Path) -> None:
    first = f"name: half\n{recipe(SUM, 'text', tail='align: {}' + chr(10))}"
    second = "---\nmerge_method: regmean\nbase_model: ../models/base\nmodels:\n" + (
        "  - {model: half, statistics: 'competition:odd'}\n  - {model: ../models/odd, statistics: 'competition:odd'}\n"
    )
    stages = stages_from_text(first + second, folder=tuned.folder / "baselines")
    with pytest.raises(CuveeError) as raised:
        merge_tuned(stages, tmp_path / "out", texts_near(stages))
    said = " ".join(error.message for error in raised.value.problems)
    assert "'align' is for a recipe of one stage" in said
    assert "which an earlier stage makes" in said
