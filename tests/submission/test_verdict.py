"""Verdicts travel as JSON, and what participants see has no place for private scores."""

import json
from datetime import UTC, datetime

import pytest

from cuvee.errors import SubmissionError
from cuvee.evaluation import Score
from cuvee.submission.evidence import Evidence, ModelFacts
from cuvee.submission.verdict import WITHHELD, Finding, PrivateScores, PublicScores, PublicVerdict, Verdict

SCORE = Score("macro", "accuracy", 3, 0.5, 0.1, 0.3, 0.7)
SECRET = Score("macro", "accuracy", 3, 0.123456789, 0.1, 0.3, 0.7)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PARENT = ModelFacts("org/parent", "hub", created=NOW)
VERDICT = Verdict(
    "accepted",
    "d" * 64,
    "family",
    "c" * 64,
    NOW,
    findings=(Finding("licence", "note", "not for sale", "org/model"),),
    evidence=Evidence("recipe", "linear", (ModelFacts("org/model", "hub", files={"a": 1}, parents=(PARENT,)),), NOW),
    public=PublicScores(SCORE, (SCORE,), {"sort": (1.0, 0.0, 1.0)}),
    private=PrivateScores(SECRET, (SECRET,), {"sort": (0.0,)}),
    log="something that was printed",
)


def test_a_verdict_comes_back_from_json() -> None:
    assert Verdict.from_json(json.loads(json.dumps(VERDICT.to_json()))) == VERDICT


def test_participants_see_a_type_without_private_scores() -> None:
    told = VERDICT.for_participants()
    assert {"private", "likeness", "log"} == WITHHELD
    assert "0.123456789" not in json.dumps(told.to_json()) + repr(told)
    assert PublicVerdict.from_json(json.loads(json.dumps(told.to_json()))) == told


def test_a_private_verdict_is_no_public_one() -> None:
    with pytest.raises(SubmissionError, match="private"):
        PublicVerdict.from_json(VERDICT.to_json())


@pytest.mark.parametrize("content", [None, [], {}, {"outcome": "won"}, {**VERDICT.to_json(), "score": 1}])
def test_anything_else_is_refused(content: object) -> None:
    with pytest.raises(SubmissionError, match="no verdict"):
        Verdict.from_json(content)


def test_only_what_failed_for_our_reasons_is_free() -> None:
    outcomes = {
        outcome: Verdict(outcome, "", "", "", NOW).costs_quota for outcome in ("accepted", "rejected", "errored")
    }  # type: ignore[arg-type]
    assert outcomes == {"accepted": True, "rejected": True, "errored": False}
