"""Who may do what: one line for every route. A route that is not in the table cannot be served: the server does not
start. What a team may see of *which* submission is decided where it is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from cuvee.competition.actors import VISITOR, Actor
from cuvee.competition.refusals import Refusal
from cuvee.competition.service import Service
from cuvee.competition.states import Role
from cuvee.competition.tokens import actor_of, signed_in

COOKIE = "cuvee"
ADMITTED = "cuvee.admitted"
"""Where a request's scope holds whom the door let in, and by which line of the table."""

METRICS = "/metrics"
"""Where Prometheus looks. It shows a token in a header, as programs do."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

ALL = frozenset({Role.VISITOR, Role.TEAM, Role.WORKER, Role.ORGANISER, Role.MONITOR, Role.RATER})
KNOWN = ALL - {Role.VISITOR}
TEAM = frozenset({Role.TEAM})
OWNERS = frozenset({Role.TEAM, Role.ORGANISER})
RATER = frozenset({Role.RATER})
READERS = frozenset({Role.RATER, Role.ORGANISER})
WORKER = frozenset({Role.WORKER})
ORGANISER = frozenset({Role.ORGANISER})
WATCHERS = frozenset({Role.ORGANISER, Role.MONITOR})

ACCESS: dict[tuple[str, str], frozenset[Role]] = {
    ("GET", "/api/health"): ALL,
    ("GET", "/api/competition"): ALL,
    ("GET", "/api/data"): ALL,
    ("GET", "/api/data/{digest}"): ALL,
    ("GET", "/api/keys"): ALL,
    ("GET", "/api/board"): ALL,
    ("GET", "/api/board.csv"): ALL,
    ("GET", "/api/leaderboard.csv"): ALL,
    ("GET", "/api/versus"): ALL,
    ("GET", "/api/tracks"): ALL,
    ("GET", "/api/tracks/{track_name}"): ALL,
    ("GET", "/api/tracks/{track_name}/places.csv"): ALL,
    ("POST", "/api/tracks/{track_name}/report"): TEAM,
    ("GET", "/api/tracks/{track_name}/reports"): ALL,
    ("GET", "/api/tracks/{track_name}/reports/{team_id}"): ALL,
    ("POST", "/api/tracks/{track_name}/reports/{team_id}/rating"): READERS,
    ("GET", "/api/final"): ALL,
    ("GET", "/api/final.csv"): ALL,
    ("POST", "/api/teams"): ALL,
    ("GET", "/api/teams/{team_id}"): ALL,
    ("GET", "/api/me"): KNOWN,
    ("GET", "/api/quota"): TEAM,
    ("POST", "/api/submissions"): TEAM,
    ("GET", "/api/submissions"): ALL,
    ("GET", "/api/submissions/{submission_id}"): ALL,
    ("GET", "/api/submissions/{submission_id}/logs"): OWNERS,
    ("GET", "/api/submissions/{submission_id}/archive"): OWNERS,
    ("GET", "/api/submissions/{submission_id}/verdict"): ALL,
    ("POST", "/api/submissions/{submission_id}/cancel"): OWNERS,
    ("POST", "/api/submissions/{submission_id}/select"): OWNERS,
    ("POST", "/api/organiser/submissions/{submission_id}/rerun"): ORGANISER,
    ("POST", "/api/organiser/submissions/{submission_id}/reject"): ORGANISER,
    ("POST", "/api/organiser/submissions/{submission_id}/give-back"): ORGANISER,
    ("POST", "/api/organiser/submissions/{submission_id}/hide"): ORGANISER,
    ("POST", "/api/organiser/submissions/{submission_id}/annotate"): ORGANISER,
    ("POST", "/api/organiser/teams"): ORGANISER,
    ("POST", "/api/organiser/teams/{team_id}/hide"): ORGANISER,
    ("POST", "/api/organiser/teams/{team_id}/token"): ORGANISER,
    ("GET", "/api/organiser/workers"): ORGANISER,
    ("POST", "/api/organiser/workers"): ORGANISER,
    ("POST", "/api/organiser/workers/{name}/revoke"): ORGANISER,
    ("GET", "/api/organiser/expected"): ORGANISER,
    ("POST", "/api/organiser/expected/forget"): ORGANISER,
    ("GET", "/api/organiser/alarms"): ORGANISER,
    ("POST", "/api/organiser/alarms/{alarm_id}/rerun"): ORGANISER,
    ("POST", "/api/organiser/alarms/{alarm_id}/close"): ORGANISER,
    ("GET", "/api/organiser/queue"): ORGANISER,
    ("GET", "/api/organiser/audit"): ORGANISER,
    ("GET", "/api/organiser/duplicates"): ORGANISER,
    ("GET", "/api/organiser/alike"): ORGANISER,
    ("GET", "/api/organiser/export"): ORGANISER,
    ("GET", "/api/organiser/console"): ORGANISER,
    ("POST", "/api/organiser/pause"): ORGANISER,
    ("POST", "/api/organiser/submissions/{submission_id}/move-up"): ORGANISER,
    ("POST", "/api/organiser/judge-many"): ORGANISER,
    ("POST", "/api/organiser/announcements"): ORGANISER,
    ("POST", "/api/organiser/deadline"): ORGANISER,
    ("GET", "/api/organiser/ratings"): ORGANISER,
    ("POST", "/api/organiser/ratings"): ORGANISER,
    ("GET", "/api/organiser/finals"): ORGANISER,
    ("POST", "/api/organiser/freeze"): ORGANISER,
    ("POST", "/api/organiser/unfreeze"): ORGANISER,
    ("POST", "/api/organiser/publish"): ORGANISER,
    ("POST", "/api/worker/hello"): WORKER,
    ("POST", "/api/worker/claim"): WORKER,
    ("GET", "/api/worker/runs/{run_id}/archive"): WORKER,
    ("POST", "/api/worker/runs/{run_id}/renew"): WORKER,
    ("POST", "/api/worker/runs/{run_id}/finish"): WORKER,
    ("POST", "/api/worker/runs/{run_id}/give-up"): WORKER,
    ("GET", METRICS): WATCHERS,
    ("GET", "/"): ALL,
    ("GET", "/board"): ALL,
    ("GET", "/versus"): ALL,
    ("GET", "/tracks/{track_name}"): ALL,
    ("GET", "/tracks/{track_name}/reports/{team_id}"): ALL,
    ("GET", "/tracks/{track_name}/reports/{team_id}/file"): ALL,
    ("GET", "/final"): ALL,
    ("GET", "/start"): ALL,
    ("GET", "/start.ipynb"): ALL,
    ("GET", "/data"): ALL,
    ("GET", "/guide"): ALL,
    ("GET", "/teams/{team_id}"): ALL,
    ("GET", "/submissions/{submission_id}"): ALL,
    ("GET", "/submissions/{submission_id}/state"): ALL,
    ("GET", "/submissions/{submission_id}/verdict"): ALL,
    ("POST", "/submissions/{submission_id}/cancel"): OWNERS,
    ("POST", "/submissions/{submission_id}/select"): OWNERS,
    ("GET", "/join"): ALL,
    ("POST", "/join"): ALL,
    ("GET", "/sign-in"): ALL,
    ("POST", "/sign-in"): ALL,
    ("POST", "/sign-out"): ALL,
    ("GET", "/me"): TEAM,
    ("POST", "/me/send"): TEAM,
    ("POST", "/me/check"): TEAM,
    ("POST", "/me/report"): TEAM,
    ("GET", "/reports"): READERS,
    ("POST", "/reports"): RATER,
    ("GET", "/organiser"): ORGANISER,
    ("GET", "/organiser/alarms"): ORGANISER,
    ("POST", "/organiser/alarms/{alarm_id}"): ORGANISER,
    ("POST", "/organiser/expected"): ORGANISER,
    ("POST", "/organiser/submissions/{submission_id}"): ORGANISER,
    ("POST", "/organiser/teams/{team_id}"): ORGANISER,
    ("POST", "/organiser/final"): ORGANISER,
    ("POST", "/organiser/console"): ORGANISER,
    ("POST", "/organiser/ratings"): ORGANISER,
    ("GET", "/organiser/alike"): ORGANISER,
    ("GET", "/static/{name}"): ALL,
}


Line = tuple[str, str]
"""A line of the table: a method and the path of a route."""

PATTERNS = [(line, compile_path(line[1])[0]) for line in ACCESS]


@dataclass(frozen=True)
class Admitted:
    """Who was let in, by which line of the table."""

    actor: Actor
    line: Line


def line_of(method: str, path: str) -> Line | None:
    """Return the line of the table that says who may ask for a path; None where there is no such route."""
    for line, pattern in PATTERNS:
        if line[0] == method and pattern.match(path):
            return line
    return None


def admit(request: Request, service: Service, line: Line) -> Actor:
    """Return the actor by the request's token, if the table lets that role use this route.

    What is for programs reads the Authorization header alone, pages the cookie alone: no form of another site can use
    the API.
    """
    actor, allowed = _signed_in(request, service), ACCESS[line]
    if actor.role not in allowed:
        actor.needs(*sorted(allowed))
    if not is_for_programs(request) and request.method not in SAFE_METHODS:
        _check_same_site(request)
    return actor


def service_of(request: Request) -> Service:
    """Return what the application was made with."""
    service: Service = request.app.state.service
    return service


def who_asks(request: Request) -> Actor:
    """Return whom the door let in. A route that the door took for another one is not served."""
    admitted: Admitted | None = request.scope.get(ADMITTED)
    line = (request.method, request.scope["route"].path)
    if admitted is None or admitted.line != line:
        raise AssertionError(f"the door let nobody in to {line}")
    return admitted.actor


Asks = Annotated[Actor, Depends(who_asks)]
Serves = Annotated[Service, Depends(service_of)]


def check_table(routers: Sequence[APIRouter]) -> None:
    """Refuse an application whose routes and the table differ."""
    served: set[Line] = set()
    for route in chain.from_iterable(router.routes for router in routers):
        if isinstance(route, APIRoute):
            methods = route.methods or ()
            served |= {(method, route.path) for method in methods}
    if served != set(ACCESS):
        raise AssertionError(f"routes and the table of access differ: {sorted(served ^ set(ACCESS))}")


def is_for_programs(request: Request) -> bool:
    """Tell whether programs ask for this path, not people: with the token in a header, and problems as JSON."""
    path = request.url.path
    return path.startswith("/api/") or path == METRICS


def _signed_in(request: Request, service: Service) -> Actor:
    shown = _bearer(request) if is_for_programs(request) else request.cookies.get(COOKIE, "")
    if not shown:
        return VISITOR
    with service.database.read() as connection:
        if is_for_programs(request):
            return actor_of(connection, shown, service.now(connection))
        try:
            return signed_in(connection, shown, service.now(connection))
        except Refusal:
            return VISITOR  # a page with an old cookie is a page for visitors


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _check_same_site(request: Request) -> None:
    """Refuse a form that another site's page sent in the name of who is signed in here."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host")
    if foreign or site in ("cross-site", "same-site"):
        raise Refusal("not_allowed", "this form was sent by another site")
