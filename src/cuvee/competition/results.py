"""A worker's verdict becomes a state, a result and a log, in one transaction, once."""

import hashlib
import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.actors import Actor
from cuvee.competition.ladder import is_released
from cuvee.competition.limits import Limits
from cuvee.competition.private import keep_private
from cuvee.competition.queue import give_up, held, keep_log
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import PUBLIC, move
from cuvee.competition.states import State
from cuvee.competition.tables import public_results, submissions, verdicts, workers
from cuvee.submission.competition import Competition
from cuvee.submission.verdict import PublicVerdict, Verdict

REFUSED = frozenset({"rules", "archive", "claim"})


def finish(
    connection: Connection,
    worker: Actor,
    run_id: int,
    fence: int,
    verdict: Verdict,
    competition: Competition,
    limits: Limits,
    now: datetime,
) -> State:
    """Take a verdict for a run that the worker holds. The same verdict again changes nothing."""
    row = held(connection, worker, run_id, fence)
    key = result_key(verdict)
    if row.result_key == key:
        return State(row.state)
    if State(row.state) is not State.RUNNING:
        raise Refusal("lease_lost", f"run {run_id} is {row.state}; its result is not wanted", hint="claim another")
    keep_log(connection, run_id, row.attempt, verdict.log)
    if verdict.outcome == "errored":
        return give_up(connection, worker, run_id, fence, limits, now, verdict.message)
    _keep_verdict(connection, row.submission_id, row.purpose, verdict.for_participants(), now)
    if verdict.outcome == "accepted":
        _keep_scores(connection, row.submission_id, row.purpose, verdict, competition, now)
    end = state_of(verdict)
    values = {"reason_code": verdict.reason or "", "reason": verdict.message, "result_key": key}
    move(connection, run_id, end, worker, now, why=verdict.message or end.value, **values)
    connection.execute(
        workers.update().where(workers.c.name == worker.name).values(judged=workers.c.judged + 1, failures=0)
    )
    return end


def state_of(verdict: Verdict) -> State:
    """Return where a verdict ends a run: whose fault it is decides."""
    if verdict.outcome == "accepted":
        return State.SCORED
    return State.REJECTED if verdict.reason in REFUSED else State.FAILED


def result_key(verdict: Verdict) -> str:
    """Hash a verdict, so that one that was sent twice is known."""
    return hashlib.sha256(json.dumps(verdict.to_json(), sort_keys=True).encode()).hexdigest()


def _keep_verdict(
    connection: Connection, submission_id: int, purpose: str, verdict: PublicVerdict, now: datetime
) -> None:
    content: dict[str, Any] = verdict.to_json() | {"log": ""}  # the log has a table and a policy of its own
    if content["public"] is not None:
        content["public"].pop("items")
    connection.execute(
        verdicts.delete().where(verdicts.c.submission_id == submission_id, verdicts.c.purpose == purpose)
    )
    connection.execute(
        verdicts.insert().values(submission_id=submission_id, purpose=purpose, content=content, received_at=now)
    )


def _keep_scores(
    connection: Connection, submission_id: int, purpose: str, verdict: Verdict, competition: Competition, now: datetime
) -> None:
    if verdict.private is not None:
        keep_private(connection, submission_id, purpose, verdict.private, now)
    if purpose != PUBLIC:
        return
    public, figures = verdict.public, verdict.figures
    if public is None or figures is None:
        raise Refusal("bad_request", "an accepted verdict needs public scores and figures")
    items = {task: list(values) for task, values in public.items.items()}
    connection.execute(public_results.delete().where(public_results.c.submission_id == submission_id))
    phase = connection.execute(sa.select(submissions.c.phase).where(submissions.c.id == submission_id)).scalar_one()
    connection.execute(
        public_results.insert().values(
            submission_id=submission_id,
            value=public.macro.value,
            low=public.macro.low,
            high=public.macro.high,
            released=is_released(connection, submission_id, phase, public.macro.value, items, competition),
            tasks={score.task: score.figures() | {"metric": score.metric} for score in public.tasks},
            item_scores=items,
            seconds=figures.normalised_seconds,
            memory_bytes=figures.peak_memory_bytes,
            tokens=figures.tokens,
            parameters=figures.parameters,
            weights_digest=verdict.weights_digest or "",
            predictions_digest=verdict.predictions_digest or "",
        )
    )
