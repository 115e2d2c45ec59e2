"""What everybody may ask: the competition, the board, the final ranking, teams; and registration."""

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError

from cuvee.competition import audit
from cuvee.competition.access import WATCHERS, Asks, Serves
from cuvee.competition.actors import Actor
from cuvee.competition.api.errors import AWAY
from cuvee.competition.board import Board
from cuvee.competition.bodies import Joining, Number, TeamNumber, TrackName
from cuvee.competition.deadlines import in_force
from cuvee.competition.export import board_csv, final_csv, kaggle_csv, track_csv
from cuvee.competition.head_to_head import head_to_head
from cuvee.competition.health import look
from cuvee.competition.refusals import Refusal
from cuvee.competition.service import Service
from cuvee.competition.teams import new_team
from cuvee.competition.track_views import TrackView, track_view
from cuvee.competition.views import (
    BoardView,
    FinalView,
    KeyView,
    TeamView,
    VersusView,
    board_json,
    board_view,
    final_view,
    key_views,
    team_view,
    versus_view,
)
from cuvee.submission.competition import Phase
from cuvee.version import __version__

routes = APIRouter(tags=["open"])
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


class DetailsView(BaseModel):
    """Workers, queue and backups in numbers. `worker_seen_at` is when any worker was seen last."""

    workers_known: int
    workers_alive: int
    worker_seen_at: datetime | None
    oldest_wait_seconds: float
    last_backup_at: datetime | None


class HealthView(BaseModel):
    """Whether all is well, and what is not. The details are for the organiser and for monitors."""

    status: Literal["ok", "unwell"]
    version: str
    problems: list[str]
    details: DetailsView | None


class PhaseView(BaseModel):
    name: str
    opens: datetime
    closes: datetime
    is_open: bool
    shows: str
    feedback: str
    logs: str
    per_day: int | None
    total: int | None
    at_once: int | None


class TaskView(BaseModel):
    name: str
    weight: float
    in_final: bool


class AuditHeadView(BaseModel):
    """The newest line of the audit log. Its digest stands for all lines up to it, so keep it to check them later."""

    line: int
    digest: str


class CompetitionView(BaseModel):
    """The competition as its file says; `text` is the file itself and `digest` its SHA-256."""

    name: str
    title: str
    description: str
    version: int
    digest: str
    now: datetime
    phases: list[PhaseView]
    tasks: list[TaskView]
    public_key: str | None
    audit_head: AuditHeadView
    text: str


class MadeTeam(BaseModel):
    """A new team and its token, which is shown this once."""

    team: TeamView
    token: str


@routes.get("/api/health", response_model=HealthView, responses={503: {"model": HealthView}})
def health(service: Serves, actor: Asks, response: Response) -> HealthView:
    """Say whether the database answers, somebody judges what waits, and backups are made; 503 where not."""
    view = _health_view(service, actor)
    if view.problems:
        response.status_code = 503
    return view


@routes.get("/api/competition", response_model=CompetitionView)
def competition(service: Serves, _actor: Asks) -> CompetitionView:
    """Show the competition: phases, tasks, rules."""
    with service.database.read() as connection:
        head, now = audit.head(connection), service.now(connection)
        of = in_force(connection, service.competition)
    return CompetitionView(
        name=of.name,
        title=of.title,
        description=of.description,
        version=of.version,
        digest=of.digest,
        now=now,
        phases=[_phase_view(phase, now) for phase in of.phases],
        tasks=[TaskView(name=task.name, weight=task.weight, in_final=task.private is not None) for task in of.tasks],
        public_key=of.public_key,
        audit_head=AuditHeadView(line=head.line, digest=head.digest),
        text=of.text,
    )


@routes.get("/api/keys", response_model=list[KeyView])
def keys(service: Serves, _actor: Asks) -> list[KeyView]:
    """List the public keys that workers sign verdicts with, those that have ended too."""
    with service.database.read() as connection:
        return key_views(connection)


@routes.get("/api/board", response_model=BoardView)
def board(service: Serves, _actor: Asks, phase: str | None = None) -> Response:
    """Show the board of a phase: by default the first one's."""
    text = _written(board_of(service, phase), "json", board_json)
    return Response(text, media_type="application/json")


@routes.get("/api/leaderboard.csv", response_class=Response, responses=CSV)
def board_as_kaggle(service: Serves, _actor: Asks, phase: str | None = None) -> Response:
    """Return the board with the columns of Kaggle's public leaderboards. `LastSubmissionDate` is the best entry's."""
    return Response(
        _written(board_of(service, phase), "kaggle", lambda board: kaggle_csv(board_view(board))), media_type="text/csv"
    )


@routes.get("/api/board.csv", response_class=Response, responses=CSV)
def board_as_csv(service: Serves, _actor: Asks, phase: str | None = None) -> Response:
    """Return the board as a table for spreadsheets."""
    return Response(
        _written(board_of(service, phase), "csv", lambda board: board_csv(board_view(board))), media_type="text/csv"
    )


