"""Pack, secrets, signatures, verdicts that come out again: what participants and third parties do."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cuvee.errors import RecipeError, SubmissionError
from cuvee.evaluation import Score
from cuvee.hub import Hub
from cuvee.submission.assemble import Entry, pack_entry
from cuvee.submission.competition import Competition
from cuvee.submission.evidence import Evidence, ModelFacts
from cuvee.submission.leaks import SHAPES, refuse_leaks
from cuvee.submission.organise import check_competition
from cuvee.submission.pack import CLAIM, LOCK, RECIPE, read_archive
from cuvee.submission.sign import checked, new_key, read_key, signed
from cuvee.submission.template import new_competition
from cuvee.submission.verdict import PrivateScores, PublicScores, Verdict
from cuvee.submission.verify import check_again, compare_verdicts, read_verdict, reproduced, signed_verdict
from submission.conftest import OPENED

SCORE = Score("sort", "exact_match", 4, 0.5, 0.1, 0.3, 0.7)
VERDICT = Verdict(
    "accepted",
    "d" * 64,
    "blend-the-family",
    "c" * 64,
    datetime(2026, 11, 1, tzinfo=UTC),
    evidence=Evidence("recipe", "linear", (ModelFacts("m", "competition", parameters=10**12),)),
    weights_digest="w" * 64,
    predictions_digest="p" * 64,
    public=PublicScores(SCORE, (SCORE,), {"sort": (1.0, 0.0, 1.0, 0.0)}),
    private=PrivateScores(SCORE, (SCORE,), {"sort": (1.0,)}),
)


def packed(competition: Competition, entry: Entry, **options: object) -> bytes:
    return pack_entry(entry, competition, name="mine", hub=Hub(offline=True), **options)  # type: ignore[arg-type]


@pytest.fixture
def recipe(competition: Competition, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text((competition.folder / "baselines/average.yaml").read_text().replace("..", str(competition.folder)))
    return path


def test_an_archive_is_small_and_the_same_each_time(competition: Competition, recipe: Path, tmp_path: Path) -> None:
    once, again = packed(competition, Entry(recipe)), packed(competition, Entry(recipe))
    assert once == again
    assert len(once) < 20_000
    (tmp_path / "a.tar").write_bytes(once)
    submission = read_archive(tmp_path / "a.tar")
    assert set(submission.files) == {RECIPE, LOCK}
    assert submission.recipe_text == recipe.read_text()


def test_what_was_measured_goes_along(competition: Competition, recipe: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    (report / "samples").mkdir(parents=True)
    figures = {"sort": {"metrics": {"exact_match": {"value": 0.5}}}}
    (report / "report.json").write_text(json.dumps({"tasks": figures}))
    (report / "samples/sort.jsonl").write_text('{"id": "a", "prediction": "1 2"}\n')
    entry = Entry(recipe, merged=competition.folder / "models/sort", report=report)
    (tmp_path / "a.tar").write_bytes(packed(competition, entry))
    claim = json.loads(read_archive(tmp_path / "a.tar").files[CLAIM])
    assert claim["scores"] == {"sort": 0.5}
    assert claim["predictions"] == {"sort": {"a": "1 2"}}
    assert len(claim["weights_digest"]) == 64


SECRETS = {
    "a token of a model hub": "hf_" + "a1" * 17,
    "a GitHub token": "ghp_" + "a1" * 18,
    "an API key": "sk-" + "a1" * 16,
    "an AWS key": "AKIA" + "A1" * 8,
    "a Google key": "AIza" + "a1" * 18,
    "a Slack token": "xoxb-" + "1234567890-abc",
    "a private key": "-----BEGIN OPENSSH PRIVATE KEY",
    "a password in an address": "https://me:secret@example.org",
}


@pytest.mark.parametrize("what", list(SHAPES))
def test_a_secret_is_found_with_its_line(what: str) -> None:
    with pytest.raises(SubmissionError, match=f"recipe.yaml: line 2 has {what}") as caught:
        refuse_leaks({RECIPE: f"seed: 1\n# {SECRETS[what]}\n".encode()})
    assert SECRETS[what] not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "half_of_it: 1",
        "sk-learn is a library",
        "model: org/hf_model",
        "https://example.org/a@b",
        "digest: " + "a1" * 32,
    ],
)
def test_what_is_no_secret_passes(text: str) -> None:
    refuse_leaks({RECIPE: text.encode()}, ["short"])


def test_packing_refuses_the_secrets_of_this_machine(competition: Competition, recipe: Path) -> None:
    recipe.write_text(recipe.read_text() + "# my-own-password\n")
    with pytest.raises(SubmissionError, match="a secret of this machine"):
        packed(competition, Entry(recipe), secrets=["my-own-password"])


def test_a_program_is_packed_without_what_tools_leave(competition: Competition, tmp_path: Path) -> None:
    program = tmp_path / "program"
    for name in ("main.py", "part/more.py", ".git/config", "__pycache__/main.pyc", ".env"):
        (program / name).parent.mkdir(parents=True, exist_ok=True)
        (program / name).write_text("x = 1")
    entry = Entry(program=program, models=(str(competition.folder / "models/sort"),))
    (tmp_path / "a.tar").write_bytes(packed(competition, entry))
    assert set(read_archive(tmp_path / "a.tar").files) == {LOCK, "program/main.py", "program/part/more.py"}
    (program / "link").symlink_to("/etc/passwd")
    with pytest.raises(SubmissionError, match="a link"):
        packed(competition, entry)


def test_a_signature_is_of_the_content_and_of_the_key(competition: Competition, tmp_path: Path) -> None:
    key = read_key(competition.folder / "private/key.pem")
    assert competition.public_key is not None
    document = json.loads(json.dumps(signed({"score": 0.5}, key)))
    assert checked(document, competition.public_key) == {"score": 0.5}
    other = new_key(tmp_path / "other.pem")
    forged = signed({"score": 0.9}, read_key(tmp_path / "other.pem"))
    for bad in (
        {**document, "content": {"score": 0.9}},
        {**document, "signature": document["signature"][:-8] + "AAAAAAA="},
        {**document, "signature": 1},
        {**document, "public_key": other},
        {**forged, "public_key": competition.public_key},
        forged,
        {**document, "more": 1},
        [],
    ):
        with pytest.raises(SubmissionError):
            checked(bad, competition.public_key)


def test_a_signed_verdict_is_read_and_a_forged_one_is_not(competition: Competition, tmp_path: Path) -> None:
    key = read_key(competition.folder / "private/key.pem")
    path = tmp_path / "verdict.json"
    path.write_text(json.dumps(signed_verdict(VERDICT.for_participants(), key)))
    assert read_verdict(path, competition) == VERDICT.for_participants()
    path.write_text(path.read_text().replace("accepted", "rejected"))
    with pytest.raises(SubmissionError, match="not that of this content"):
        read_verdict(path, competition)


def test_no_private_score_is_signed_or_read(competition: Competition, tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    path.write_text(json.dumps(VERDICT.to_json()))
    assert not hasattr(read_verdict(path, competition), "private")
    key = read_key(competition.folder / "private/key.pem")
    assert "private" not in signed_verdict(VERDICT.for_participants(), key)["content"]


def test_rules_are_applied_again_to_what_a_verdict_stores(competition: Competition) -> None:
    _, findings = check_again(VERDICT.for_participants(), competition)
    assert "parameters" in [finding.rule for finding in findings if finding.outcome == "fail"]


def test_the_same_verdict_is_reproduced_and_another_is_not() -> None:
    same = compare_verdicts(VERDICT.for_participants(), VERDICT)
    assert (same.weights, same.predictions, same.scores) == ("bit_identical",) * 3
    assert reproduced(replace(VERDICT, reproduction=same))
    other = replace(VERDICT, weights_digest="x" * 64)
    found = compare_verdicts(VERDICT.for_participants(), other)
    assert found.weights == "differs"
    assert not reproduced(replace(other, reproduction=found))


def test_a_new_competition_holds_together(competition: Competition) -> None:
    found = check_competition(competition, Hub(offline=True))
    assert not found.problems
    assert (found.public_items, found.private_items, found.models) == (40, 40, 6)


def test_what_does_not_hold_together_is_told_at_once(tmp_path: Path) -> None:
    spoilt = new_competition(tmp_path / "spoilt", 1, now=OPENED, items=2)
    shutil.copy(spoilt.folder / "tasks/sort.csv", spoilt.folder / "private/tasks/sort.csv")
    (spoilt.folder / "models/odd/config.json").write_text("{}")
    (spoilt.folder / "private/key.pem").unlink()
    new_key(spoilt.folder / "private/key.pem")
    said = " ".join(str(problem) for problem in check_competition(spoilt, Hub(offline=True)).problems)
    for words in (
        "2 items of the private part",
        "not the one that the competition names",
        "not that of the public key",
    ):
        assert words in said
    assert "breaks the rule 'known'" in said


def test_an_unreadable_key_is_the_authors_mistake(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(RecipeError, match="cannot read the private key"):
        read_key(tmp_path / "key.pem")
