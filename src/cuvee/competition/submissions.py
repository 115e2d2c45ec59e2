"""What teams send, and what a team or an organiser may do with it afterwards."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.deadlines import in_force
from cuvee.competition.facts import FROZEN, fact, hold_facts
from cuvee.competition.limits import Limits
from cuvee.competition.locks import is_postgres
from cuvee.competition.names import checked_name
from cuvee.competition.quotas import check_room, quota
from cuvee.competition.refusals import Refusal
from cuvee.competition.revision import changed
from cuvee.competition.runs import PUBLIC, again, move, new_run, run_of
from cuvee.competition.states import Role, State
from cuvee.competition.tables import archives, public_results, runs, submissions, teams
from cuvee.submission.competition import Competition, Phase

DROPPED = b""
"""The content of an archive that nobody needs any more."""


@dataclass(frozen=True)
class Received:
    """An archive as it came, with the recipe and the models that were read from it."""

    content: bytes
    recipe: str
    models: Sequence[str]
    title: str
    request_key: str

    @property
    def digest(self) -> str:
        """SHA-256 of the archive."""
        return hashlib.sha256(self.content).hexdigest()


def receive(
    connection: Connection, team: Actor, received: Received, competition: Competition, limits: Limits, now: datetime
) -> int:
    """Take a submission into the queue and return its number.

    The same request sent twice is one submission: a client that lost the answer sends it again with the same key.
    Nobody freezes between the look at the phase and the end of the transaction.
    """
    hold_facts(connection)
    team_id = _lock_team(connection, team)
    earlier = connection.execute(
        sa.select(submissions.c.id, submissions.c.archive_digest).where(
            submissions.c.team_id == team_id, submissions.c.request_key == received.request_key
        )
    ).one_or_none()
    if earlier is not None:
        if earlier.archive_digest != received.digest:
            raise Refusal("bad_request", "this request key was used for another archive", hint="take a new key")
        return int(earlier.id)
    if len(received.content) > limits.archive_bytes:
        raise Refusal("too_large", f"the archive has {len(received.content)} bytes; {limits.archive_bytes} may be sent")
    phase = open_phase(connection, competition, now)
    quota(connection, team_id, phase, now).check()
    check_room(connection, team_id, len(received.content) + len(received.recipe), limits.team_bytes)
    return enter(connection, team, team_id, received, phase.name, now)


def open_phase(connection: Connection, competition: Competition, now: datetime) -> Phase:
    """Return the phase that takes submissions now, or refuse and say when one does."""
    if fact(connection, FROZEN) is not None:
        raise Refusal("closed", "the final ranking is being made; no more submissions are taken")
    competition = in_force(connection, competition)
    phase = competition.phase(now)
    if phase is not None and phase.scores == "public":
        return phase
    later = sorted(phase.opens for phase in competition.public_phases if phase.opens > now)
    hint = f"the next phase opens at {later[0]:%Y-%m-%d %H:%M} UTC" if later else "no other phase follows"
    raise Refusal("closed", "no phase takes submissions now", hint=hint)


def submission(connection: Connection, submission_id: int) -> Row[Any]:
    """Return a submission's row, or refuse."""
    row = connection.execute(sa.select(submissions).where(submissions.c.id == submission_id)).one_or_none()
    if row is None:
        raise Refusal("not_found", f"there is no submission {submission_id}")
    return row


def owned(connection: Connection, actor: Actor, submission_id: int) -> Row[Any]:
    """Return a submission of the actor's team; to an organiser, any. Others learn nothing of it."""
    row = submission(connection, submission_id)
    is_of_own_team = actor.role is Role.TEAM and row.team_id == actor.team_id
    if is_of_own_team or actor.role is Role.ORGANISER:
        return row
    actor.needs(Role.TEAM, Role.ORGANISER)
    raise Refusal("not_found", f"there is no submission {submission_id} of yours")


def cancel(connection: Connection, actor: Actor, submission_id: int, now: datetime) -> None:
    """Take a submission out of the queue, or stop its run: the worker learns of it at its next heartbeat.

    What it holds is dropped, unless it has a result from an earlier run.
    """
    owned(connection, actor, submission_id)
    move(
        connection,
        run_of(connection, submission_id).id,
        State.CANCELLED,
        actor,
        now,
        why=f"cancelled by the {actor.role}",
        reason_code="cancelled",
        reason=f"cancelled by the {actor.role}",
    )
    drop(connection, submission_id)


def select(
    connection: Connection, actor: Actor, submission_id: int, chosen: bool, competition: Competition, now: datetime
) -> None:
    """Choose a submission for the final ranking, or no longer."""
    row = owned(connection, actor, submission_id)
    hold_facts(connection)
    if fact(connection, FROZEN) is not None:
        raise Refusal("closed", "the final ranking is being made; the choice stands")
    if run_of(connection, submission_id).state != State.SCORED:
        raise Refusal("wrong_state", "only a scored submission can be chosen for the final ranking")
    _lock(connection, row.team_id)
    there = connection.execute(
        sa.select(sa.func.count())
        .select_from(submissions)
        .where(submissions.c.team_id == row.team_id, submissions.c.selected, submissions.c.id != submission_id)
    ).scalar_one()
    if chosen and there >= competition.selections:
        raise Refusal("quota_used", f"{there} submissions are chosen, which is as many as may be")
    connection.execute(submissions.update().where(submissions.c.id == submission_id).values(selected=chosen))
    audit.record(connection, actor, "selected" if chosen else "deselected", f"submission {submission_id}", now)


