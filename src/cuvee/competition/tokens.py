"""Tokens, which show who acts, and the sessions of browsers.

A token is 32 random bytes, so its SHA-256 is as hard to turn back as the token is to guess: only that digest is stored,
and looking it up needs no slow hash. The word before the underscore says what a found token is for.

A browser that has shown a token gets a session: a row that hangs on the token's, ends with it, and is no token.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.actors import Actor
from cuvee.competition.audit import record
from cuvee.competition.refusals import Refusal
from cuvee.competition.states import Role
from cuvee.competition.tables import teams, tokens
from cuvee.competition.worker_keys import end_keys

PREFIX = {
    Role.TEAM: "cuvee-team_",
    Role.WORKER: "cuvee-worker_",
    Role.ORGANISER: "cuvee-organiser_",
    Role.MONITOR: "cuvee-monitor_",
    Role.RATER: "cuvee-rater_",
}
SESSION_PREFIX = "cuvee-session_"
SESSION = timedelta(hours=12)
MOST_SESSIONS = 20
"""Sessions of one token; one more ends the oldest."""


def new_token(
    connection: Connection, by: Actor, role: Role, label: str, now: datetime, *, team_id: int | None = None
) -> str:
    """Make a token, keep its digest, and return it. Nobody can read it again."""
    token = PREFIX[role] + secrets.token_urlsafe(32)
    connection.execute(
        tokens.insert().values(
            digest=token_digest(token), role=role.value, team_id=team_id, label=label, created_at=now
        )
    )
    record(connection, by, "token made", f"{role} {label}", now)
    return token


def new_session(connection: Connection, actor: Actor, now: datetime) -> str:
    """Sign in who has shown a token, and return what its browser shows from now on. It ends with that token.

    Sessions that are over are forgotten on the way.
    """
    forget_sessions(connection, now)
    older = sa.select(tokens.c.id).where(tokens.c.parent_id == actor.token_id).order_by(tokens.c.id.desc())
    surplus = connection.execute(older.offset(MOST_SESSIONS - 1)).scalars().all()
    connection.execute(tokens.delete().where(tokens.c.id.in_(surplus)))
    session = SESSION_PREFIX + secrets.token_urlsafe(32)
    connection.execute(
        tokens.insert().values(
            digest=token_digest(session),
            role=actor.role.value,
            team_id=actor.team_id,
            parent_id=actor.token_id,
            label="session",
            created_at=now,
            expires_at=now + SESSION,
        )
    )
    if actor.role is Role.ORGANISER:
        record(connection, actor, "signed in", f"{actor.role} {actor.name}", now)
    return session


def actor_of(connection: Connection, token: str, now: datetime) -> Actor:
    """Return whose token this is. Raises Refusal for what is no valid token; a session is none."""
    return _actor(connection, token, now, tokens.c.parent_id.is_(None))


def signed_in(connection: Connection, cookie: str, now: datetime) -> Actor:
    """Return whose cookie this is, with a session or a token in it. Raises Refusal for anything else."""
    return _actor(connection, cookie, now, sa.true())


def revoke(connection: Connection, by: Actor, now: datetime, *, role: Role, team_id: int | None, label: str) -> int:
    """End all tokens of a team, or those of a role with this label, and their sessions. Return how many tokens.

    A worker's keys end with its tokens.
    """
    whose = tokens.c.team_id == team_id if team_id is not None else tokens.c.label == label
    theirs = (tokens.c.role == role.value, whose, tokens.c.parent_id.is_(None), tokens.c.revoked_at.is_(None))
    ended = connection.execute(tokens.update().where(*theirs).values(revoked_at=now)).rowcount
    forget_sessions(connection, now)
    if role is Role.WORKER:
        end_keys(connection, label, now)
    record(connection, by, "tokens revoked", f"{role} {label}", now, count=ended)
    return ended


def end_session(connection: Connection, actor: Actor) -> None:
    """End the session that an actor signed in with; the token that it was made from stays."""
    connection.execute(tokens.delete().where(tokens.c.id == actor.token_id, tokens.c.parent_id.is_not(None)))


def token_digest(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _actor(connection: Connection, shown: str, now: datetime, which: sa.ColumnElement[bool]) -> Actor:
    parents = tokens.alias("parents")
    row = connection.execute(
        sa.select(tokens, teams.c.name, parents.c.label.label("parent"), parents.c.revoked_at.label("parent_revoked"))
        .join(teams, teams.c.id == tokens.c.team_id, isouter=True)
        .join(parents, parents.c.id == tokens.c.parent_id, isouter=True)
        .where(tokens.c.digest == token_digest(shown), which)
    ).one_or_none()
    if row is None or not _is_valid(row, now):
        raise Refusal("not_signed_in", "this token is not valid here", hint="ask the organiser for a new one")
    return Actor(Role(row.role), row.name or row.parent or row.label, row.team_id, row.id)


def _is_valid(row: Row[Any], now: datetime) -> bool:
    if row.revoked_at is not None or row.parent_revoked is not None:
        return False
    return row.expires_at is None or row.expires_at > now


def forget_sessions(connection: Connection, now: datetime) -> None:
    """Delete the sessions that are over by themselves or with their token."""
    ended = sa.select(tokens.c.id).where(tokens.c.revoked_at.is_not(None))
    over = sa.or_(tokens.c.expires_at <= now, tokens.c.parent_id.in_(ended))
    connection.execute(tokens.delete().where(tokens.c.parent_id.is_not(None), over))
