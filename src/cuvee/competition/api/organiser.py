"""The organiser's verbs. Each one writes a line of the audit log, in the same transaction."""

from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from cuvee.competition import final, submissions
from cuvee.competition.access import Asks, Serves
from cuvee.competition.actors import new_token, revoke
from cuvee.competition.alike import Alike, alike
from cuvee.competition.audit import lines
from cuvee.competition.bodies import LARGEST_NUMBER, Hidden, Label, Limit, NewTeam, NewWorker, Note, Number, Purpose
from cuvee.competition.dump import dump
from cuvee.competition.duplicates import Duplicate, duplicates
from cuvee.competition.hiding import hide_submission, hide_team
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import PUBLIC
from cuvee.competition.states import Role
from cuvee.competition.tables import runs, teams
from cuvee.competition.teams import new_team
from cuvee.competition.views import OwnSubmissionView, SubmissionView, TeamView, submission_view, team_view
from cuvee.competition.workforce import known_workers

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


class CountView(BaseModel):
    count: int


class FinalsView(BaseModel):
    """How far the final ranking is: final runs by state."""

    frozen: bool
    published: bool
    ready: bool
    states: dict[str, int]


@routes.post("/submissions/{submission_id}/rerun", response_model=OwnSubmissionView)
def rerun(
    service: Serves,
    actor: Asks,
    submission_id: Number,
    purpose: Purpose = PUBLIC,
) -> SubmissionView:
    """Judge a submission again; it costs no quota."""
    with service.database.write() as connection:
        if purpose == PUBLIC:
            submissions.rerun(connection, actor, submission_id, service.now(connection))
        else:
            final.rerun(connection, actor, submission_id, service.competition, service.now(connection))
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
    """Give a team a new token; all its old ones end."""
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


@routes.get("/queue", response_model=list[QueuedView])
def show_queue(service: Serves, _actor: Asks) -> list[QueuedView]:
    """List what waits and what runs."""
    with service.database.read() as connection:
        found = connection.execute(
            sa.select(runs).where(runs.c.state.in_(["queued", "running"])).order_by(runs.c.queued_at, runs.c.id)
        )
        return [
            QueuedView(
                run_id=row.id, **{name: row._mapping[name] for name in QueuedView.model_fields if name != "run_id"}
            )
            for row in found
        ]


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