def rerun(connection: Connection, organiser: Actor, submission_id: int, now: datetime) -> None:
    """Judge a submission again. It costs no quota; the result that it has stays until the new one is there."""
    if not _has_archive(connection, submission_id):
        raise Refusal(
            "wrong_state", "its archive was dropped when it was cancelled", hint="let the team send it once more"
        )
    again(connection, run_of(connection, submission_id).id, organiser, now)


def reject(connection: Connection, organiser: Actor, submission_id: int, purpose: str, now: datetime) -> None:
    """Decide that a quarantined run failed through the submission's fault, as a crash. Its quota counts on."""
    run = run_of(connection, submission_id, purpose)
    if State(run.state) is not State.QUARANTINED:
        raise Refusal("wrong_state", f"only a quarantined submission is rejected by hand; this one is {run.state}")
    why = "rejected as a crash by the organiser"
    move(connection, run.id, State.FAILED, organiser, now, why=why, reason=f"{run.reason}; {why}")


def give_back(connection: Connection, organiser: Actor, submission_id: int, now: datetime) -> None:
    """Let a submission count against no quota."""
    _change(connection, submission_id, given_back=True)
    audit.record(connection, organiser, "quota given back", f"submission {submission_id}", now)


def annotate(connection: Connection, organiser: Actor, submission_id: int, note: str, now: datetime) -> None:
    """Set the organiser's note that is shown beside a submission."""
    _change(connection, submission_id, note=note)
    audit.record(connection, organiser, "annotated", f"submission {submission_id}", now, note=note)


def enter(connection: Connection, by: Actor, team_id: int, received: Received, phase: str, now: datetime) -> int:
    """Keep an archive and put it in the queue, whatever phases and quotas say. Return its number."""
    insert = postgresql.insert if is_postgres(connection) else sqlite.insert
    kept = insert(archives).values(digest=received.digest, content=received.content, received_at=now)
    dropped = archives.c.content == DROPPED
    connection.execute(
        kept.on_conflict_do_update(index_elements=["digest"], set_={"content": received.content}, where=dropped)
    )
    submission_id: int = connection.execute(
        submissions.insert()
        .values(
            team_id=team_id,
            phase=phase,
            title=checked_name(received.title),
            archive_digest=received.digest,
            request_key=received.request_key,
            recipe=received.recipe,
            lineage=list(received.models),
            submitted_at=now,
        )
        .returning(submissions.c.id)
    ).scalar_one()
    new_run(connection, submission_id, PUBLIC, by, now)
    audit.record(connection, by, "submitted", f"submission {submission_id}", now, archive=received.digest, phase=phase)
    return submission_id


def drop(connection: Connection, submission_id: int) -> bool:
    """Forget the recipe of a cancelled submission without a result, and its archive if no other needs the same.

    Return whether the archive was dropped.
    """
    if connection.execute(sa.select(public_results).where(public_results.c.submission_id == submission_id)).first():
        return False
    digest = submission(connection, submission_id).archive_digest
    connection.execute(submissions.update().where(submissions.c.id == submission_id).values(recipe="", lineage=[]))
    connection.execute(sa.select(archives.c.digest).where(archives.c.digest == digest).with_for_update())
    needed = connection.execute(
        sa.select(submissions.c.id)
        .join(runs, runs.c.submission_id == submissions.c.id)
        .join(public_results, public_results.c.submission_id == submissions.c.id, isouter=True)
        .where(
            submissions.c.archive_digest == digest,
            sa.or_(runs.c.state != State.CANCELLED.value, public_results.c.submission_id.is_not(None)),
        )
    ).first()
    if needed is not None:
        return False
    connection.execute(archives.update().where(archives.c.digest == digest).values(content=DROPPED))
    return True


def _has_archive(connection: Connection, submission_id: int) -> bool:
    digest = submission(connection, submission_id).archive_digest
    size = sa.select(sa.func.length(archives.c.content)).where(archives.c.digest == digest)
    return bool(connection.execute(size).scalar_one())


def _lock_team(connection: Connection, team: Actor) -> int:
    team.needs(Role.TEAM)
    assert team.team_id is not None, "a team's token names its team"
    _lock(connection, team.team_id)
    return team.team_id


def _lock(connection: Connection, team_id: int) -> None:
    """Let the team's other requests wait, so that two at once cannot both take the last of a quota."""
    connection.execute(sa.select(teams.c.id).where(teams.c.id == team_id).with_for_update())


def _change(connection: Connection, submission_id: int, **values: bool | str) -> None:
    submission(connection, submission_id)
    connection.execute(submissions.update().where(submissions.c.id == submission_id).values(**values))
    changed(connection)
