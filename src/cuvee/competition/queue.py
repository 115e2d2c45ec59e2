"""The queue: who works on what, and until when. A table of leases in the competition's own database, by its clock.

A worker that claims a run holds it until its lease runs out, and renews the lease by its heartbeat. Each claim gives a
new fencing number; whatever is written for a run must show the number of its present lease, so a worker that was
thought dead cannot overwrite the work of its successor. A run whose worker is lost goes back to the queue, at the cost
of nobody's quota, until it was tried `attempts_at_most` times: then it is our failure, for the organiser to look at.

That clock may jump, too. One that was put forward lets all leases look over at once, so a worker counts as lost only
when its lease still looks over half a lease later: one that lives has renewed it by then. One that was put back leaves
times that lie too far ahead; they are cut to what would be given now.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain, zip_longest
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition import audit
from cuvee.competition.actors import QUEUE, Actor
from cuvee.competition.facts import MOVED_UP, PAUSED, fact
from cuvee.competition.job import Job
from cuvee.competition.limits import Limits
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import move
from cuvee.competition.states import State
from cuvee.competition.tables import archives, logs, public_results, runs, submissions, teams, workers

WAIT_AFTER_FAILURE = timedelta(seconds=5)
LONGEST_LOG = 64_000
LOST_WORKER = "worker_lost"
MOST_MOVED_UP = 50


def claim(connection: Connection, worker: Actor, limits: Limits, now: datetime) -> Job | None:
    """Take the next waiting run for a worker; None if there is none.

    What the organiser has moved up goes first, then parents and baselines that have no score yet: everybody is compared
    with them. Between two of these goes a team's first entry, so that a newcomer does not wait for them all. Then teams
    take turns: of those that wait, first the teams with the fewest runs under way, then the longest wait. The
    organiser's own entries come last when they are judged again. While judging is paused there is none.
    """
    reap(connection, limits, now)
    if is_paused(connection):
        return None
    run_id = connection.execute(_next_waiting(connection, now)).scalar()
    if run_id is None:
        return None
    fence = connection.execute(sa.select(runs.c.fence).where(runs.c.id == run_id)).scalar_one() + 1
    tests = connection.execute(sa.select(workers.c.tests_passed).where(workers.c.name == worker.name)).scalar()
    row = move(
        connection,
        run_id,
        State.RUNNING,
        worker,
        now,
        fence=fence,
        attempt=runs.c.attempt + 1,
        worker=worker.name,
        after_test=tests,
        lease_until=now + limits.lease,
        overdue=False,
        started_at=sa.func.coalesce(runs.c.started_at, sa.bindparam("begun", now, type_=runs.c.started_at.type)),
        reason_code="",
        reason="",
        progress="begins",
    )
    digest = connection.execute(
        sa.select(submissions.c.archive_digest).where(submissions.c.id == row.submission_id)
    ).scalar_one()
    return Job(run_id, row.submission_id, row.purpose, row.attempt, row.fence, digest, limits.lease.total_seconds())


def is_paused(connection: Connection) -> bool:
    """Tell whether workers are given nothing new."""
    return bool(fact(connection, PAUSED))


def moved_up(connection: Connection) -> list[tuple[int, int]]:
    """Return the runs that go first, the next one first, each with its fence: once it was claimed it counts no more."""
    moved = fact(connection, MOVED_UP) or ()
    return [(int(run_id), int(fence)) for run_id, fence in moved]


def renew(
    connection: Connection, worker: Actor, run_id: int, fence: int, limits: Limits, now: datetime, progress: str
) -> None:
    """Keep a run for another while. Raises Refusal 'lease_lost' if it is no longer the worker's: stop working then."""
    kept = connection.execute(
        runs.update()
        .where(
            runs.c.id == run_id,
            runs.c.fence == fence,
            runs.c.worker == worker.name,
            runs.c.state == State.RUNNING.value,
        )
        .values(lease_until=now + limits.lease, overdue=False, progress=progress[:200])
    ).rowcount
    if not kept:
        raise Refusal("lease_lost", f"run {run_id} is no longer this worker's", hint="drop it and claim another")
    connection.execute(workers.update().where(workers.c.name == worker.name).values(seen_at=now))


def held(connection: Connection, worker: Actor, run_id: int, fence: int) -> Row[Any]:
    """Return the run that a worker holds, locked for this transaction; Refusal 'lease_lost' if it is another's."""
    row = connection.execute(sa.select(runs).where(runs.c.id == run_id).with_for_update()).one_or_none()
    if row is None or (row.fence, row.worker) != (fence, worker.name):
        raise Refusal("lease_lost", f"run {run_id} is no longer this worker's", hint="drop it and claim another")
    return row


