"""The organiser's verbs. Each one writes a line of the audit log, in the same transaction."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from cuvee.competition import final, submissions
from cuvee.competition.access import Asks, Serves
from cuvee.competition.alike import Alike, alike
from cuvee.competition.audit import lines
from cuvee.competition.bodies import (
    LARGEST_NUMBER,
    Deadline,
    Hidden,
    Label,
    Limit,
    Many,
    NewTeam,
    NewWorker,
    Note,
    Number,
    Paused,
    Purpose,
    Rated,
    Told,
)
from cuvee.competition.console import (
    Announcement,
    Console,
    Failure,
    announce,
    console,
    extend,
    judge_many_again,
    move_up,
    pause,
)
from cuvee.competition.deadlines import in_force
from cuvee.competition.dump import dump
from cuvee.competition.duplicates import Duplicate, duplicates
from cuvee.competition.expected import expected, forget
from cuvee.competition.hiding import hide_submission, hide_team
from cuvee.competition.not_sent import NotSent
from cuvee.competition.rated import ratings_of
from cuvee.competition.ratings import rate
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import PUBLIC
from cuvee.competition.states import Role
from cuvee.competition.suspects import close_alarm, judge_suspects_again, open_alarms
from cuvee.competition.tables import runs, teams
from cuvee.competition.teams import new_team
from cuvee.competition.tokens import new_token, revoke
from cuvee.competition.views import OwnSubmissionView, SubmissionView, TeamView, submission_view, team_view
from cuvee.competition.workforce import known_workers
from cuvee.submission.expected import TOLERANCE

routes = APIRouter(prefix="/api/organiser", tags=["organiser"])


class TokenView(BaseModel):
    """A token, shown this once."""

    token: str


class MadeTeamView(BaseModel):
    team: TeamView
    token: str


class WorkerView(BaseModel):
    name: str
    ready: bool
    reason: str
    seen_at: datetime
    judged: int
    failures: int
    hardware: dict[str, str]


class AlarmView(BaseModel):
    """A worker failed its test: how many of its runs went back to the queue or became suspect, or stand because the
    final ranking is out. `waiting` are those that are still suspect."""

    id: int
    at: datetime
    worker: str
    reason: str
    queued: int
    suspect: int
    standing: int
    waiting: int


class ExpectedView(BaseModel):
    """What each worker's test must find: the scores of a model of the competition, and who recorded them."""

    model: str
    scores: dict[str, float]
    tolerance: float
    versions: dict[str, str]
    competition_digest: str
    worker: str
    at: datetime


class QueuedView(BaseModel):
    run_id: int
    submission_id: int
    purpose: str
    state: str
    attempt: int
    worker: str | None
    queued_at: datetime
    lease_until: datetime | None
    progress: str


class AuditView(BaseModel):
    """A line of the audit log. `digest` is the SHA-256 of the line and of the digest before it."""

    id: int
    at: datetime
    role: str
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    digest: str


class ConsoleView(BaseModel):
    """How judging goes. `judged` and `failures` are of the last hour, `not_sent` the messages to you that fail."""

    paused: bool
    waiting: int
    running: int
    judged: int
    workers: int
    seconds_left: float | None
    failures: list[Failure]
    announcements: list[Announcement]
    not_sent: list[NotSent]


class RatingView(BaseModel):
    """What a rater gives a team's report."""

    track: str
    team: int
    name: str
    rater: str
    value: float


class CountView(BaseModel):
    count: int


class FinalsView(BaseModel):
    """How far the final ranking is: final runs by state."""

    frozen: bool
    published: bool
    ready: bool
    states: dict[str, int]


@routes.post("/submissions/{submission_id}/rerun", response_model=OwnSubmissionView)
def rerun(service: Serves, actor: Asks, submission_id: Number, purpose: Purpose = PUBLIC) -> SubmissionView:
    """Judge a submission again; it costs no quota."""
    with service.database.write() as connection:
        if purpose == PUBLIC:
            submissions.rerun(connection, actor, submission_id, service.now(connection))
        else:
            final.rerun(connection, actor, submission_id, service.competition, service.now(connection))
        return submission_view(connection, actor, submission_id, service.competition)


