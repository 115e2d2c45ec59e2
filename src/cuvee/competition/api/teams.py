"""What teams do: send, look, cancel, choose for the final ranking."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel

from cuvee.competition import submissions
from cuvee.competition.access import Asks, Serves
from cuvee.competition.actors import Actor
from cuvee.competition.bodies import ARCHIVE_BODY, Before, Chosen, Limit, Line, Number, Purpose, Sent
from cuvee.competition.deadlines import in_force
from cuvee.competition.facts import FROZEN, fact
from cuvee.competition.inbox import opened
from cuvee.competition.quotas import Quota, quota
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import PUBLIC
from cuvee.competition.service import Service
from cuvee.competition.states import Role
from cuvee.competition.views import (
    OwnSubmissionView,
    SignedVerdictView,
    SubmissionView,
    archive_content,
    log_text,
    signed_verdict_view,
    submission_view,
    submission_views,
)

routes = APIRouter(tags=["teams"])
RequestKey = Annotated[str | None, Header(pattern=r"^[A-Za-z0-9._-]{1,80}$")]


class MeView(BaseModel):
    """Who a token belongs to."""

    role: Role
    name: str
    team_id: int | None


class QuotaView(BaseModel):
    """What is used and left in the open phase; None where there is no limit."""

    phase: str
    per_day: int | None
    used_today: int
    total: int | None
    used_total: int
    waiting_at_most: int | None
    waiting: int
    remaining: int | None
    next_day: datetime


@routes.get("/api/me", response_model=MeView)
def me(actor: Asks) -> MeView:
    """Say whose token this is."""
    return MeView(role=actor.role, name=actor.name, team_id=actor.team_id)


@routes.get("/api/quota", response_model=QuotaView)
def my_quota(service: Serves, actor: Asks) -> QuotaView:
    """Say how many submissions are left."""
    found = quota_of(service, actor)
    if found is None:
        raise Refusal("closed", "no phase takes submissions now")
    return QuotaView(
        phase=found.phase,
        per_day=found.per_day,
        used_today=found.used_today,
        total=found.total,
        used_total=found.used_total,
        waiting_at_most=found.waiting_at_most,
        waiting=found.waiting,
        remaining=found.remaining,
        next_day=found.next_day,
    )


@routes.post("/api/submissions", response_model=OwnSubmissionView, status_code=201, openapi_extra=ARCHIVE_BODY)
def send(
    service: Serves, actor: Asks, sent: Sent, title: Line = "", x_request_key: RequestKey = None
) -> SubmissionView:
    """Send a submission: the archive that `cuvee submission pack` made, as the request's body.

    With the same X-Request-Key it is one submission however often it is sent.
    """
    return take(service, actor, sent.content, title, x_request_key, sent.at)


@routes.get("/api/submissions", response_model=list[SubmissionView])
def listed(
    service: Serves,
    actor: Asks,
    limit: Limit = 50,
    before: Before = None,
    team: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> list[SubmissionView]:
    """List submissions, newest first: a team's own by default. `before` continues a list."""
    with service.database.read() as connection:
        chosen = team if team is not None else actor.team_id
        return submission_views(connection, actor, team_id=chosen, limit=limit, before=before)


@routes.get("/api/submissions/{submission_id}", response_model=OwnSubmissionView | SubmissionView)
def one(service: Serves, actor: Asks, submission_id: Number) -> SubmissionView:
    """Show a submission: everything to its team, the result to others."""
    with service.database.read() as connection:
        return submission_view(connection, actor, submission_id, service.competition)


@routes.get(
    "/api/submissions/{submission_id}/logs",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def log(service: Serves, actor: Asks, submission_id: Number) -> Response:
    """Return what the judge wrote, if the phase shows logs."""
    with service.database.read() as connection:
        return Response(log_text(connection, actor, submission_id, service.competition), media_type="text/plain")


@routes.get(
    "/api/submissions/{submission_id}/archive",
    response_class=Response,
    responses={200: {"content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}},
)
def archive(service: Serves, actor: Asks, submission_id: Number) -> Response:
    """Return a submission as it was sent."""
    with service.database.read() as connection:
        return Response(archive_content(connection, actor, submission_id), media_type="application/x-tar")


@routes.get("/api/submissions/{submission_id}/verdict", response_model=SignedVerdictView)
def signed_verdict(service: Serves, actor: Asks, submission_id: Number, purpose: Purpose = PUBLIC) -> SignedVerdictView:
    """Return a verdict as its worker has signed it."""
    with service.database.read() as connection:
        return signed_verdict_view(connection, actor, submission_id, purpose)


@routes.post("/api/submissions/{submission_id}/cancel", response_model=OwnSubmissionView)
def cancel(service: Serves, actor: Asks, submission_id: Number) -> SubmissionView:
    """Take a submission back. While it waits, that costs no quota."""
    with service.database.write() as connection:
        submissions.cancel(connection, actor, submission_id, service.now(connection))
        return submission_view(connection, actor, submission_id, service.competition)


@routes.post("/api/submissions/{submission_id}/select", response_model=OwnSubmissionView)
def select(service: Serves, actor: Asks, submission_id: Number, body: Chosen) -> SubmissionView:
    """Choose a submission for the final ranking, or no longer."""
    with service.database.write() as connection:
        submissions.select(connection, actor, submission_id, body.chosen, service.competition, service.now(connection))
        return submission_view(connection, actor, submission_id, service.competition)


def take(
    service: Service, actor: Actor, content: bytes, title: str, request_key: str | None, at: datetime
) -> SubmissionView:
    """Check an archive that came at a time, and queue it."""
    import secrets

    received = opened(content, title, request_key or secrets.token_hex(16))
    with service.database.write() as connection:
        number = submissions.receive(connection, actor, received, service.competition, service.limits, at)
        return submission_view(connection, actor, number, service.competition)


def quota_of(service: Service, actor: Actor) -> Quota | None:
    """Count what a team used of the open phase; None while none is open, and once the final ranking is being made."""
    with service.database.read() as connection:
        if fact(connection, FROZEN) is not None:
            return None
        now = service.now(connection)
        phase = in_force(connection, service.competition).phase(now)
        if phase is None or actor.team_id is None:
            return None
        if phase.scores != "public":
            return None
        return quota(connection, actor.team_id, phase, now)