def give_up(
    connection: Connection, worker: Actor, run_id: int, fence: int, limits: Limits, now: datetime, reason: str
) -> State:
    """Say that a run failed through no fault of the participant's. It is tried again, a few times."""
    row = held(connection, worker, run_id, fence)
    if State(row.state) is not State.RUNNING:
        return State(row.state)
    connection.execute(workers.update().where(workers.c.name == worker.name).values(failures=workers.c.failures + 1))
    return _try_again(connection, worker, row, limits, now, "platform", reason)


def reap(connection: Connection, limits: Limits, now: datetime) -> int:
    """Take back every run whose lease has been over for half a lease more. Return how many."""
    _cut_times_ahead(connection, limits, now)
    expired = connection.execute(
        sa.select(runs)
        .where(runs.c.state == State.RUNNING.value, runs.c.lease_until < now)
        .with_for_update(skip_locked=True)
    ).all()
    for row in expired:
        if row.overdue:
            _try_again(connection, QUEUE, row, limits, now, LOST_WORKER, f"the worker {row.worker} was lost")
    fresh = [row.id for row in expired if not row.overdue]
    half_a_lease_more = now + limits.lease / 2
    connection.execute(runs.update().where(runs.c.id.in_(fresh)).values(overdue=True, lease_until=half_a_lease_more))
    return len(expired) - len(fresh)


def _cut_times_ahead(connection: Connection, limits: Limits, now: datetime) -> None:
    """Shorten leases and waits that are longer than any that is given: the clock was put back after they were."""
    latest_end = now + limits.lease
    connection.execute(
        runs.update()
        .where(runs.c.state == State.RUNNING.value, runs.c.lease_until > latest_end)
        .values(lease_until=latest_end)
    )
    latest_start = now + _wait_after(limits.attempts_at_most)
    connection.execute(
        runs.update().where(runs.c.state == State.QUEUED.value, runs.c.not_before > latest_start).values(not_before=now)
    )


def keep_log(connection: Connection, run_id: int, attempt: int, text: str) -> None:
    """Keep the end of what a judge wrote, once for each attempt."""
    kept = text if len(text) <= LONGEST_LOG else "[...]\n" + text[-LONGEST_LOG:]
    there = connection.execute(
        logs.update().where(logs.c.run_id == run_id, logs.c.attempt == attempt).values(text=kept)
    )
    if not there.rowcount:
        connection.execute(logs.insert().values(run_id=run_id, attempt=attempt, text=kept))


def archive_of(connection: Connection, worker: Actor, run_id: int, fence: int) -> bytes:
    """Return the archive that a worker is to judge."""
    row = held(connection, worker, run_id, fence)
    content = bytes(
        connection.execute(
            sa.select(archives.c.content)
            .join(submissions, submissions.c.archive_digest == archives.c.digest)
            .where(submissions.c.id == row.submission_id)
        ).scalar_one()
    )
    if not content:
        raise Refusal("lease_lost", f"run {run_id} was cancelled", hint="drop it and claim another")
    return content


def positions(connection: Connection) -> dict[int, int]:
    """Return the place of each waiting run in the queue by its number, from 1, as if teams did not take turns."""
    up, is_new, is_own = _before_turns(connection)
    columns = (runs.c.id, teams.c.id.label("team"), up.label("up"), is_new.label("is_new"))
    waiting = connection.execute(
        _with_teams(sa.select(*columns, _is_first_of_team().label("is_first")))
        .where(runs.c.state == State.QUEUED.value)
        .order_by(up, is_new.desc(), is_own, runs.c.queued_at, runs.c.id)
    ).all()
    first_of_teams = {row.team: row.id for row in reversed(waiting) if row.is_first}
    ahead = len(moved_up(connection))
    moved = [row.id for row in waiting if row.up < ahead]
    rest = [row for row in waiting if row.up >= ahead]
    new = [row.id for row in rest if row.is_new]
    firsts = [row.id for row in rest if first_of_teams.get(row.team) == row.id]
    in_turns = _taking_turns(new, firsts, new_first=not _own_began_last(connection))
    order = dict.fromkeys([*moved, *in_turns, *(row.id for row in waiting)])
    return {run_id: place for place, run_id in enumerate(order, start=1)}


def _taking_turns(new: Sequence[int], firsts: Sequence[int], *, new_first: bool) -> list[int]:
    """Return the organiser's new runs and first runs of teams in turn, up to the last new run."""
    pairs = zip_longest(new, firsts) if new_first else zip_longest(firsts, new)
    in_turns = [run for run in chain.from_iterable(pairs) if run is not None]
    return in_turns[: in_turns.index(new[-1]) + 1] if new else []


