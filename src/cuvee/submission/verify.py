"""Verifies a submission: judges it here, compares with its claims and with an earlier verdict, signs the findings.

Anyone can: without the organiser's private items only public parts are measured, without the key nothing is signed.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuvee.errors import RecipeError, SubmissionError
from cuvee.hub import Hub
from cuvee.progress import Progress, Silent
from cuvee.submission.claim import PREDICTIONS_TOLERANCE, SCORES_TOLERANCE
from cuvee.submission.competition import Competition, Wall
from cuvee.submission.evidence import Evidence
from cuvee.submission.judge import judge
from cuvee.submission.pack import strict_json
from cuvee.submission.rules import check_rules
from cuvee.submission.scratch import own_folder
from cuvee.submission.sign import checked, signed
from cuvee.submission.verdict import WITHHELD, Agreement, Finding, PublicScores, PublicVerdict, Reproduction, Verdict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def verify(
    archive: Path,
    competition: Competition,
    workdir: Path,
    *,
    earlier: PublicVerdict | None = None,
    private_items: Path | None = None,
    hub: Hub | None = None,
    progress: Progress | None = None,
    without: Sequence[Wall] = (),
) -> Verdict:
    """Judge a submission, and say whether an `earlier` verdict comes out again.

    `without` names walls that this machine may lack besides those that the competition lets go.
    """
    competition = replace(competition, without=(*competition.without, *without))
    verdict = judge(archive, competition, workdir, progress=progress or Silent(), private_items=private_items, hub=hub)
    if earlier is None or verdict.outcome != "accepted":
        return verdict
    if earlier.submission != verdict.submission:
        raise RecipeError("the earlier verdict is of another submission")
    return replace(verdict, reproduction=compare_verdicts(earlier, verdict))


def verify_in(work: Path | None, archive: Path, competition: Competition, **options: Any) -> Verdict:
    """Verify in a new folder, or in a folder that is removed afterwards. Options are those of `verify`."""
    if work is not None:
        if work.exists():
            raise RecipeError("the folder is there already", where=str(work), hint="name a new one")
        return verify(archive, competition, work, **options)
    with own_folder(None) as folder:
        return verify(archive, competition, folder / "work", **options)


def check_again(verdict: PublicVerdict, competition: Competition) -> tuple[Evidence, tuple[Finding, ...]]:
    """Apply the rules again to the evidence that a verdict stores. Raises SubmissionError if it stores none."""
    if verdict.evidence is None:
        raise SubmissionError("the verdict has no evidence: it was made before the rules were checked")
    return verdict.evidence, check_rules(competition.rules, verdict.evidence)


def _values(scores: PublicScores | None, part: str) -> dict[str, float]:
    if scores is None or scores.part != part:
        return {}
    return {score.task: score.value for score in scores.tasks}


def compare_verdicts(earlier: PublicVerdict, now: Verdict) -> Reproduction:
    """Compare two verdicts on one submission: digests of weights and answers, and the public scores of every task."""
    part = now.public.part if now.public is not None else "public"
    before, after = _values(earlier.public, part), _values(now.public, part)
    gaps = [abs(value - after.get(task, math.inf)) for task, value in before.items()]
    gap = max(gaps, default=None)
    agree = _agreeing(earlier, now)
    return Reproduction(
        weights=_same(earlier.weights_digest, now.weights_digest),
        predictions=_agreement(_same(earlier.predictions_digest, now.predictions_digest), agree),
        scores="not_claimed" if gap is None else _named(gap == 0, gap <= SCORES_TOLERANCE),
        predictions_agree=agree,
        score_gap=gap,
    )


def _same(before: str | None, now: str | None) -> Agreement:
    if before is None:
        return "not_claimed"
    return "bit_identical" if before == now else "differs"


def _agreement(digests: Agreement, agree: float | None) -> Agreement:
    if digests != "differs" or agree is None:
        return digests
    return "within_tolerance" if agree >= PREDICTIONS_TOLERANCE else "differs"


def _agreeing(earlier: PublicVerdict, now: Verdict) -> float | None:
    """Return the share of public items that score the same: a verdict has no answers, only their scores."""
    if earlier.public is None or now.public is None:
        return None
    agreed: list[bool] = []
    for task, items in earlier.public.items.items():
        agreed += map(eq, items, now.public.items.get(task, ()))
    return sum(agreed) / len(agreed) if agreed else None


def _named(equal: bool, near: bool) -> Agreement:
    if equal:
        return "bit_identical"
    return "within_tolerance" if near else "differs"


def reproduced(verdict: Verdict) -> bool:
    """Say whether nothing that was claimed came out otherwise."""
    if verdict.outcome != "accepted":
        return False
    found = verdict.reproduction
    return found is None or "differs" not in (found.weights, found.predictions, found.scores)


def signed_verdict(verdict: PublicVerdict, key: "Ed25519PrivateKey") -> dict[str, Any]:
    """Return a verdict as a signed document, private scores left out."""
    return signed(verdict.to_json(), key)


def read_verdict(path: Path, competition: Competition) -> PublicVerdict:
    """Read a verdict. A signed verdict must be signed by the competition. Raises SubmissionError."""
    try:
        content = strict_json(path.read_bytes(), str(path))
    except OSError as error:
        raise RecipeError(f"cannot read the verdict: {error.strerror}", where=str(path)) from error
    if isinstance(content, dict) and "signature" in content:
        if competition.public_key is None:
            raise SubmissionError("the competition has no public key to check the signature with", where=str(path))
        content = checked(content, competition.public_key)
    return PublicVerdict.from_json(_without_private(content))


def _without_private(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    return {key: value for key, value in content.items() if key not in WITHHELD}


def as_text(document: Any) -> str:
    """Write a verdict or a signed document."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