@routes.get("/console", response_model=ConsoleView)
def look_at_console(service: Serves, _actor: Asks) -> ConsoleView:
    """Show how judging goes: what waits, what the last hour gave, what failed in it, what was announced."""
    with service.database.read() as connection:
        return _console_view(console(connection, service.now(connection)))


@routes.post("/pause", response_model=ConsoleView)
def pause_judging(service: Serves, actor: Asks, body: Paused) -> ConsoleView:
    """Give workers nothing new, or go on."""
    with service.database.write() as connection:
        now = service.now(connection)
        pause(connection, actor, body.paused, now)
        return _console_view(console(connection, now))


@routes.post("/submissions/{submission_id}/move-up", response_model=OwnSubmissionView)
def move_submission_up(
    service: Serves, actor: Asks, submission_id: Number, purpose: Purpose = PUBLIC
) -> SubmissionView:
    """Let a waiting submission be the next that is judged."""
    with service.database.write() as connection:
        move_up(connection, actor, submission_id, purpose, service.now(connection))
        return submission_view(connection, actor, submission_id, service.competition)


@routes.post("/judge-many", response_model=CountView)
def judge_many(service: Serves, actor: Asks, body: Many) -> CountView:
    """Judge all submissions of a state again, or those that ended for one reason; 500 at a time."""
    with service.database.write() as connection:
        count = judge_many_again(connection, actor, body.state, body.reason_code, service.now(connection))
        return CountView(count=count)


@routes.post("/announcements", response_model=ConsoleView)
def tell_everybody(service: Serves, actor: Asks, body: Told) -> ConsoleView:
    """Announce something on the first page."""
    with service.database.write() as connection:
        now = service.now(connection)
        announce(connection, actor, body.text, now)
        return _console_view(console(connection, now))


@routes.post("/deadline", response_model=ConsoleView)
def extend_deadline(service: Serves, actor: Asks, body: Deadline) -> ConsoleView:
    """Let a phase close later; those after it move by as much."""
    with service.database.write() as connection:
        now, of = service.now(connection), in_force(connection, service.competition)
        closes = body.closes if body.closes.tzinfo else body.closes.replace(tzinfo=UTC)
        extend(connection, actor, of, body.phase, closes, now)
        return _console_view(console(connection, now))


@routes.get("/ratings", response_model=list[RatingView])
def list_ratings(service: Serves, _actor: Asks) -> list[RatingView]:
    """List what raters gave the reports of teams that are shown, in all tracks of reports."""
    with service.database.read() as connection:
        views: list[RatingView] = []
        for track in service.competition.tracks:
            for each in ratings_of(connection, track.name):
                view = RatingView(
                    track=track.name, team=each.team_id, name=each.team, rater=each.rater, value=each.value
                )
                views.append(view)
        return views


@routes.post("/ratings", response_model=list[RatingView])
def rate_a_report(service: Serves, actor: Asks, body: Rated) -> list[RatingView]:
    """Enter what a rater gives a team's report, or take it back; a final that is out is made again."""
    with service.database.write() as connection:
        now = service.now(connection)
        rate(connection, actor, service.competition, body.track, body.team, body.rater, body.value, now)
    return list_ratings(service, actor)


def _console_view(found: Console) -> ConsoleView:
    content = asdict(found)
    return ConsoleView(**{name: content[name] for name in ConsoleView.model_fields})


@routes.post("/submissions/{submission_id}/reject", response_model=OwnSubmissionView)
def reject(service: Serves, actor: Asks, submission_id: Number, purpose: Purpose = PUBLIC) -> SubmissionView:
    """Reject a quarantined submission as a crash. Its quota counts, unless it is given back."""
    with service.database.write() as connection:
        submissions.reject(connection, actor, submission_id, purpose, service.now(connection))
        return submission_view(connection, actor, submission_id, service.competition)


@routes.post("/submissions/{submission_id}/give-back", response_model=OwnSubmissionView)
def give_back(service: Serves, actor: Asks, submission_id: Number) -> SubmissionView:
    """Give a team its quota back for a submission."""
    with service.database.write() as connection:
        submissions.give_back(connection, actor, submission_id, service.now(connection))
        return submission_view(connection, actor, submission_id, service.competition)


