"""Single facts of a competition: that it is frozen, that the final ranking is published, which score is expected of a
worker's test, when it was last backed up.

Who acts because a fact is set, or because it is not, looks and acts in one transaction and holds the facts until it
ends.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.locks import FACTS, hold, hold_shared
from cuvee.competition.tables import facts

FROZEN, PUBLISHED, EXPECTED = "frozen", "published", "expected_score"
CHOSEN = "chosen"
"""The submissions that went into each final at the freeze, by the name of its track."""

PAUSED, MOVED_UP, ANNOUNCEMENTS, EXTENDED = "paused", "moved_up", "announcements", "extended"
"""That workers are given nothing new; runs that go first, with their fences; news; seconds added to phases by name."""

TOLD = "told"
"""Sentences that the organiser's webhook has been told and that were still true then; e-mail has a fact of its own."""

NOT_SENT = "messages_not_sent"
"""Ways of telling the organiser that fail, by name, since when and why."""

SERVED = "served_rules"
"""Version and SHA-256 of the `competition.yaml` that a server was last started with."""

LAST_BACKUP = "last_backup"
"""When the newest backup was made, in ISO's form."""


def hold_facts(connection: Connection) -> None:
    """Let nobody change a fact until this transaction ends. Many may hold the facts together."""
    hold_shared(connection, FACTS)


def hold_facts_alone(connection: Connection) -> None:
    """Wait until nobody holds the facts, and hold them alone until this transaction ends."""
    hold(connection, FACTS)


def fact(connection: Connection, name: str) -> Any | None:
    """Return a fact; None where it is not set."""
    return connection.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar()


def set_fact(connection: Connection, name: str, value: Any) -> None:
    """Set a fact that is not set yet."""
    connection.execute(facts.insert().values(name=name, value=value))


def change_fact(connection: Connection, name: str, value: Any) -> None:
    """Set a fact, in place of what it was."""
    unset_fact(connection, name)
    set_fact(connection, name, value)


def unset_fact(connection: Connection, name: str) -> None:
    """Take a fact back."""
    connection.execute(facts.delete().where(facts.c.name == name))
