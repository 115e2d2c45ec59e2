"""Teams: who takes part. Parents and baselines are entries of the organiser's, kept as teams of their own kind."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.actors import Actor
from cuvee.competition.audit import record
from cuvee.competition.names import check_not_reserved, checked_name, name_key
from cuvee.competition.refusals import Refusal
from cuvee.competition.states import Role
from cuvee.competition.tables import teams
from cuvee.competition.tokens import new_token

Kind = Literal["participant", "baseline", "parent"]


def new_team(
    connection: Connection,
    by: Actor,
    name: str,
    now: datetime,
    *,
    members: Sequence[str] = (),
    kind: Kind = "participant",
) -> tuple[int, str]:
    """Register a team. Return its number and its token, which is shown this once."""
    shown = checked_name(name)
    if by.role is not Role.ORGANISER:
        check_not_reserved(shown)
    key = name_key(shown)
    if connection.execute(sa.select(teams.c.id).where(teams.c.key == key)).first():
        raise Refusal("name_taken", f"a team with a name like '{shown}' is there already", hint="take another name")
    people = [checked_name(member) for member in members]
    team_id = connection.execute(
        teams.insert().values(name=shown, key=key, kind=kind, members=people, created_at=now).returning(teams.c.id)
    ).scalar_one()
    record(connection, by, "team made", f"team {team_id}", now, name=shown, kind=kind)
    return team_id, new_token(connection, by, Role.TEAM, shown, now, team_id=team_id)
