"""A verdict is bound to its run, and checked where it comes in, whatever way it came.

A worker is trusted to judge, but not to have the right file, the right run and sound numbers: what it says must be of
this submission, this competition and this purpose, of exactly the tasks and as many items as all other verdicts, and
its averages must follow from its items. Messages hold no figure of a private part: a team may read them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.inbox import submission_digest
from cuvee.competition.private import private_counts
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import HIDDEN, PUBLIC
from cuvee.competition.tables import archives, submissions, verdicts
from cuvee.competition.worker_keys import is_registered
from cuvee.errors import SubmissionError
from cuvee.evaluation import Score
from cuvee.evaluation.statistics import Estimate, average, mean
from cuvee.submission.competition import Competition, CompetitionTask
from cuvee.submission.likeness import NUMBERS, Likeness
from cuvee.submission.sign import checked
from cuvee.submission.statement import Signature, content_of
from cuvee.submission.verdict import Figures, PrivateScores, PublicScores, Tuning, Verdict

NEAR = 1e-6
"""Other processors may round a sum in another way, and no more."""

NEAR_LENGTH = 1e-3
"""A sketch is rounded before it is sent."""

LARGEST_COUNT = 2**63 - 1
LARGEST_SECONDS = 1e9

ZERO = "\0"
"""PostgreSQL keeps a text with it, and fails over every row once a query reads it."""

Scores = PublicScores | PrivateScores


def check_content(verdict: Verdict, competition: Competition, purpose: str) -> None:
    """Check what the verdict alone tells. Raises Refusal 'bad_verdict' that says what does not fit.

    The first problem ends the look: what comes after it need not be sound enough to be averaged.
    """
    for problem in _content_problems(verdict, competition, purpose):
        raise _refusal(problem)


def check_bound(connection: Connection, run: Row[Any], verdict: Verdict) -> None:
    """Check a verdict against its run and all other verdicts. Raises Refusal 'bad_verdict'."""
    for problem in _bond_problems(connection, run, verdict):
        raise _refusal(problem)


def check_signed(connection: Connection, run: Row[Any], verdict: Verdict, signature: Signature) -> dict[str, Any]:
    """Check that the worker which holds the run has signed this verdict of it. Return the signed document.

    Raises Refusal 'bad_verdict'.
    """
    if not is_registered(connection, run.worker, signature.public_key):
        hint = "start the worker anew; if its key has ended with its token, remove the key's file first"
        raise _refusal("it is signed with a key that is not, or no longer, its worker's", hint)
    content = content_of(verdict, run=run.id, fence=run.fence, purpose=run.purpose, salt=signature.salt)
    document = {"content": content, "public_key": signature.public_key, "signature": signature.signature}
    try:
        checked(document, signature.public_key)
    except SubmissionError as error:
        raise _refusal("its signature is not that of this verdict and this run", "judge it again") from error
    return document


FOLDER_HINT = "give the worker the server's folder; other tasks or items need a new version of competition.yaml"


def _refusal(problem: str, hint: str = FOLDER_HINT) -> Refusal:
    return Refusal("bad_verdict", f"the verdict does not fit its run: {problem}", hint=hint)


def _content_problems(verdict: Verdict, competition: Competition, purpose: str) -> Iterator[str]:
    if verdict.competition != competition.name:
        yield f"it is of the competition '{verdict.competition[:80]}', not of '{competition.name}'"
    if verdict.competition_digest != competition.digest:
        yield f"it is of a competition.yaml {_short(verdict.competition_digest)}, not {_short(competition.digest)}"
    for place, value in _values(verdict.to_json()):
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{place} is not a finite number"
        if isinstance(value, str) and ZERO in value:
            yield f"{place} has a zero byte"
    if verdict.outcome == "accepted":
        yield from _accepted_problems(verdict, competition, purpose)
    elif verdict.public is not None or verdict.private is not None:
        yield f"it is {verdict.outcome} and has scores"
    elif verdict.reason is None:
        yield f"it is {verdict.outcome} without a reason"


def _accepted_problems(verdict: Verdict, competition: Competition, purpose: str) -> Iterator[str]:
    if verdict.public is None or verdict.figures is None:
        yield "an accepted verdict needs public scores and figures"
        return
    hidden = [task for task in competition.tasks if task.private is not None]
    yield from _purpose_problems(verdict, purpose, hidden)
    yield from _figure_problems(verdict.figures)
    if verdict.figures.tuning is not None:
        yield from _tuning_problems(verdict.figures.tuning, competition)
    board = "leaderboard" if competition.hides_board else "public"
    if verdict.public.part != board:
        yield f"its scores are of the {verdict.public.part} part, and the board is by the {board} part"
    yield from _score_problems("public", verdict.public, competition.tasks)
    if verdict.private is not None:
        yield from _score_problems("private", verdict.private, hidden)
        yield from _control_problems(verdict.private, hidden)
    if verdict.likeness is not None:
        yield from _likeness_problems(verdict.likeness, verdict.public)


def _purpose_problems(verdict: Verdict, purpose: str, hidden: Sequence[CompetitionTask]) -> Iterator[str]:
    has_private = verdict.private is not None
    if purpose == PUBLIC and has_private:
        yield "a public run brings no private scores, and this has some"
    if purpose == HIDDEN and hidden and not has_private:
        yield "a final run brings private scores, and this has none"


def _score_problems(part: str, scores: Scores, tasks: Sequence[CompetitionTask]) -> Iterator[str]:
    names = sorted(task.name for task in tasks)
    measured = sorted(score.task for score in scores.tasks)
    if sorted(scores.items) != names or measured != names:
        yield f"{part} scores are of {_listed(scores.items)}; the tasks are {_listed(names)}"
        return
    by_name = {score.task: score for score in scores.tasks}
    for task in tasks:
        yield from _item_problems(part, task.name, scores.items[task.name])
        yield from _task_problems(part, task, by_name[task.name], scores.items[task.name])
    items = [scores.items[task.name] for task in tasks]
    if _differs(scores.macro, average(items, [task.weight for task in tasks])):
        yield f"the {part} average is not that of the items"


def _control_problems(scores: PrivateScores, hidden: Sequence[CompetitionTask]) -> Iterator[str]:
    """Check what controls say; their figures are told of no item, so they can only be looked at for themselves."""
    asked = set()
    for task in hidden:
        wanted = task.controls
        kinds = (("shuffled", wanted.shuffled), ("paraphrased", wanted.paraphrases), ("canaries", wanted.canaries))
        asked |= {(task.name, kind) for kind, is_asked in kinds if is_asked}
    brought = [(control.task, control.kind) for control in scores.controls]
    if len(set(brought)) != len(brought) or not asked.issuperset(brought):
        yield "it has controls that the competition does not ask"
    if not all(-1 <= control.low <= control.value <= control.high <= 1 for control in scores.controls):
        yield "it has a control whose interval does not hold its value"
    names = {task.name for task in hidden}
    are_shares = all(0 <= share <= 1 for share in scores.agreement.values())
    if not are_shares or not names.issuperset(scores.agreement):
        yield "it has shares of equal answers that are of no task, or not between 0 and 1"


def _task_problems(part: str, task: CompetitionTask, score: Score, items: Sequence[float]) -> Iterator[str]:
    if task.metrics and score.metric != task.metrics[0]:
        yield f"the {part} score of '{task.name}' is by '{score.metric}', not by '{task.metrics[0]}'"
    if _differs(score, mean(items)):
        yield f"the {part} score of '{task.name}' is not that of its items"


def _item_problems(part: str, task: str, items: Sequence[float]) -> Iterator[str]:
    if not items:
        yield f"the {part} part of '{task}' has no items"
    for number, score in enumerate(items, start=1):
        if not 0 <= score <= 1:
            yield f"the {part} item {number} of '{task}' is not between 0 and 1"


def _differs(score: Score, estimate: Estimate) -> bool:
    """Tell whether a score is another than its items make, by the functions that made it."""
    pairs = (
        (score.value, estimate.value),
        (score.standard_error, estimate.standard_error),
        (score.low, estimate.low),
        (score.high, estimate.high),
    )
    is_near = all(abs(one - other) <= NEAR for one, other in pairs)
    return score.n != estimate.n or not is_near


def _likeness_problems(likeness: Likeness, public: PublicScores) -> Iterator[str]:
    if len(likeness.sketch) not in (0, NUMBERS):
        yield f"its sketch has {len(likeness.sketch)} numbers, not {NUMBERS}"
    if likeness.sketch and abs(math.hypot(*likeness.sketch) - 1) > NEAR_LENGTH:
        yield "its sketch has not the length 1"
    answered = {task: len(keys) for task, keys in likeness.wrong.items()}
    if answered != {task: len(items) for task, items in public.items.items()}:
        yield "it has wrong answers of other items than it has scores of"


def _figure_problems(figures: Figures) -> Iterator[str]:
    names = ("merge_seconds", "evaluate_seconds", "normalised_seconds", "calibration_seconds")
    for name in (*names, "normalised_cpu_seconds"):
        seconds = getattr(figures, name)
        if seconds is not None and not 0 <= seconds <= LARGEST_SECONDS:
            yield f"figures.{name} is {seconds:g}"
    for name in ("peak_memory_bytes", "held_memory_bytes", "disk_bytes", "tokens", "parameters"):
        count = getattr(figures, name)
        if count is not None and not 0 <= count <= LARGEST_COUNT:
            yield f"figures.{name} is no count that a database keeps"


def _tuning_problems(tuning: Tuning, competition: Competition) -> Iterator[str]:
    known = {text.name for text in competition.calibration}
    for name, tokens in tuning.texts.items():
        if name not in known:
            yield f"it is tuned by '{name[:80]}', which is no text of the competition"
        if not 0 <= tokens <= LARGEST_COUNT:
            yield f"figures.tuning.texts of '{name[:80]}' is no count that a database keeps"
    searched = 0
    if tuning.search is not None:
        searched = tuning.search.tokens
        counts = (tuning.search.tokens, tuning.search.items, tuning.search.candidates)
        are_counts = all(0 <= count <= LARGEST_COUNT for count in counts)
        if not are_counts or not tuning.search.seconds >= 0:
            yield "figures.tuning.search has counts that a database does not keep"
    if tuning.tokens != sum(tuning.texts.values()) + searched:
        yield "figures.tuning.tokens are not those of its texts and its search"


def _bond_problems(connection: Connection, run: Row[Any], verdict: Verdict) -> Iterator[str]:
    is_of_archive = (verdict.outcome, verdict.reason) == ("rejected", "archive")
    unread = is_of_archive and verdict.submission == ""
    digest = _digest_of(connection, run.submission_id)
    if verdict.submission != digest and not unread:
        yield f"it is of the submission {_short(verdict.submission)}, and the run judges {_short(digest)}"
    if verdict.outcome != "accepted":
        return
    yield from _count_problems(connection, run, verdict)
    if run.purpose == HIDDEN and verdict.reproducible == "bits":
        yield from _weight_problems(connection, run.submission_id, verdict)


def _digest_of(connection: Connection, submission_id: int) -> str:
    content = connection.execute(
        sa.select(archives.c.content)
        .join(submissions, submissions.c.archive_digest == archives.c.digest)
        .where(submissions.c.id == submission_id)
    ).scalar_one()
    return submission_digest(bytes(content))


def _count_problems(connection: Connection, run: Row[Any], verdict: Verdict) -> Iterator[str]:
    """Compare with the newest other verdict by the same rules: everybody is measured on the same items."""
    assert verdict.public is not None, "checked before"
    other = _newest_other(connection, run, verdict.competition_digest, (PUBLIC, HIDDEN))
    if other is not None:
        counts = {score["task"]: score["n"] for score in other.content["public"]["tasks"]}
        yield from _unlike("public", verdict.public, counts, other.submission_id)
    if verdict.private is None:
        return
    other = _newest_other(connection, run, verdict.competition_digest, (HIDDEN,))
    if other is not None:
        counts = private_counts(connection, other.submission_id, HIDDEN)
        yield from _unlike("private", verdict.private, counts, other.submission_id)


def _newest_other(connection: Connection, run: Row[Any], digest: str, purposes: Sequence[str]) -> Row[Any] | None:
    """Return the verdict of the newest submission that was accepted by the same competition.yaml, but this run's."""
    this_one = sa.and_(verdicts.c.submission_id == run.submission_id, verdicts.c.purpose == run.purpose)
    return connection.execute(
        sa.select(verdicts)
        .where(
            ~this_one,
            verdicts.c.purpose.in_(purposes),
            verdicts.c.content["outcome"].as_string() == "accepted",
            verdicts.c.content["competition_digest"].as_string() == digest,
        )
        .order_by(verdicts.c.submission_id.desc(), verdicts.c.purpose)
        .limit(1)
    ).one_or_none()