@routes.post("/submissions/{submission_id}/hide", response_model=OwnSubmissionView)
def hide(service: Serves, actor: Asks, submission_id: Number, body: Hidden) -> SubmissionView:
    """Take a submission off the public pages, or put it back."""
    with service.database.write() as connection:
        hide_submission(connection, actor, submission_id, body.hidden, service.competition, service.now(connection))
        return submission_view(connection, actor, submission_id, service.competition)


@routes.post("/submissions/{submission_id}/annotate", response_model=OwnSubmissionView)
def annotate(service: Serves, actor: Asks, submission_id: Number, body: Note) -> SubmissionView:
    """Set the note that stands beside a submission."""
    with service.database.write() as connection:
        submissions.annotate(connection, actor, submission_id, body.note, service.now(connection))
        return submission_view(connection, actor, submission_id, service.competition)


@routes.post("/teams", response_model=MadeTeamView, status_code=201)
def invite(service: Serves, actor: Asks, body: NewTeam) -> MadeTeamView:
    """Register a team, also where registration is not open."""
    with service.database.write() as connection:
        team_id, token = new_team(connection, actor, body.name, service.now(connection), members=body.members)
        return MadeTeamView(team=team_view(connection, actor, team_id), token=token)


@routes.post("/teams/{team_id}/hide", response_model=TeamView)
def hide_a_team(service: Serves, actor: Asks, team_id: Number, body: Hidden) -> TeamView:
    """Take a team off the public pages, or put it back."""
    with service.database.write() as connection:
        hide_team(connection, actor, team_id, body.hidden, service.competition, service.now(connection))
        return team_view(connection, actor, team_id)


@routes.post("/teams/{team_id}/token", response_model=TokenView)
def replace_token(service: Serves, actor: Asks, team_id: Number) -> TokenView:
    """Give a team a new token; all its old tokens end."""
    with service.database.write() as connection:
        name = connection.execute(sa.select(teams.c.name).where(teams.c.id == team_id)).scalar()
        if name is None:
            raise Refusal("not_found", f"there is no team {team_id}")
        revoke(connection, actor, service.now(connection), role=Role.TEAM, team_id=team_id, label=name)
        return TokenView(token=new_token(connection, actor, Role.TEAM, name, service.now(connection), team_id=team_id))


@routes.get("/workers", response_model=list[WorkerView])
def list_workers(service: Serves, _actor: Asks) -> list[WorkerView]:
    """List the workers that have said hello."""
    with service.database.read() as connection:
        return [WorkerView(**row._mapping) for row in known_workers(connection)]


@routes.post("/workers", response_model=TokenView, status_code=201)
def new_worker(service: Serves, actor: Asks, body: NewWorker) -> TokenView:
    """Make a token for a worker on any machine."""
    with service.database.write() as connection:
        revoke(connection, actor, service.now(connection), role=Role.WORKER, team_id=None, label=body.name)
        return TokenView(token=new_token(connection, actor, Role.WORKER, body.name, service.now(connection)))


@routes.post("/workers/{name}/revoke", response_model=CountView)
def revoke_worker(service: Serves, actor: Asks, name: Annotated[Label, Path()]) -> CountView:
    """End a worker's tokens. Its run goes back to the queue when its lease is over."""
    with service.database.write() as connection:
        return CountView(
            count=revoke(connection, actor, service.now(connection), role=Role.WORKER, team_id=None, label=name)
        )


@routes.get("/expected", response_model=ExpectedView | None)
def show_expected(service: Serves, _actor: Asks) -> ExpectedView | None:
    """Show what each worker's test must find; null before the first worker came into service."""
    with service.database.read() as connection:
        wanted = expected(connection)
    if wanted is None:
        return None
    control = wanted.control
    return ExpectedView(
        model=control.model,
        scores={task: control.score(task) for task in control.items},
        tolerance=TOLERANCE,
        versions=dict(control.versions),
        competition_digest=wanted.competition_digest,
        worker=wanted.worker,
        at=wanted.at,
    )


@routes.post("/expected/forget", response_model=ExpectedView | None)
def forget_expected(service: Serves, actor: Asks) -> ExpectedView | None:
    """Let the next worker that tests itself record anew what all must find. Returns what is expected now: null."""
    with service.database.write() as connection:
        forget(connection, actor, service.now(connection))
    return show_expected(service, actor)


