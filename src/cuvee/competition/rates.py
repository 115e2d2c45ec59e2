"""Which requests are counted, by whom, and how many may be: by the address that they come from and by the team."""

from collections.abc import Iterator
from datetime import timedelta

from starlette.requests import Request

from cuvee.competition.access import Line
from cuvee.competition.actors import Actor
from cuvee.competition.addresses import visitor_of
from cuvee.competition.buckets import Rate
from cuvee.competition.limits import Limits
from cuvee.competition.pages.board_page import WEIGHT

TEAMS_OF_AN_ADDRESS = 20
"""A class or a company sends from one address: it may send as much as so many teams."""

REGISTER = frozenset({("POST", "/api/teams"), ("POST", "/join")})
SEND = frozenset(
    {
        ("POST", "/api/submissions"),
        ("POST", "/me/send"),
        ("POST", "/api/tracks/{track_name}/report"),
        ("POST", "/me/report"),
    }
)


def counted(request: Request, line: Line, actor: Actor, limits: Limits) -> Iterator[tuple[Rate, str]]:
    """Say by which rates a request counts, and as whose."""
    hour, address = timedelta(hours=1), visitor_of(request.client.host if request.client else "")
    if line in REGISTER:
        yield Rate("registrations", limits.teams_per_hour, hour), address
    if line == ("POST", "/sign-in"):
        yield Rate("sign-ins", limits.sign_ins_per_hour, hour), address
    if line in SEND:
        yield Rate("submissions of a team", limits.sends_per_hour, hour), f"team {actor.team_id}"
        yield Rate("submissions", TEAMS_OF_AN_ADDRESS * limits.sends_per_hour, hour), address
    if line == ("POST", "/me/check"):
        yield Rate("checks of recipes", limits.checks_per_minute, timedelta(minutes=1)), f"team {actor.team_id}"
    if line == ("GET", "/api/data/{digest}"):
        yield Rate("downloads", limits.downloads_per_hour, hour), address
    has_weights = any(name.startswith(WEIGHT) for name in request.query_params)
    if line == ("GET", "/board") and has_weights:
        yield Rate("boards with other weights", limits.what_ifs_per_minute, timedelta(minutes=1)), address