def _unlike(part: str, scores: Scores, counts: Mapping[str, int], submission_id: int) -> Iterator[str]:
    for task, items in scores.items.items():
        if counts.get(task, len(items)) != len(items):
            yield f"it has {len(items)} {part} items of '{task}', and submission {submission_id} has {counts[task]}"


def _weight_problems(connection: Connection, submission_id: int, verdict: Verdict) -> Iterator[str]:
    """A recipe that gives the same bits everywhere has given other bits: one of the two runs is not of it."""
    public = connection.execute(
        sa.select(verdicts.c.content["weights_digest"].as_string()).where(
            verdicts.c.submission_id == submission_id, verdicts.c.purpose == PUBLIC
        )
    ).scalar()
    if public is not None and public != verdict.weights_digest:
        yield f"it has built the weights {_short(verdict.weights_digest or '')}, and the public run {_short(public)}"


def _values(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Give each value of plain data, and each name in it, with the place where it stands."""
    inner: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(content, dict):
        yield from ((place, name) for name in content)
        inner = iter(content.items())
    elif isinstance(content, list):
        inner = iter(enumerate(content))
    else:
        yield place, content
    for name, value in inner:
        yield from _values(value, f"{place}.{name}".lstrip("."))


def _listed(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "no task"


def _short(digest: str) -> str:
    """Write enough of a digest to know it again."""
    return f"{digest[:12]}…" if digest else "nothing"
