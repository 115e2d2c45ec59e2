"""The organiser's console: how the queue goes, what failed in the last hour, and what may be done about it.

The organiser pauses judging, lets an entry go first, has many judged again, tells everybody something and gives more
time. Each is a line of the audit log, in the transaction of what it tells.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.facts import (
    ANNOUNCEMENTS,
    EXTENDED,
    FROZEN,
    MOVED_UP,
    PAUSED,
    change_fact,
    fact,
    hold_facts_alone,
)
from cuvee.competition.not_sent import NotSent, not_sent
from cuvee.competition.numbers import numbers
from cuvee.competition.queue import MOST_MOVED_UP, is_paused, moved_up
from cuvee.competition.refusals import Refusal
from cuvee.competition.revision import changed
from cuvee.competition.runs import PUBLIC, again, run_of
from cuvee.competition.states import State
from cuvee.competition.tables import archives, runs, submissions, teams
from cuvee.submission.competition import Competition

HOUR = timedelta(hours=1)
FAILURES = (State.FAILED.value, State.REJECTED.value, State.ERRORED.value, State.QUARANTINED.value)
JUDGED = (State.SCORED.value, *FAILURES)
MOST_AT_ONCE = 500
MOST_ANNOUNCEMENTS = 50
LONGEST_ANNOUNCEMENT = 500
MOST_FAILURES_SHOWN = 20


@dataclass(frozen=True)
class Failure:
    """Why runs ended without a score in the last hour, how many, and the newest of them."""

    state: str
    reason_code: str
    count: int
    submission_id: int
    team: str
    reason: str


@dataclass(frozen=True)
class Announcement:
    """A piece of news that the organiser has told while the competition runs."""

    at: datetime
    text: str


@dataclass(frozen=True)
class Console:
    """How judging goes. `seconds_left` is a guess, None without results or without a worker in service.

    `not_sent` are the ways of telling the organiser that fail.
    """

    paused: bool
    waiting: int
    running: int
    judged: int
    workers: int
    seconds_left: float | None
    failures: tuple[Failure, ...]
    announcements: tuple[Announcement, ...]
    moved_up: frozenset[int]
    not_sent: tuple[NotSent, ...]


def console(connection: Connection, now: datetime) -> Console:
    """Look at how judging goes: what waits, what the last hour gave, what failed in it."""
    states = Counter(dict(_counts(connection)))
    counted = numbers(connection)
    finished = connection.execute(
        sa.select(sa.func.count()).select_from(runs).where(runs.c.finished_at > now - HOUR, runs.c.state.in_(JUDGED))
    ).scalar_one()
    return Console(
        paused=is_paused(connection),
        waiting=states[State.QUEUED.value],
        running=states[State.RUNNING.value],
        judged=finished,
        workers=counted.workers,
        seconds_left=counted.seconds_left,
        failures=tuple(_failures(connection, now)),
        announcements=announcements(connection),
        moved_up=frozenset(run_id for run_id, _ in moved_up(connection)),
        not_sent=not_sent(connection),
    )


def _counts(connection: Connection) -> Sequence[tuple[str, int]]:
    found = connection.execute(sa.select(runs.c.state, sa.func.count()).group_by(runs.c.state)).all()
    return [(row[0], row[1]) for row in found]


def _failures(connection: Connection, now: datetime) -> list[Failure]:
    """Group what failed in the last hour by why, the most frequent first."""
    rows = connection.execute(
        sa.select(runs.c.state, runs.c.reason_code, runs.c.reason, runs.c.submission_id, teams.c.name)
        .join(submissions, submissions.c.id == runs.c.submission_id)
        .join(teams, teams.c.id == submissions.c.team_id)
        .where(runs.c.finished_at > now - HOUR, runs.c.state.in_(FAILURES))
        .order_by(runs.c.finished_at.desc())
    ).all()
    newest: dict[tuple[str, str], Any] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        key = (row.state, row.reason_code)
        counts[key] += 1
        newest.setdefault(key, row)
    return [
        Failure(*key, count, newest[key].submission_id, newest[key].name, newest[key].reason[:300])
        for key, count in counts.most_common(MOST_FAILURES_SHOWN)
    ]


def pause(connection: Connection, organiser: Actor, paused: bool, now: datetime) -> None:
    """Give workers nothing new, or go on. What is under way goes to its end."""
    hold_facts_alone(connection)
    if is_paused(connection) == paused:
        raise Refusal("wrong_state", "judging is paused already" if paused else "judging is not paused")
    change_fact(connection, PAUSED, paused)
    audit.record(connection, organiser, "paused" if paused else "resumed", "the queue", now)


def move_up(connection: Connection, organiser: Actor, submission_id: int, purpose: str, now: datetime) -> None:
    """Let a waiting run be the next that a worker takes."""
    hold_facts_alone(connection)
    run = run_of(connection, submission_id, purpose)
    if run.state != State.QUEUED.value:
        raise Refusal("wrong_state", f"only what waits can be moved up; this is {run.state}")
    earlier = [pair for pair in moved_up(connection) if pair[0] != run.id]
    change_fact(connection, MOVED_UP, [[run.id, run.fence], *earlier][:MOST_MOVED_UP])
    audit.record(connection, organiser, "moved up", f"submission {submission_id}", now, purpose=purpose)


def judge_many_again(connection: Connection, organiser: Actor, state: str, reason_code: str, now: datetime) -> int:
    """Judge all public runs of a state again, or those of one reason; at most MOST_AT_ONCE. Return how many.

    A result that a submission has stays until the new one is there. It costs no quota.
    """
    if state not in JUDGED:
        raise Refusal(
            "bad_request", f"there is no state '{state[:40]}' to judge again", hint=f"one of {', '.join(JUDGED)}"
        )
    query = (
        sa.select(runs.c.id)
        .join(submissions, submissions.c.id == runs.c.submission_id)
        .join(archives, archives.c.digest == submissions.c.archive_digest)
        .where(runs.c.purpose == PUBLIC, runs.c.state == state, archives.c.content != b"")
        .order_by(runs.c.id)
        .limit(MOST_AT_ONCE)
    )
    if reason_code:
        query = query.where(runs.c.reason_code == reason_code)
    found = connection.execute(query).scalars().all()
    for run_id in found:
        again(connection, run_id, organiser, now, why="judged again with many")
    return len(found)


def announcements(connection: Connection) -> tuple[Announcement, ...]:
    """Return what the organiser has told, the newest first."""
    told = fact(connection, ANNOUNCEMENTS) or ()
    return tuple(Announcement(datetime.fromisoformat(each["at"]), each["text"]) for each in told)


def announce(connection: Connection, organiser: Actor, text: str, now: datetime) -> None:
    """Tell everybody something, on the first page."""
    told = " ".join(text.split())
    has_length = 0 < len(told) <= LONGEST_ANNOUNCEMENT
    if not has_length or not told.isprintable():
        message = f"expected a text of at most {LONGEST_ANNOUNCEMENT} characters that can be shown"
        raise Refusal("bad_request", message)
    hold_facts_alone(connection)
    earlier = fact(connection, ANNOUNCEMENTS) or []
    change_fact(connection, ANNOUNCEMENTS, [{"at": now.isoformat(), "text": told}, *earlier][:MOST_ANNOUNCEMENTS])
    audit.record(connection, organiser, "announced", told[:100], now)


def take_back(connection: Connection, organiser: Actor, number: int, now: datetime) -> None:
    """Take an announcement back: the newest is number 0."""
    hold_facts_alone(connection)
    told = list(fact(connection, ANNOUNCEMENTS) or ())
    if not 0 <= number < len(told):
        raise Refusal("not_found", f"there is no announcement {number}")
    gone = told.pop(number)
    change_fact(connection, ANNOUNCEMENTS, told)
    audit.record(connection, organiser, "announcement taken back", gone["text"][:100], now)


def extend(
    connection: Connection, organiser: Actor, competition: Competition, phase: str, closes: datetime, now: datetime
) -> None:
    """Let a phase close later; all phases after it move by as much. `competition` is as it is in force."""
    hold_facts_alone(connection)
    if fact(connection, FROZEN) is not None:
        raise Refusal("closed", "the final ranking is being made; no deadline moves any more")
    found = competition.phase_named(phase)
    if found is None:
        raise Refusal("not_found", f"there is no phase '{phase[:80]}'")
    if closes <= found.closes or closes <= now:
        hint = f"it closes at {found.closes:%Y-%m-%d %H:%M} UTC; give a later time"
        raise Refusal("bad_request", "a deadline is only ever moved to later", hint=hint)
    seconds = (closes - found.closes).total_seconds()
    earlier: Mapping[str, float] = fact(connection, EXTENDED) or {}
    change_fact(connection, EXTENDED, {**earlier, phase: earlier.get(phase, 0.0) + seconds})
    audit.record(connection, organiser, "deadline extended", phase, now, closes=closes.isoformat(), seconds=seconds)
    changed(connection)
