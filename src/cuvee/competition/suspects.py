"""Runs that the organiser has to look at: those that a worker may have spoiled, with the alarms that tell of it, and
those that are quarantined.

A worker tests itself now and then. When a test fails, nobody knows since when something was wrong: all that the worker
has judged since the last test that it passed is taken back, at no cost, and judged by another worker. Where there is no
other, it is `suspect` until the organiser has it judged again.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition import audit
from cuvee.competition.actors import QUEUE, Actor
from cuvee.competition.facts import PUBLISHED, fact, hold_facts
from cuvee.competition.refusals import Refusal
from cuvee.competition.results import drop_verdict
from cuvee.competition.runs import PUBLIC, again, move
from cuvee.competition.states import State
from cuvee.competition.tables import alarms, runs, submissions, teams, workers

SPOILED = (State.SCORED, State.REJECTED, State.FAILED, State.ERRORED, State.QUARANTINED)
"""Where a worker leaves runs that it has judged, or failed to judge too often."""

SEEN_WITHIN = timedelta(minutes=10)
"""A worker in service asks for work every second, but not while it judges or tests itself."""

CODE = "worker_failed"


@dataclass(frozen=True)
class TakenBack:
    """How many runs are in the queue again, suspect, or stand because the final ranking is out."""

    queued: int = 0
    suspect: int = 0
    standing: int = 0


def take_back(connection: Connection, worker: Actor, reason: str, now: datetime) -> TakenBack:
    """Take back what a worker judged since its last passed test, give the quota back, and raise an alarm.

    Once the final ranking is published, what it was made of stands; the alarm counts it.
    """
    hold_facts(connection)
    spoiled = _judged_since_test(connection, worker.name)
    counts, given_back = TakenBack(standing=len(spoiled)), list[int]()
    if fact(connection, PUBLISHED) is None:
        counts = _take_back(connection, worker.name, spoiled, reason, now)
        given_back = _give_quota_back(connection, spoiled)
    _raise_alarm(connection, worker.name, reason, counts, now)
    numbers = {"submissions": [row.submission_id for row in spoiled], "quota_given_back": given_back}
    audit.record(connection, QUEUE, "alarm", worker.name, now, reason=reason, **asdict(counts), **numbers)
    return counts


def open_alarms(connection: Connection) -> Sequence[Row[Any]]:
    """List the alarms that the organiser has not closed, newest first, each with how many runs are `waiting`."""
    waiting = (
        sa.select(sa.func.count())
        .where(runs.c.state == State.SUSPECT.value, runs.c.worker == alarms.c.worker)
        .scalar_subquery()
    )
    query = sa.select(alarms, waiting.label("waiting")).where(alarms.c.closed_at.is_(None))
    return connection.execute(query.order_by(alarms.c.at.desc(), alarms.c.id.desc())).all()


def quarantined(connection: Connection) -> Sequence[Row[Any]]:
    """List the runs that wait for the organiser to decide whose fault a failure is, longest wait first."""
    return connection.execute(
        sa.select(runs, submissions.c.title, teams.c.name.label("team"))
        .join(submissions, submissions.c.id == runs.c.submission_id)
        .join(teams, teams.c.id == submissions.c.team_id)
        .where(runs.c.state == State.QUARANTINED.value)
        .order_by(runs.c.finished_at, runs.c.id)
    ).all()


def judge_suspects_again(connection: Connection, organiser: Actor, alarm_id: int, now: datetime) -> int:
    """Put the suspect runs of an alarm's worker in the queue. Return how many."""
    worker = _alarm(connection, alarm_id).worker
    suspect = sa.select(runs.c.id).where(runs.c.state == State.SUSPECT.value, runs.c.worker == worker)
    numbers = connection.execute(suspect.order_by(runs.c.id).with_for_update()).scalars().all()
    for run_id in numbers:
        again(connection, run_id, organiser, now)
    return len(numbers)


def close_alarm(connection: Connection, organiser: Actor, alarm_id: int, now: datetime) -> None:
    """Take an alarm off the organiser's page. Closing it twice changes nothing."""
    worker = _alarm(connection, alarm_id).worker
    this_one = alarms.update().where(alarms.c.id == alarm_id, alarms.c.closed_at.is_(None))
    if connection.execute(this_one.values(closed_at=now)).rowcount:
        audit.record(connection, organiser, "alarm closed", worker, now)


def _alarm(connection: Connection, alarm_id: int) -> Row[Any]:
    row = connection.execute(sa.select(alarms).where(alarms.c.id == alarm_id)).one_or_none()
    if row is None:
        raise Refusal("not_found", f"there is no alarm {alarm_id}")
    return row


def _judged_since_test(connection: Connection, worker: str) -> Sequence[Row[Any]]:
    """Read and lock the runs that a worker claimed after the last test that it passed, and that are over."""
    tests = sa.select(workers.c.tests_passed).where(workers.c.name == worker).scalar_subquery()
    states = [state.value for state in SPOILED]
    theirs = (runs.c.worker == worker, runs.c.after_test == tests, runs.c.state.in_(states))
    return connection.execute(sa.select(runs).where(*theirs).order_by(runs.c.id).with_for_update()).all()


def _take_back(
    connection: Connection, worker: str, spoiled: Sequence[Row[Any]], reason: str, now: datetime
) -> TakenBack:
    for row in spoiled:
        drop_verdict(connection, row.submission_id, row.purpose)
    why = f"the worker {worker} failed its own test after it had judged this: {reason}"
    if _is_another_in_service(connection, worker, now):
        for row in spoiled:
            again(connection, row.id, QUEUE, now, why=why)
        return TakenBack(queued=len(spoiled))
    told = "the machine that judged this failed its own test; the organiser has it judged again, at no cost"
    for row in spoiled:
        values = {"reason_code": CODE, "reason": told, "result_key": ""}
        move(connection, row.id, State.SUSPECT, QUEUE, now, why=why, **values)
    return TakenBack(suspect=len(spoiled))


def _give_quota_back(connection: Connection, spoiled: Sequence[Row[Any]]) -> list[int]:
    public = [row.submission_id for row in spoiled if row.purpose == PUBLIC]
    connection.execute(submissions.update().where(submissions.c.id.in_(public)).values(given_back=True))
    return public


def _is_another_in_service(connection: Connection, worker: str, now: datetime) -> bool:
    holds = sa.select(runs.c.id).where(
        runs.c.worker == workers.c.name, runs.c.state == State.RUNNING.value, runs.c.lease_until >= now
    )
    is_there = sa.or_(workers.c.seen_at >= now - SEEN_WITHIN, holds.exists())
    others = sa.select(workers.c.name).where(workers.c.name != worker, workers.c.ready, is_there)
    return connection.execute(others.limit(1)).first() is not None


def _raise_alarm(connection: Connection, worker: str, reason: str, counts: TakenBack, now: datetime) -> None:
    """Add to the worker's open alarm, if there is one: a worker that is started again and again is one alarm."""
    this_one = alarms.update().where(alarms.c.worker == worker, alarms.c.closed_at.is_(None))
    raised = connection.execute(
        this_one.values(
            at=now,
            reason=reason,
            queued=alarms.c.queued + counts.queued,
            suspect=alarms.c.suspect + counts.suspect,
            standing=sa.case((alarms.c.standing > counts.standing, alarms.c.standing), else_=counts.standing),
        )
    ).rowcount
    if raised:
        return
    connection.execute(
        alarms.insert().values(
            at=now,
            worker=worker,
            reason=reason,
            queued=counts.queued,
            suspect=counts.suspect,
            standing=counts.standing,
        )
    )
