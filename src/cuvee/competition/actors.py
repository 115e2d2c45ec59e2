"""Who acts: a visitor, a team, a worker or an organiser; and the tokens that show it.

A token is 32 random bytes, so its SHA-256 is as hard to turn back as the token is to guess: only that digest is stored,
and looking it up needs no slow hash. The word before the underscore says what a found token is for.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.audit import record
from cuvee.competition.refusals import Refusal
from cuvee.competition.states import Role
from cuvee.competition.tables import teams, tokens

PREFIX = {Role.TEAM: "cuvee-team_", Role.WORKER: "cuvee-worker_", Role.ORGANISER: "cuvee-organiser_"}
SESSION = timedelta(hours=12)


@dataclass(frozen=True)
class Actor:
    """Who asks. `team_id` is a team's; `name` is the team's, the worker's or the organiser's."""

    role: Role
    name: str
    team_id: int | None = None
    token_id: int | None = None

    def needs(self, *roles: Role) -> None:
        """Refuse anybody else."""
        if self.role in roles:
            return
        if self.role is Role.VISITOR:
            raise Refusal("not_signed_in", "this needs a token", hint="send it as 'Authorization: Bearer TOKEN'")
        raise Refusal("not_allowed", f"a {self.role} may not do this", hint=f"only for: {', '.join(roles)}")


VISITOR = Actor(Role.VISITOR, "visitor")
QUEUE = Actor(Role.QUEUE, "queue")


def new_token(
    connection: Connection,
    by: Actor,
    role: Role,
    label: str,
    now: datetime,
    *,
    team_id: int | None = None,
    lasts: timedelta | None = None,
) -> str:
    """Make a token, keep its digest, and return it. Nobody can read it again."""
    token = PREFIX[role] + secrets.token_urlsafe(32)
    connection.execute(
        tokens.insert().values(
            digest=token_digest(token),
            role=role.value,
            team_id=team_id,
            label=label,
            created_at=now,
            expires_at=now + lasts if lasts else None,
        )
    )
    record(connection, by, "token made", f"{role} {label}", now)
    return token


def actor_of(connection: Connection, token: str | None, now: datetime) -> Actor:
    """Return whose token this is; without one, a visitor. Raises Refusal for a token that is not valid."""
    if not token:
        return VISITOR
    row = connection.execute(
        sa.select(tokens, teams.c.name)
        .join(teams, teams.c.id == tokens.c.team_id, isouter=True)
        .where(tokens.c.digest == token_digest(token))
    ).one_or_none()
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise Refusal("not_signed_in", "this token is not valid here", hint="ask the organiser for a new one")
    return Actor(Role(row.role), row.name or row.label, row.team_id, row.id)


def revoke(connection: Connection, by: Actor, now: datetime, *, role: Role, team_id: int | None, label: str) -> int:
    """End all tokens of a team, or those of a role with this label. Return how many."""
    whose = tokens.c.team_id == team_id if team_id is not None else tokens.c.label == label
    ended = connection.execute(
        tokens.update().where(tokens.c.role == role.value, whose, tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    ).rowcount
    record(connection, by, "tokens revoked", f"{role} {label}", now, count=ended)
    return ended


def end_session(connection: Connection, actor: Actor, now: datetime) -> None:
    """End the session that an actor signed in with; the token that it was made from stays."""
    session = (tokens.c.id == actor.token_id, tokens.c.expires_at.is_not(None))
    connection.execute(tokens.update().where(*session).values(revoked_at=now))


def token_digest(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
