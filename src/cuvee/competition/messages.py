"""Messages to the organiser: what is not well is told once when it begins and once when it is over.

Each way of telling, a webhook or e-mail, keeps what it has told, so one that fails holds no other back. That a way
fails stands in the console, and nothing else waits for it.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from cuvee.competition.facts import TOLD, change_fact, fact, hold_facts_alone
from cuvee.competition.final import finals
from cuvee.competition.health import look
from cuvee.competition.limits import Limits
from cuvee.competition.mail import mail_of
from cuvee.competition.not_sent import remember
from cuvee.competition.service import Service
from cuvee.competition.suspects import open_alarms, quarantined
from cuvee.competition.webhook import webhook_of
from cuvee.errors import PlatformError

SECONDS_BETWEEN_LOOKS = 60.0
STARTED = "the server has started"

log = logging.getLogger("cuvee.competition")


class Messenger(Protocol):
    """A way to tell the organiser something."""

    @property
    def name(self) -> str:
        """Its name in the console: "webhook", "e-mail"."""
        ...

    def tell(self, title: str, sentences: Sequence[str]) -> str:
        """Tell it to all; return what went wrong for some of them, else nothing. Raises PlatformError where nobody is
        told.
        """
        ...


def messengers_of(limits: Limits, environment: Mapping[str, str]) -> list[Messenger]:
    """Return the ways of telling that the organiser has set. Raises RecipeError where one lacks something."""
    ways: tuple[Messenger | None, ...] = (webhook_of(limits), mail_of(limits, environment))
    return [messenger for messenger in ways if messenger is not None]


def what_to_tell(connection: Connection, limits: Limits, now: datetime) -> list[str]:
    """Say in sentences that hold no text of a team what needs the organiser now."""
    sentences = look(connection, now).problems(limits)
    sentences += [f"worker {alarm.worker} failed its test" for alarm in open_alarms(connection)]
    sentences += [f"submission {run.submission_id} is in quarantine" for run in quarantined(connection)]
    state = finals(connection)
    if state.is_ready and not state.published:
        sentences.append("all final runs are over, and the ranking can be published")
    return list(dict.fromkeys(sentences))


def tell_news(service: Service, messenger: Messenger) -> int:
    """Send what has begun and what is over since the last message. Return how many sentences were sent.

    What is sent counts as told; where sending fails, the next look sends it again. Raises PlatformError.
    """
    with service.database.read() as connection:
        present = what_to_tell(connection, service.limits, service.now(connection))
        told = list(map(str, fact(connection, _told_by(messenger)) or ()))
    news = [sentence for sentence in present if sentence not in told]
    news += [f"over: {sentence}" for sentence in told if sentence not in present]
    if not news:
        return 0
    _tell(service, messenger, news)
    with service.database.write() as connection:
        hold_facts_alone(connection)
        change_fact(connection, _told_by(messenger), present)
    return len(news)


def keep_telling(service: Service, messenger: Messenger, stop: threading.Event) -> None:
    """Tell that the server has started, which shows that messages arrive; then tell news until `stop`."""
    _without_failing(lambda: _tell(service, messenger, [STARTED]))
    while not stop.wait(SECONDS_BETWEEN_LOOKS):
        _without_failing(lambda: tell_news(service, messenger))


def _tell(service: Service, messenger: Messenger, sentences: Sequence[str]) -> None:
    """Tell something, and keep whether that went well."""
    try:
        problem = messenger.tell(service.competition.title, sentences)
    except PlatformError as error:
        remember(service, messenger.name, str(error))
        raise
    if problem:
        log.warning("%s", problem)
    remember(service, messenger.name, problem)


def _told_by(messenger: Messenger) -> str:
    """Return the name of the fact that keeps what a way of telling has told."""
    return TOLD if messenger.name == "webhook" else f"{TOLD}_by_{messenger.name}"


def _without_failing(tell: Callable[[], object]) -> None:
    try:
        tell()
    except PlatformError as error:
        log.warning("%s", error)
    except OperationalError as error:  # the database is away; the next look may find it
        log.warning("cannot look for what to tell: %s", error.orig)
