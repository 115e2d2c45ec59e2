"""A worker's verdict is checked, and becomes a state, a result and a log, in one transaction, once."""

import hashlib
import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.ladder import is_released
from cuvee.competition.private import drop_private, keep_private
from cuvee.competition.queue import give_up, held, keep_log
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import PUBLIC, move
from cuvee.competition.service import Service
from cuvee.competition.states import State
from cuvee.competition.tables import likenesses, public_results, runs, submissions, verdicts, workers
from cuvee.competition.verdict_checks import check_bound, check_content, check_signed
from cuvee.submission.competition import Competition
from cuvee.submission.statement import Signature
from cuvee.submission.verdict import PublicVerdict, Verdict

REFUSED = frozenset({"rules", "archive", "claim"})


def finish(service: Service, worker: Actor, run_id: int, fence: int, verdict: Verdict, signature: Signature) -> State:
    """Take a signed verdict for a run that the worker holds. The same verdict again changes nothing.

    Raises Refusal 'bad_verdict' for one that does not fit the run. That attempt is over then, at nobody's cost: the run
    waits for another, and after a few it is our failure, for the organiser to look at.
    """
    try:
        if verdict.outcome != "errored":
            check_content(verdict, service.competition, _purpose(service, run_id))
        with service.database.write() as connection:
            return take(connection, worker, run_id, fence, verdict, signature, service)
    except Refusal as refusal:
        if refusal.code != "bad_verdict":
            raise
        with service.database.write() as connection:
            give_up(connection, worker, run_id, fence, service.limits, service.now(connection), refusal.message)
        raise


def take(
    connection: Connection,
    worker: Actor,
    run_id: int,
    fence: int,
    verdict: Verdict,
    signature: Signature,
    service: Service,
) -> State:
    """Take a verdict whose content is checked, in one transaction."""
    now = service.now(connection)
    row = held(connection, worker, run_id, fence)
    key = result_key(verdict)
    if row.result_key == key:
        return State(row.state)
    if State(row.state) is not State.RUNNING:
        raise Refusal("lease_lost", f"run {run_id} is {row.state}; its result is not wanted", hint="claim another")
    if verdict.outcome == "errored":
        keep_log(connection, run_id, row.attempt, verdict.log)
        return give_up(connection, worker, run_id, fence, service.limits, now, verdict.message)
    check_bound(connection, row, verdict)
    signed = check_signed(connection, row, verdict, signature)
    keep_log(connection, run_id, row.attempt, verdict.log)
    drop_verdict(connection, row.submission_id, row.purpose)
    _keep_verdict(connection, row, verdict.for_participants(), signed, signature.salt, now)
    if verdict.outcome == "accepted":
        _keep_scores(connection, row.submission_id, row.purpose, verdict, service.competition, now)
    end = state_of(verdict)
    values = {"reason_code": verdict.reason or "", "reason": verdict.message, "result_key": key}
    move(connection, run_id, end, worker, now, why=verdict.message or end.value, **values)
    if end is State.QUARANTINED:
        audit.record(connection, worker, "alert", f"submission {row.submission_id}", now, reason=verdict.message)
    connection.execute(
        workers.update().where(workers.c.name == worker.name).values(judged=workers.c.judged + 1, failures=0)
    )
    return end


def _purpose(service: Service, run_id: int) -> str:
    with service.database.read() as connection:
        purpose = connection.execute(sa.select(runs.c.purpose).where(runs.c.id == run_id)).scalar()
    if purpose is None:
        raise Refusal("lease_lost", f"there is no run {run_id}", hint="claim another")
    return str(purpose)


def state_of(verdict: Verdict) -> State:
    """Return where a verdict ends a run: whose fault it is decides."""
    if verdict.outcome == "accepted":
        return State.SCORED
    if verdict.outcome == "quarantined":
        return State.QUARANTINED
    return State.REJECTED if verdict.reason in REFUSED else State.FAILED


def result_key(verdict: Verdict) -> str:
    """Hash a verdict, so that one that was sent twice is known."""
    return hashlib.sha256(json.dumps(verdict.to_json(), sort_keys=True).encode()).hexdigest()


def drop_verdict(connection: Connection, submission_id: int, purpose: str) -> None:
    """Forget what a run of this purpose found, scores and all: a newer verdict comes, or it is not believed."""
    connection.execute(
        verdicts.delete().where(verdicts.c.submission_id == submission_id, verdicts.c.purpose == purpose)
    )
    drop_private(connection, submission_id, purpose)
    if purpose == PUBLIC:
        for table in (public_results, likenesses):
            connection.execute(table.delete().where(table.c.submission_id == submission_id))


def _keep_verdict(
    connection: Connection, run: Row[Any], verdict: PublicVerdict, signed: dict[str, Any], salt: str, now: datetime
) -> None:
    content: dict[str, Any] = verdict.to_json() | {"log": ""}  # the log has a table and a policy of its own
    if content["public"] is not None:
        content["public"].pop("items")
    whose = {"submission_id": run.submission_id, "purpose": run.purpose}
    connection.execute(verdicts.insert().values(**whose, content=content, received_at=now, signed=signed, salt=salt))


def _keep_scores(
    connection: Connection, submission_id: int, purpose: str, verdict: Verdict, competition: Competition, now: datetime
) -> None:
    if verdict.private is not None:
        keep_private(connection, submission_id, purpose, verdict.private, now)
    if purpose != PUBLIC:
        return
    public, figures = verdict.public, verdict.figures
    assert public is not None, "checked before"
    assert figures is not None, "checked before"
    if verdict.likeness is not None:
        connection.execute(likenesses.insert().values(submission_id=submission_id, content=asdict(verdict.likeness)))
    items = {task: list(values) for task, values in public.items.items()}
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
            cpu_seconds=figures.normalised_cpu_seconds,
            memory_bytes=figures.peak_memory_bytes,
            tokens=figures.tokens,
            tuning_tokens=figures.tuning.tokens if figures.tuning else 0,
            parameters=figures.parameters,
            weights_digest=verdict.weights_digest or "",
            predictions_digest=verdict.predictions_digest or "",
        )
    )
