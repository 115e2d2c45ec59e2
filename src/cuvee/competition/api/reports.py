"""Written reports: teams hand them in, raters and the organiser read and rate them."""

from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import BaseModel

from cuvee.competition.access import Asks, Serves
from cuvee.competition.bodies import ARCHIVE_BODY, GivenScore, Number, Sent, TrackName
from cuvee.competition.deadlines import in_force
from cuvee.competition.rated import rating_by
from cuvee.competition.ratings import rate
from cuvee.competition.refusals import Refusal
from cuvee.competition.reports import Kind, Report, hand_in, report_with_content, reports_of
from cuvee.competition.states import Role
from cuvee.competition.tracks import track_of

routes = APIRouter(prefix="/api/tracks/{track_name}", tags=["reports"])

HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
"""A report is somebody else's file: no browser guesses what it is or runs anything in it."""

TYPES: dict[Kind, str] = {"pdf": "application/pdf", "text": "text/plain; charset=utf-8"}
FILE = {"application/pdf": {"schema": {"type": "string", "format": "binary"}}, "text/plain": {}}


class ReportView(BaseModel):
    """A report. `own` is what the asking rater gives it, `is_earlier` says that it was given to an earlier version."""

    track: str
    team: int
    name: str
    kind: Kind
    bytes: int
    sha256: str
    sent_at: datetime
    is_kept: bool
    own: float | None = None
    is_earlier: bool = False


@routes.post("/report", response_model=ReportView, status_code=201, openapi_extra=ARCHIVE_BODY)
def send(service: Serves, actor: Asks, track_name: TrackName, sent: Sent) -> ReportView:
    """Hand in a report, in place of an earlier one: a PDF or a text in UTF-8, as the request's body."""
    with service.database.write() as connection:
        of = in_force(connection, service.competition)
        return _view(hand_in(connection, actor, of, track_name, sent.content, sent.at))


@routes.get("/reports", response_model=list[ReportView])
def listed(service: Serves, actor: Asks, track_name: TrackName) -> list[ReportView]:
    """List the reports of a track that you may read."""
    track = track_of(service.competition, track_name)
    views = []
    with service.database.read() as connection:
        for report in reports_of(connection, actor, track):
            view = _view(report)
            given = rating_by(connection, track_name, report.team_id, actor.name) if actor.role is Role.RATER else None
            if given is not None:
                view = view.model_copy(update={"own": given.value, "is_earlier": given.at < report.sent_at})
            views.append(view)
    return views


@routes.get("/reports/{team_id}", response_class=Response, responses={200: {"content": FILE}})
def one(service: Serves, actor: Asks, track_name: TrackName, team_id: Number) -> Response:
    """Return a report as it came."""
    with service.database.read() as connection:
        return file_of(*report_with_content(connection, actor, service.competition, track_name, team_id))


@routes.post("/reports/{team_id}/rating", response_model=list[ReportView])
def rate_one(
    service: Serves, actor: Asks, track_name: TrackName, team_id: Number, body: GivenScore
) -> list[ReportView]:
    """Enter what you give a report; null takes it back. The organiser says in whose name."""
    rater = body.rater
    if actor.role is Role.RATER:
        rater = actor.name
    if not rater:
        raise Refusal(
            "bad_request", "whose score is it?", hint="name the rater: `--rater NAME`, or `rater` in the request"
        )
    with service.database.write() as connection:
        now = service.now(connection)
        rate(connection, actor, service.competition, track_name, team_id, rater, body.value, now)
    return listed(service, actor, track_name)


def file_of(report: Report, content: bytes) -> Response:
    """Answer with a report as a file that a browser saves and does not open."""
    named = {"Content-Disposition": f'attachment; filename="{report.file}"'}
    return Response(content, media_type=TYPES[report.kind], headers={**HEADERS, **named})


def _view(report: Report) -> ReportView:
    return ReportView(
        track=report.track,
        team=report.team_id,
        name=report.team,
        kind=report.kind,
        bytes=report.bytes,
        sha256=report.digest,
        sent_at=report.sent_at,
        is_kept=report.is_kept,
    )
