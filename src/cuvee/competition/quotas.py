"""How many submissions a team has left. Counted from the states of its submissions, so nothing can get out of step."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.amounts import bytes_text
from cuvee.competition.refusals import Refusal
from cuvee.competition.states import State, uses_quota
from cuvee.competition.tables import archives, runs, submissions
from cuvee.submission.competition import Phase


@dataclass(frozen=True)
class Quota:
    """What a team used and has left in a phase. A limit of None means that there is none. Days are those of UTC."""

    phase: str
    per_day: int | None
    used_today: int
    total: int | None
    used_total: int
    waiting_at_most: int | None
    waiting: int
    next_day: datetime

    @property
    def remaining(self) -> int | None:
        """Return how many may be sent now; None without a limit."""
        limits = ((self.per_day, self.used_today), (self.total, self.used_total), (self.waiting_at_most, self.waiting))
        left = [max(0, limit - used) for limit, used in limits if limit is not None]
        return min(left, default=None)

    def check(self) -> None:
        """Refuse one more, saying which limit is reached and when it ends."""
        if self.total is not None and self.used_total >= self.total:
            raise Refusal("quota_used", f"all {self.total} submissions of the phase '{self.phase}' are used")
        if self.per_day is not None and self.used_today >= self.per_day:
            raise Refusal(
                "quota_used",
                f"all {self.per_day} submissions of today are used",
                hint=f"the next day begins at {self.next_day:%Y-%m-%d %H:%M} UTC",
            )
        if self.waiting_at_most is not None and self.waiting >= self.waiting_at_most:
            raise Refusal(
                "quota_used",
                f"{self.waiting} of the team's submissions wait or run, which is as many as may",
                hint="wait for one to end, or cancel one",
            )


def quota(connection: Connection, team_id: int, phase: Phase, now: datetime) -> Quota:
    """Count what a team used of a phase."""
    found = connection.execute(
        sa.select(submissions.c.submitted_at, submissions.c.given_back, runs.c.state, runs.c.attempt)
        .join(runs, sa.and_(runs.c.submission_id == submissions.c.id, runs.c.purpose == "public"))
        .where(submissions.c.team_id == team_id, submissions.c.phase == phase.name)
    ).all()
    counted = [
        row.submitted_at
        for row in found
        if uses_quota(State(row.state), started=row.attempt > 0, given_back=row.given_back)
    ]
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Quota(
        phase=phase.name,
        per_day=phase.quota.per_day,
        used_today=sum(at >= day for at in counted),
        total=phase.quota.total,
        used_total=len(counted),
        waiting_at_most=phase.quota.at_once,
        waiting=sum(row.state in (State.QUEUED, State.RUNNING) for row in found),
        next_day=day + timedelta(days=1),
    )


def check_room(connection: Connection, team_id: int, more: int, most: int) -> None:
    """Refuse `more` bytes of a team that would then have more than `most` in the database."""
    stored = stored_bytes(connection, team_id)
    if stored + more > most:
        raise Refusal(
            "quota_used",
            f"the team's submissions hold {bytes_text(stored)}; with this one they would hold more than "
            f"{bytes_text(most)}",
            hint="cancel submissions that wait, or send smaller archives",
        )


def stored_bytes(connection: Connection, team_id: int) -> int:
    """Count what a team's archives and recipes take in the database: the same archive once."""
    theirs = sa.select(submissions.c.archive_digest).where(submissions.c.team_id == team_id)
    in_archives = sa.select(sa.func.sum(sa.func.length(archives.c.content))).where(archives.c.digest.in_(theirs))
    in_recipes = sa.select(sa.func.sum(sa.func.length(submissions.c.recipe))).where(submissions.c.team_id == team_id)
    return sum(int(connection.execute(query).scalar() or 0) for query in (in_archives, in_recipes))