@routes.get("/alarms", response_model=list[AlarmView])
def list_alarms(service: Serves, _actor: Asks) -> list[AlarmView]:
    """List the workers that failed their test, and what became of the runs that they had judged."""
    with service.database.read() as connection:
        return [AlarmView(**_fields(row, AlarmView.model_fields)) for row in open_alarms(connection)]


@routes.post("/alarms/{alarm_id}/rerun", response_model=CountView)
def rerun_suspects(service: Serves, actor: Asks, alarm_id: Number) -> CountView:
    """Judge again what an alarm's worker left suspect. Returns how many runs that is."""
    with service.database.write() as connection:
        return CountView(count=judge_suspects_again(connection, actor, alarm_id, service.now(connection)))


@routes.post("/alarms/{alarm_id}/close", response_model=list[AlarmView])
def close_one_alarm(service: Serves, actor: Asks, alarm_id: Number) -> list[AlarmView]:
    """Take an alarm off the list. Returns those that are left."""
    with service.database.write() as connection:
        close_alarm(connection, actor, alarm_id, service.now(connection))
    return list_alarms(service, actor)


@routes.get("/queue", response_model=list[QueuedView])
def show_queue(service: Serves, _actor: Asks) -> list[QueuedView]:
    """List what waits and what runs."""
    with service.database.read() as connection:
        found = connection.execute(
            sa.select(runs).where(runs.c.state.in_(["queued", "running"])).order_by(runs.c.queued_at, runs.c.id)
        )
        names = [name for name in QueuedView.model_fields if name != "run_id"]
        return [QueuedView(run_id=row.id, **_fields(row, names)) for row in found]


@routes.get("/audit", response_model=list[AuditView])
def show_audit(
    service: Serves, _actor: Asks, after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER)] = 0, limit: Limit = 200
) -> list[AuditView]:
    """Read the audit log, oldest first, from a line on."""
    with service.database.read() as connection:
        return [AuditView(**row._mapping) for row in lines(connection, after=after, limit=limit)]


@routes.get("/duplicates", response_model=list[Duplicate])
def show_duplicates(service: Serves, _actor: Asks) -> list[Duplicate]:
    """List submissions of different teams that are the same."""
    with service.database.read() as connection:
        return duplicates(connection)


@routes.get("/alike", response_model=list[Alike])
def show_alike(service: Serves, _actor: Asks) -> list[Alike]:
    """List submissions of different teams that are near copies: a reason to look, and no proof."""
    with service.database.read() as connection:
        return alike(connection)


@routes.get("/export", response_model=dict[str, list[dict[str, Any]]])
def export(service: Serves, _actor: Asks) -> dict[str, list[dict[str, Any]]]:
    """Return the whole database but archives and tokens, private scores and all."""
    with service.database.read() as connection:
        return dump(connection)


@routes.get("/finals", response_model=FinalsView)
def show_finals(service: Serves, _actor: Asks) -> FinalsView:
    """Say how far the final ranking is."""
    with service.database.read() as connection:
        return finals_view(final.finals(connection))


@routes.post("/freeze", response_model=CountView)
def freeze(service: Serves, actor: Asks) -> CountView:
    """Take no more submissions, and judge the chosen ones for the final ranking. Returns how many."""
    with service.database.write() as connection:
        return CountView(count=final.freeze(connection, actor, service.competition, service.now(connection)))


@routes.post("/unfreeze", response_model=CountView)
def unfreeze(service: Serves, actor: Asks) -> CountView:
    """Take submissions again, as long as no final run has begun."""
    with service.database.write() as connection:
        return CountView(count=final.unfreeze(connection, actor, service.competition, service.now(connection)))


@routes.post("/publish", response_model=CountView)
def publish(service: Serves, actor: Asks) -> CountView:
    """Publish the final ranking. Returns how many places it has."""
    with service.database.write() as connection:
        return CountView(count=final.publish(connection, actor, service.competition, service.now(connection)))


def finals_view(found: final.Finals) -> FinalsView:
    """Show how far the final ranking is."""
    return FinalsView(frozen=found.frozen, published=found.published, ready=found.is_ready, states=found.states)


def _fields(row: sa.Row[Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: row._mapping[name] for name in names}
