"""The pages of written reports: a team hands one in, its readers read it as letters or as a file, raters rate it."""

from dataclasses import dataclass
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.engine import Connection

from cuvee.competition.access import Asks, Serves
from cuvee.competition.actors import Actor
from cuvee.competition.api.reports import file_of
from cuvee.competition.bodies import Number, TrackName
from cuvee.competition.deadlines import in_force
from cuvee.competition.pages.render import page
from cuvee.competition.pages.routes import Form, me_page, read_number, read_score
from cuvee.competition.rated import GivenRating, rating_by
from cuvee.competition.ratings import rate
from cuvee.competition.refusals import Refusal
from cuvee.competition.reports import Report, hand_in, rates, report_with_content, reports_of
from cuvee.competition.states import Role
from cuvee.competition.tracks import track_of
from cuvee.submission.competition import Track

LETTERS_ON_A_PAGE = 300_000

routes = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class ToRate:
    """A report as a rater sees it, with what this rater gave it."""

    report: Report
    own: GivenRating | None

    @property
    def is_earlier(self) -> bool:
        """Tell whether the rater has rated a version that the team has replaced since."""
        return self.own is not None and self.own.at < self.report.sent_at


@routes.post("/me/report")
def send(request: Request, service: Serves, actor: Asks, form: Form) -> Response:
    """Hand in a report, in place of an earlier one."""
    track, content = str(form.get("track", "")), form.get("report", b"")
    try:
        if not isinstance(content, bytes) or not content:
            raise Refusal("bad_request", "no file was chosen")
        with service.database.write() as connection:
            of = in_force(connection, service.competition)
            hand_in(connection, actor, of, track, content, service.now(connection))
    except Refusal as refusal:
        return me_page(request, service, actor, None, problem_of_report=refusal)
    return RedirectResponse("/me#reports", status_code=303)


@routes.get("/tracks/{track_name}/reports/{team_id}")
def one(request: Request, service: Serves, actor: Asks, track_name: TrackName, team_id: Number) -> HTMLResponse:
    """A report: who has written it, and its letters where it is a text. A PDF is a file to save."""
    with service.database.read() as connection:
        report, content = report_with_content(connection, actor, service.competition, track_name, team_id)
    text = content.decode("utf-8") if report.kind == "text" else ""
    track = track_of(service.competition, track_name)
    is_cut = len(text) > LETTERS_ON_A_PAGE
    return page(request, "report", actor, report=report, track=track, text=text[:LETTERS_ON_A_PAGE], is_cut=is_cut)


@routes.get("/tracks/{track_name}/reports/{team_id}/file")
def file(service: Serves, actor: Asks, track_name: TrackName, team_id: Number) -> Response:
    """A report as it came."""
    with service.database.read() as connection:
        return file_of(*report_with_content(connection, actor, service.competition, track_name, team_id))


@routes.get("/reports")
def all_reports(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """What a rater, or the organiser, has to read."""
    with service.database.read() as connection:
        of = in_force(connection, service.competition)
        lists = []
        for track in of.tracks:
            if _reads(actor, track):
                lists.append((track, of.upload_closes(track), _to_rate(connection, actor, track)))
    return page(request, "reports", actor, lists=lists)


def _reads(actor: Actor, track: Track) -> bool:
    """Tell whether somebody reads all reports of a track that takes some."""
    return track.upload is not None and (actor.role is Role.ORGANISER or rates(actor, track))


def _to_rate(connection: Connection, actor: Actor, track: Track) -> list[ToRate]:
    listed = []
    for report in reports_of(connection, actor, track):
        listed.append(ToRate(report, rating_by(connection, track.name, report.team_id, actor.name)))
    return listed


@routes.post("/reports")
def rate_one(service: Serves, actor: Asks, form: Form) -> Response:
    """Enter what a rater gives a report; an empty score takes one back."""
    track, value = str(form.get("track", "")), read_score(str(form.get("value", "")).strip())
    with service.database.write() as connection:
        now, of = service.now(connection), service.competition
        rate(connection, actor, of, track, read_number(form.get("team")), actor.name, value, now)
    return RedirectResponse(f"/reports#{quote(track)}", status_code=303)
