"""Which ways of telling the organiser fail: kept beside the other facts, and shown in the console."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from cuvee.competition.facts import NOT_SENT, change_fact, fact, hold_facts_alone
from cuvee.competition.service import Service


@dataclass(frozen=True)
class NotSent:
    """A way of telling that fails, since when, and why."""

    name: str
    since: datetime
    why: str


def not_sent(connection: Connection) -> tuple[NotSent, ...]:
    """Return the ways of telling that fail now."""
    failing = fact(connection, NOT_SENT) or {}
    return tuple(
        NotSent(name, datetime.fromisoformat(each["since"]), each["why"]) for name, each in sorted(failing.items())
    )


def remember(service: Service, name: str, problem: str) -> None:
    """Keep why a way of telling fails, and since when; nothing where it works."""
    with service.database.read() as connection:
        known = dict(fact(connection, NOT_SENT) or {})
    if known.get(name, {}).get("why", "") == problem:
        return
    with service.database.write() as connection:
        hold_facts_alone(connection)
        failing = dict(fact(connection, NOT_SENT) or {})
        earlier = failing.pop(name, None)
        if problem:
            since = earlier["since"] if earlier else service.now(connection).isoformat()
            failing[name] = {"since": since, "why": problem}
        change_fact(connection, NOT_SENT, failing)


def forget_others(service: Service, names: AbstractSet[str]) -> None:
    """Forget that a way of telling failed which the organiser has taken out since."""
    with service.database.read() as connection:
        if not (fact(connection, NOT_SENT) or {}).keys() - names:
            return
    with service.database.write() as connection:
        hold_facts_alone(connection)
        failing = fact(connection, NOT_SENT) or {}
        change_fact(connection, NOT_SENT, {name: why for name, why in failing.items() if name in names})