@routes.get("/api/versus", response_model=VersusView)
def versus(service: Serves, _actor: Asks, one: TeamNumber, other: TeamNumber, phase: str | None = None) -> VersusView:
    """Compare two teams' entries on the board of a phase, item by item: by the number of each team."""
    return versus_view(head_to_head(board_of(service, phase), one, other))


@routes.get("/api/final", response_model=FinalView)
def final(service: Serves, _actor: Asks) -> FinalView:
    """Show the final ranking; before it is published it has no places."""
    with service.database.read() as connection:
        return final_view(connection)


@routes.get("/api/final.csv", response_class=Response, responses=CSV)
def final_as_csv(service: Serves, _actor: Asks) -> Response:
    """Return the final ranking as a table for spreadsheets."""
    with service.database.read() as connection:
        return Response(final_csv(final_view(connection)), media_type="text/csv")


@routes.get("/api/tracks", response_model=list[TrackView])
def tracks(service: Serves, _actor: Asks) -> list[TrackView]:
    """Show all tracks besides the ranking by score."""
    return [track(service, _actor, each.name) for each in service.competition.tracks]


@routes.get("/api/tracks/{track_name}", response_model=TrackView)
def track(service: Serves, _actor: Asks, track_name: TrackName) -> TrackView:
    """Show a track: its board, and its final once it is published."""
    board = service.tracks.board(track_name)
    with service.database.read() as connection:
        return track_view(connection, board, service.competition)


@routes.get("/api/tracks/{track_name}/places.csv", response_class=Response, responses=CSV)
def track_as_csv(service: Serves, _actor: Asks, track_name: TrackName) -> Response:
    """Return a track's board, and its final once it is published, as a table for spreadsheets."""
    return Response(track_csv(track(service, _actor, track_name)), media_type="text/csv")


@routes.post("/api/teams", response_model=MadeTeam, status_code=201)
def join(service: Serves, actor: Asks, body: Joining) -> MadeTeam:
    """Register a team, where registration is open."""
    return register(service, actor, body.name, body.members, body.invitation)


@routes.get("/api/teams/{team_id}", response_model=TeamView)
def team(service: Serves, actor: Asks, team_id: Number) -> TeamView:
    """Show a team."""
    with service.database.read() as connection:
        return team_view(connection, actor, team_id)


def board_of(service: Service, phase: str | None) -> Board:
    """Return the board of a phase by its name."""
    names = [each.name for each in service.competition.public_phases]
    usual = names[0] if names else service.competition.phases[0].name
    chosen = phase or usual
    if chosen not in names:
        raise Refusal(
            "not_found", f"there is no board of a phase '{chosen[:80]}'", hint=f"there are: {', '.join(names)}"
        )
    return service.boards.board(chosen)


def register(service: Service, actor: Actor, name: str, members: list[str], invitation: str) -> MadeTeam:
    """Register a team by itself: not too many members, and with the code of the invitation where there is one."""
    rules = service.competition.teams
    if rules.registration != "open":
        raise Refusal("not_allowed", "teams are invited to this competition", hint="ask the organiser for a token")
    code = service.limits.invitation
    if code and not secrets.compare_digest(invitation.encode(), code.encode()):
        raise Refusal("not_allowed", "this is not the code of the invitation", hint="ask the organiser for the code")
    if len(members) > rules.max_members:
        raise Refusal("bad_request", f"a team has at most {rules.max_members} members, this has {len(members)}")
    with service.database.write() as connection:
        team_id, token = new_team(connection, actor, name, service.now(connection), members=members)
        return MadeTeam(team=team_view(connection, Actor(actor.role, name, team_id), team_id), token=token)


def _phase_view(phase: Phase, now: datetime) -> PhaseView:
    return PhaseView(
        name=phase.name,
        opens=phase.opens,
        closes=phase.closes,
        is_open=phase.is_open(now),
        shows=phase.scores,
        feedback=phase.feedback,
        logs=phase.logs,
        per_day=phase.quota.per_day,
        total=phase.quota.total,
        at_once=phase.quota.at_once,
    )


def _health_view(service: Service, actor: Actor) -> HealthView:
    try:
        with service.database.read() as connection:
            found = look(connection, service.now(connection))
    except OperationalError:
        return HealthView(status="unwell", version=__version__, problems=[AWAY], details=None)
    problems = found.problems(service.limits)
    details = DetailsView(
        workers_known=len(found.workers),
        workers_alive=found.alive(service.limits),
        worker_seen_at=found.last_seen,
        oldest_wait_seconds=found.longest_wait.total_seconds(),
        last_backup_at=found.last_backup,
    )
    return HealthView(
        status="unwell" if problems else "ok",
        version=__version__,
        problems=problems,
        details=details if actor.role in WATCHERS else None,
    )


def _written(board: Board, form: str, write: Callable[[Board], str]) -> str:
    """Write a board once for all who ask for it."""
    with board.lock:
        if form not in board.texts:
            board.texts[form] = write(board)
        return board.texts[form]
