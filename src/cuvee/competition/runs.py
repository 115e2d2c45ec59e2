"""Moves of a run from state to state: the only code that writes one, and only as the table of moves allows."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.refusals import Refusal
from cuvee.competition.revision import changed
from cuvee.competition.states import UNDER_WAY, Role, State, may_move
from cuvee.competition.tables import moves, runs

PUBLIC, HIDDEN = "public", "final"


def move(
    connection: Connection, run_id: int, end: State, by: Actor, now: datetime, *, why: str = "", **values: Any
) -> Row[Any]:
    """Move a run, if it still is where the table allows the move from. Return the row as it is afterwards."""
    row = connection.execute(sa.select(runs).where(runs.c.id == run_id).with_for_update()).one_or_none()
    if row is None:
        raise Refusal("not_found", f"there is no run {run_id}")
    start = State(row.state)
    if not may_move(start, end, by.role):
        raise Refusal("wrong_state", f"a {by.role} cannot move what is {start} to {end}")
    if end not in UNDER_WAY:
        values = {"finished_at": now, "lease_until": None, "progress": "", **values}
    moved = connection.execute(
        runs.update()
        .where(runs.c.id == run_id, runs.c.state == start.value)
        .values(state=end.value, **values)
        .returning(runs)
    ).one()
    connection.execute(
        moves.insert().values(run_id=run_id, at=now, start=start.value, end=end.value, by=_shown(by), reason=why)
    )
    audit.record(
        connection, by, f"run {end.value}", f"submission {row.submission_id}", now, purpose=row.purpose, why=why
    )
    changed(connection)
    return moved


def new_run(connection: Connection, submission_id: int, purpose: str, by: Actor, now: datetime) -> int:
    """Put a submission in the queue."""
    values = {"submission_id": submission_id, "purpose": purpose, "state": State.QUEUED.value}
    run_id: int = connection.execute(
        runs.insert().values(**values, queued_at=now, not_before=now).returning(runs.c.id)
    ).scalar_one()
    connection.execute(
        moves.insert().values(run_id=run_id, at=now, start="", end=State.QUEUED.value, by=_shown(by), reason="received")
    )
    return run_id


def again(connection: Connection, run_id: int, by: Actor, now: datetime, *, why: str = "judged again") -> None:
    """Put a run that is over in the queue once more, as if it were new."""
    move(
        connection,
        run_id,
        State.QUEUED,
        by,
        now,
        why=why,
        attempt=0,
        lease_until=None,
        queued_at=now,
        not_before=now,
        finished_at=None,
        reason_code="",
        reason="",
        result_key="",
    )


def run_of(connection: Connection, submission_id: int, purpose: str = PUBLIC) -> Row[Any]:
    """Return the run of a submission, or refuse."""
    row = connection.execute(
        sa.select(runs).where(runs.c.submission_id == submission_id, runs.c.purpose == purpose)
    ).one_or_none()
    if row is None:
        raise Refusal("not_found", f"there is no {purpose} run of submission {submission_id}")
    return row


def _shown(by: Actor) -> str:
    """Name workers and people by what they are, as teams read this."""
    return by.role.value if by.role is not Role.TEAM else "the team"