def _before_turns(connection: Connection) -> tuple[sa.ColumnElement[Any], ...]:
    """Return what comes before teams take turns: who is moved up, what is the organiser's without a score, or with."""
    nth = [(sa.and_(runs.c.id == run, runs.c.fence == fence), n) for n, (run, fence) in enumerate(moved_up(connection))]
    up = sa.case(*nth, else_=len(nth)) if nth else sa.literal(0)
    is_own = teams.c.kind != "participant"
    is_new = sa.and_(is_own, sa.not_(_has_score()))
    return up, sa.case((is_new, 1), else_=0), sa.case((is_own, 1), else_=0)


def _order_of_claims(connection: Connection) -> tuple[sa.ColumnElement[Any], ...]:
    """Return the order in which runs are given out; the organiser's new runs and first runs of teams take turns."""
    up, is_new, is_own = _before_turns(connection)
    if _own_began_last(connection) and _own_waits(connection):
        return up, sa.case((_is_first_of_team(), 1), else_=0).desc(), is_new.desc(), is_own
    return up, is_new.desc(), is_own


def _has_score() -> sa.ColumnElement[bool]:
    return sa.exists().where(public_results.c.submission_id == submissions.c.id)


def _is_first_of_team() -> sa.ColumnElement[bool]:
    """Say whether a participant's run is of a team that no worker has begun another run of."""
    others, theirs = runs.alias(), submissions.alias()
    begun = (
        sa.select(others.c.id)
        .join(theirs, theirs.c.id == others.c.submission_id)
        .where(theirs.c.team_id == submissions.c.team_id, others.c.id != runs.c.id, others.c.started_at.is_not(None))
    )
    return sa.and_(teams.c.kind == "participant", sa.not_(begun.exists()))


def _own_began_last(connection: Connection) -> bool:
    """Say whether the run that was begun last is one of the organiser's."""
    kind = connection.execute(
        _with_teams(sa.select(teams.c.kind))
        .where(runs.c.started_at.is_not(None))
        .order_by(runs.c.started_at.desc(), runs.c.id.desc())
        .limit(1)
    ).scalar()
    return kind not in (None, "participant")


def _own_waits(connection: Connection) -> bool:
    """Say whether an entry of the organiser's without a score waits."""
    waits = _with_teams(sa.select(runs.c.id)).where(
        runs.c.state == State.QUEUED.value, teams.c.kind != "participant", sa.not_(_has_score())
    )
    return connection.execute(waits.limit(1)).first() is not None


def _with_teams(query: sa.Select[Any]) -> sa.Select[Any]:
    """Join runs, which the query selects of, with their submissions and teams."""
    return (
        query.select_from(runs)
        .join(submissions, submissions.c.id == runs.c.submission_id)
        .join(teams, teams.c.id == submissions.c.team_id)
    )


def _next_waiting(connection: Connection, now: datetime) -> sa.Select[int]:
    others, theirs = runs.alias(), submissions.alias()
    under_way = (
        sa.select(sa.func.count())
        .select_from(others.join(theirs, theirs.c.id == others.c.submission_id))
        .where(theirs.c.team_id == submissions.c.team_id, others.c.state == State.RUNNING.value)
        .scalar_subquery()
    )
    return (
        _with_teams(sa.select(runs.c.id))
        .where(runs.c.state == State.QUEUED.value, runs.c.not_before <= now)
        .order_by(*_order_of_claims(connection), under_way, runs.c.queued_at, runs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=runs)
    )


def _try_again(
    connection: Connection, by: Actor, row: Row[Any], limits: Limits, now: datetime, code: str, reason: str
) -> State:
    if row.attempt < limits.attempts_at_most:
        move(
            connection,
            row.id,
            State.QUEUED,
            by,
            now,
            why=reason,
            not_before=now + _wait_after(row.attempt),
            lease_until=None,
            reason_code=code,
            reason=reason,
            progress="",
        )
        return State.QUEUED
    told = f"{reason}; tried {row.attempt} times. This is our failure and costs no quota"
    move(connection, row.id, State.ERRORED, by, now, why=reason, reason_code=code, reason=told)
    audit.record(connection, by, "alert", f"submission {row.submission_id}", now, reason=told)
    return State.ERRORED


def _wait_after(attempt: int) -> timedelta:
    """Return how long a run waits after its attempt of this number, from 1, has failed."""
    doublings: int = 2 ** (attempt - 1)
    return WAIT_AFTER_FAILURE * doublings
