"""The routes of the pages. What a page does is what the API does: it calls the same functions."""

import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.engine import Connection

from cuvee.competition import final, submissions
from cuvee.competition.access import COOKIE, Asks, Serves
from cuvee.competition.actors import Actor
from cuvee.competition.alike import alike
from cuvee.competition.api.open import register
from cuvee.competition.api.teams import quota_of, take
from cuvee.competition.audit import head, lines
from cuvee.competition.board import PARTICIPANT, find_ranks
from cuvee.competition.bodies import AnyTeam, Number, Purpose, TrackName
from cuvee.competition.console import (
    announce,
    announcements,
    console,
    extend,
    judge_many_again,
    move_up,
    pause,
    take_back,
)
from cuvee.competition.deadlines import in_force
from cuvee.competition.duplicates import duplicates
from cuvee.competition.expected import expected, forget
from cuvee.competition.facts import FROZEN, PUBLISHED, fact
from cuvee.competition.head_to_head import head_to_head
from cuvee.competition.health import look
from cuvee.competition.hiding import hide_submission, hide_team
from cuvee.competition.luck import Luck, luck_of_team
from cuvee.competition.numbers import numbers
from cuvee.competition.pages.board_page import ORDER_NAMES, arranged, read_choice
from cuvee.competition.pages.final_page import final_drawing, verdict_of
from cuvee.competition.pages.notebook import notebook_of
from cuvee.competition.pages.prose import news_of, rules_in_prose
from cuvee.competition.pages.render import page, shipped_text
from cuvee.competition.pages.start import address_of, env_file, start_lines
from cuvee.competition.pages.track_page import read_pages, track_values
from cuvee.competition.pages.versus_page import versus_values
from cuvee.competition.rated import ratings_of
from cuvee.competition.ratings import rate
from cuvee.competition.refusals import Refusal
from cuvee.competition.reports import own_reports
from cuvee.competition.runs import HIDDEN, PUBLIC
from cuvee.competition.service import Service
from cuvee.competition.stand import answered, how_it_stands
from cuvee.competition.states import MEANING, Role
from cuvee.competition.suspects import close_alarm, judge_suspects_again, open_alarms, quarantined
from cuvee.competition.tables import runs, teams
from cuvee.competition.tables import submissions as submissions_table
from cuvee.competition.tokens import SESSION, actor_of, end_session, new_session
from cuvee.competition.track_views import track_view
from cuvee.competition.views import (
    OwnSubmissionView,
    SubmissionView,
    final_view,
    key_views,
    log_text,
    signed_verdict_view,
    submission_view,
    submission_views,
    team_view,
)
from cuvee.competition.what_is import kind_of, name_of
from cuvee.competition.workforce import known_workers
from cuvee.errors import CuveeError
from cuvee.submission.competition import Competition
from cuvee.submission.expected import TOLERANCE

CallNext = Callable[[Request], Awaitable[Response]]
MOST_FIELD_BYTES = 100_000
MOST_ON_TOP = 5
MOST_QUEUED = 100
MOST_TEAMS = 200

HOMES = {Role.ORGANISER: "/organiser", Role.RATER: "/reports", Role.TEAM: "/me"}
"""Where somebody is after signing in."""

routes = APIRouter(include_in_schema=False)
STATIC = ("htmx.min.js", "pages.js")
"""The files that pages load, and what they are."""


async def sent_form(request: Request) -> Any:
    """Read a form. The door bounds the whole; a field that is no file has at most MOST_FIELD_BYTES."""
    async with request.form(max_files=1, max_fields=20, max_part_size=MOST_FIELD_BYTES) as form:
        content = {}
        for name, value in form.items():
            content[name] = value if isinstance(value, str) else await value.read()
        yield content


Form = Annotated[dict[str, Any], Depends(sent_form)]


@routes.get("/")
def overview(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """What the competition is, how it stands, and how to enter."""
    of = service.competition
    phase = of.first_public_phase
    places = service.boards.board(phase.name).places if phase else ()
    top = [place for place in places if place.entry.kind == PARTICIPANT][:MOST_ON_TOP]
    find_ranks(top)
    with service.database.read() as connection:
        now = service.now(connection)
        values: dict[str, Any] = {
            "now": now,
            "numbers": numbers(connection),
            "is_frozen": fact(connection, FROZEN) is not None,
            "news": news_of(of, announcements(connection)),
            "verdict": verdict_of(final_view(connection)),
        }
    shows = phase is not None and phase.feedback != "none"
    return page(request, "overview", actor, top=top if shows else [], rules=rules_in_prose(of), **values)


@routes.get("/board")
def board(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """The leaderboard."""
    of = service.competition
    with_boards = of.public_phases or of.phases[:1]
    phases = [phase.name for phase in with_boards]
    choice = read_choice(request.query_params, phases, [task.name for task in of.tasks])
    weights = {task.name: task.weight for task in of.tasks}
    chosen = service.boards.what_if(choice.phase, {**weights, **(choice.weights or {})})
    usual = None if dict(chosen.weights) == weights else service.boards.board(choice.phase)
    reader = actor.team_id if actor.role is Role.TEAM else None
    shown = arranged(chosen, choice, usual=usual, reader=reader)
    with service.database.read() as connection:
        now = service.now(connection)
        published = fact(connection, PUBLISHED) is not None
        counted = None if shown.rows else numbers(connection)
    return page(
        request,
        "board",
        actor,
        choice=choice,
        shown=shown,
        phases=phases,
        published=published,
        best_parent=chosen.best_parent,
        phase=of.phase_named(choice.phase),
        numbers=counted,
        now=now,
        orders=ORDER_NAMES,
    )


@routes.get("/versus")
def versus(request: Request, service: Serves, actor: Asks, one: AnyTeam = None, other: AnyTeam = None) -> HTMLResponse:
    """Two teams on the same items."""
    phase = service.competition.first_public_phase or service.competition.phases[0]
    board = service.boards.board(phase.name)
    found = head_to_head(board, one, other) if one is not None and other is not None else None
    return page(request, "versus", actor, **versus_values(board, found, one))


@routes.get("/final")
def final_ranking(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """The final ranking, once it is published."""
    with service.database.read() as connection:
        shown = final_view(connection)
    return page(request, "final", actor, final=shown, verdict=verdict_of(shown), drawing=final_drawing(shown))


@routes.get("/tracks/{track_name}")
def track(request: Request, service: Serves, actor: Asks, track_name: TrackName) -> HTMLResponse:
    """A track: its board, and its final once it is published."""
    board = service.tracks.board(track_name)
    with service.database.read() as connection:
        shown = track_view(connection, board, service.competition)
    reader = actor.team_id if actor.role is Role.TEAM else None
    reading = read_pages(track_name, request.query_params, reader)
    return page(request, "track", actor, **track_values(service.competition, shown, reading))


@routes.get("/guide")
def guide(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """How to take part, and the rules."""
    with service.database.read() as connection:
        values: dict[str, Any] = {
            "record": head(connection),
            "now": service.now(connection),
            "is_frozen": fact(connection, FROZEN) is not None,
            "keys": key_views(connection),
            "cards": service.task_cards,
        }
    return page(request, "guide", actor, meaning=MEANING, address=address_of(request), **values)


@routes.get("/start")
def start(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """From nothing to a place on the board, in three lines."""
    lines = start_lines(service.competition, address_of(request), None)
    return page(request, "start", actor, lines=lines, token=None, env="")


@routes.get("/start.ipynb")
def start_notebook(request: Request, service: Serves, actor: Asks) -> Response:
    """The same as a notebook, to be opened in Jupyter or Colab."""
    content = notebook_of(service.competition, address_of(request))
    named = {"Content-Disposition": f'attachment; filename="{service.competition.name}.ipynb"'}
    return Response(content, media_type="application/x-ipynb+json", headers=named)


@routes.get("/data")
def data(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """What everybody may have, with sizes, licences and SHA-256."""
    return page(request, "data", actor, room=service.data_room, address=address_of(request))


@routes.get("/teams/{team_id}")
def team(request: Request, service: Serves, actor: Asks, team_id: Number) -> HTMLResponse:
    """A team and its submissions."""
    with service.database.read() as connection:
        shown = team_view(connection, actor, team_id)
        sent = submission_views(connection, actor, team_id=team_id, limit=200)
        luck = _luck(connection, service.competition, team_id)
    return page(request, "team", actor, team=shown, sent=sent, luck=luck)


@routes.get("/submissions/{submission_id}")
def submission(request: Request, service: Serves, actor: Asks, submission_id: Number) -> HTMLResponse:
    """A submission: recipe, lineage, rules with evidence, progress, logs."""
    return _submission(request, service, actor, submission_id, "submission")


@routes.get("/submissions/{submission_id}/state")
def submission_state(request: Request, service: Serves, actor: Asks, submission_id: Number) -> HTMLResponse:
    """The part of a submission's page that changes while it is judged."""
    return _submission(request, service, actor, submission_id, "state")


@routes.get("/submissions/{submission_id}/verdict")
def signed_verdict(service: Serves, actor: Asks, submission_id: Number, purpose: Purpose = PUBLIC) -> Response:
    """A verdict as its worker has signed it, as a file."""
    with service.database.read() as connection:
        shown = signed_verdict_view(connection, actor, submission_id, purpose)
    named = {"Content-Disposition": f'attachment; filename="verdict-{submission_id}-{purpose}.json"'}
    return Response(shown.model_dump_json(indent=1), media_type="application/json", headers=named)


@routes.post("/submissions/{submission_id}/cancel")
def cancel(service: Serves, actor: Asks, submission_id: Number) -> Response:
    """Take a submission back."""
    with service.database.write() as connection:
        submissions.cancel(connection, actor, submission_id, service.now(connection))
    return _go(f"/submissions/{submission_id}")


@routes.post("/submissions/{submission_id}/select")
def select(service: Serves, actor: Asks, submission_id: Number, form: Form) -> Response:
    """Choose a submission for the final ranking."""
    chosen = form.get("chosen") == "1"
    with service.database.write() as connection:
        submissions.select(connection, actor, submission_id, chosen, service.competition, service.now(connection))
    return _go(f"/submissions/{submission_id}")


@routes.get("/join")
def join_form(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """The form to register a team."""
    return _join(request, service, actor, None, "")


@routes.post("/join")
def join(request: Request, service: Serves, actor: Asks, form: Form) -> Response:
    """Register a team, show its token once, and sign it in."""
    name, members = str(form.get("name", "")), str(form.get("members", "")).split(",")
    invitation = str(form.get("invitation", ""))
    try:
        made = register(service, actor, name, [member for member in members if member.strip()], invitation)
    except Refusal as refusal:
        return _join(request, service, actor, refusal, name[:80])
    with service.database.read() as connection:
        signed = actor_of(connection, made.token, service.now(connection))
    address = address_of(request)
    lines = start_lines(service.competition, address, made.token)
    answer = page(
        request, "start", signed, lines=lines, token=made.token, env=env_file(address, made.token), name=made.team.name
    )
    return _sign_in(request, service, answer, signed)


@routes.get("/sign-in")
def sign_in_form(request: Request, actor: Asks, next: str = "/") -> HTMLResponse:
    """The form for a token."""
    return page(request, "sign_in", actor, problem=None, next=_own_path(next))


@routes.post("/sign-in")
def sign_in(request: Request, service: Serves, actor: Asks, form: Form) -> Response:
    """Take a token and remember who it is."""
    after = _own_path(str(form.get("next", "/")))
    try:
        with service.database.read() as connection:
            found = actor_of(connection, str(form.get("token", "")).strip(), service.now(connection))
        found.needs(Role.TEAM, Role.ORGANISER, Role.RATER)
    except Refusal as refusal:
        return page(request, "sign_in", actor, status=refusal.status, problem=refusal, next=after)
    home = HOMES[found.role]
    return _sign_in(request, service, _go(home if after == "/" else after), found)


@routes.post("/sign-out")
def sign_out(request: Request, service: Serves, actor: Asks) -> Response:
    """Forget who it is."""
    with service.database.write() as connection:
        end_session(connection, actor)
    answer = _go("/")
    answer.delete_cookie(COOKIE)
    return answer


@routes.get("/me")
def me(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """A team's own page: what is left, what was sent, a form to send more.

    `?from=7` starts from the recipe of that submission, `?baseline=average` from a baseline's.
    """
    return me_page(request, service, actor, None, recipe=_recipe_to_start_from(request, service, actor))


@routes.post("/me/check")
def check(request: Request, service: Serves, actor: Asks, form: Form) -> HTMLResponse:
    """What the rules say of a recipe that is being written."""
    return page(request, "check", actor, check=service.recipes.check(_recipe_in(form)))


@routes.post("/me/send")
def send(request: Request, service: Serves, actor: Asks, form: Form) -> Response:
    """Take a recipe that was written here, or a file: a recipe or an archive."""
    recipe, title = _recipe_in(form), str(form.get("title", ""))[:120]
    try:
        content = form.get("archive", b"")
        if isinstance(content, bytes) and content:
            match kind_of(content):
                case "recipe":
                    recipe = content.decode("utf-8").replace("\r\n", "\n")
                case "other":
                    what = name_of(content) or "neither a recipe nor an archive"
                    raise Refusal("bad_archive", f"this is {what}", hint=TAKEN)
                case "archive":
                    made = take(service, actor, content, title, None, service.now())
                    return _go(f"/submissions/{made.id}")
        if not recipe.strip():
            raise Refusal("bad_archive", "there is neither a recipe nor a file", hint=TAKEN)
        archive = service.recipes.pack(recipe, title.strip() or DEFAULT_TITLE)
        made = take(service, actor, archive, title, None, service.now())
    except CuveeError as error:
        refusal = error if isinstance(error, Refusal) else Refusal("bad_archive", _said(error), hint=error.hint)
        return me_page(request, service, actor, refusal, recipe=recipe)
    return _go(f"/submissions/{made.id}")


TAKEN = "paste a recipe, or choose a recipe's file or an archive of `cuvee submission pack`"
DEFAULT_TITLE = "recipe"


def _recipe_in(form: dict[str, Any]) -> str:
    """Return the recipe of a form. Browsers end its lines as Windows does."""
    written = form.get("recipe", "")
    return written.replace("\r\n", "\n") if isinstance(written, str) else ""


def _said(error: CuveeError) -> str:
    """Return an error's sentence, or where there are several, how many problems the recipe has."""
    if error.problems:
        return f"the recipe has {len(error.problems)} problems, which are listed below it"
    return f"{error.where}: {error.message}" if error.where else error.message


def _recipe_to_start_from(request: Request, service: Service, actor: Actor) -> str:
    """Return a baseline's recipe, or that of a submission that the actor may see; nothing for another, or for none."""
    baseline = service.baselines.get(request.query_params.get("baseline", ""))
    if baseline is not None:
        return baseline
    number = request.query_params.get("from", "")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        return ""
    with service.database.read() as connection:
        try:
            return submission_view(connection, actor, int(number), service.competition).recipe or ""
        except Refusal:
            return ""


@routes.get("/organiser")
def organise(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """The organiser's page: queue, workers, submissions, the final ranking, the audit log."""
    with service.database.read() as connection:
        return page(
            request,
            "organiser",
            actor,
            alarms=open_alarms(connection),
            quarantined=quarantined(connection),
            console=console(connection, service.now(connection)),
            phases=in_force(connection, service.competition).phases,
            problems=look(connection, service.now(connection)).problems(service.limits),
            finals=final.finals(connection),
            expected=expected(connection),
            tolerance=TOLERANCE,
            workers=known_workers(connection),
            waiting=_queue(connection),
            now=service.now(connection),
            sent=submission_views(connection, actor, team_id=None, limit=100),
            ratings={track.name: ratings_of(connection, track.name) for track in service.competition.tracks},
            teams=connection.execute(sa.select(teams).order_by(teams.c.id.desc()).limit(MOST_TEAMS)).all(),
            participants=_participants(connection),
            audit=lines(connection, limit=50, newest_first=True),
        )


def _participants(connection: Connection) -> Sequence[sa.Row[Any, Any]]:
    """Return all teams that take part, by their names."""
    query = sa.select(teams.c.id, teams.c.name).where(teams.c.kind == PARTICIPANT)
    return sorted(connection.execute(query).all(), key=lambda team: team.name.casefold())


def _queue(connection: Connection) -> Sequence[sa.Row[Any]]:
    """Return the runs that wait or are under way, the longest first, with whose they are."""
    return connection.execute(
        sa.select(runs, submissions_table.c.title, teams.c.name.label("team"))
        .join(submissions_table, submissions_table.c.id == runs.c.submission_id)
        .join(teams, teams.c.id == submissions_table.c.team_id)
        .where(runs.c.state.in_(["queued", "running"]))
        .order_by(runs.c.queued_at)
        .limit(MOST_QUEUED)
    ).all()


@routes.get("/organiser/alarms")
def alarms(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """The part of the organiser's page that tells of workers which failed their test."""
    with service.database.read() as connection:
        return page(request, "alarms", actor, alarms=open_alarms(connection))


@routes.post("/organiser/alarms/{alarm_id}")
def act_on_alarm(service: Serves, actor: Asks, alarm_id: Number, form: Form) -> Response:
    """Judge an alarm's suspect runs again, or close it."""
    verbs = {"rerun": judge_suspects_again, "close": close_alarm}
    verb = verbs.get(str(form.get("verb")))
    if verb is None:
        raise Refusal("bad_request", "expected rerun or close")
    with service.database.write() as connection:
        verb(connection, actor, alarm_id, service.now(connection))
    return _go("/organiser")


@routes.post("/organiser/expected")
def forget_expected(service: Serves, actor: Asks, form: Form) -> Response:
    """Let the next worker record anew what a test must find."""
    if form.get("verb") != "forget":
        raise Refusal("bad_request", "expected the verb forget")
    with service.database.write() as connection:
        forget(connection, actor, service.now(connection))
    return _go("/organiser")


@routes.post("/organiser/submissions/{submission_id}")
def act_on_submission(service: Serves, actor: Asks, submission_id: Number, form: Form) -> Response:
    """One of the organiser's verbs, from a form."""
    with service.database.write() as connection:
        now = service.now(connection)
        match form.get("verb"):
            case "rerun":
                submissions.rerun(connection, actor, submission_id, now)
            case "rerun-final":
                final.rerun(connection, actor, submission_id, service.competition, now)
            case "reject" | "reject-final" as verb:
                purpose = PUBLIC if verb == "reject" else HIDDEN
                submissions.reject(connection, actor, submission_id, purpose, now)
            case "cancel":
                submissions.cancel(connection, actor, submission_id, now)
            case "give-back":
                submissions.give_back(connection, actor, submission_id, now)
            case "hide" | "show" as verb:
                hide_submission(connection, actor, submission_id, verb == "hide", service.competition, now)
            case "annotate":
                note = str(form.get("note", ""))[:2000].replace("\0", "")
                submissions.annotate(connection, actor, submission_id, note, now)
            case other:
                raise Refusal("bad_request", f"there is no verb {str(other)[:40]!r}")
    return _go(f"/submissions/{submission_id}")


@routes.post("/organiser/teams/{team_id}")
def act_on_team(service: Serves, actor: Asks, team_id: Number, form: Form) -> Response:
    """Hide a team or show it."""
    hidden = form.get("verb") == "hide"
    with service.database.write() as connection:
        hide_team(connection, actor, team_id, hidden, service.competition, service.now(connection))
    return _go("/organiser")


@routes.post("/organiser/final")
def act_on_final(service: Serves, actor: Asks, form: Form) -> Response:
    """Freeze, unfreeze or publish."""
    verbs = {"freeze": final.freeze, "unfreeze": final.unfreeze, "publish": final.publish}
    verb = verbs.get(str(form.get("verb")))
    if verb is None:
        raise Refusal("bad_request", "expected freeze, unfreeze or publish")
    with service.database.write() as connection:
        verb(connection, actor, service.competition, service.now(connection))
    return _go("/organiser")


@routes.post("/organiser/console")
def act_on_console(service: Serves, actor: Asks, form: Form) -> Response:
    """Pause or go on, move a run up, judge many again, announce something, extend a deadline."""
    with service.database.write() as connection:
        now = service.now(connection)
        match form.get("verb"):
            case "pause" | "resume" as verb:
                pause(connection, actor, verb == "pause", now)
            case "move-up":
                number, purpose = read_number(form.get("submission")), str(form.get("purpose", PUBLIC))
                move_up(connection, actor, number, purpose, now)
            case "judge-many":
                state, _, reason_code = str(form.get("which", "")).partition(":")
                judge_many_again(connection, actor, state, reason_code, now)
            case "announce":
                announce(connection, actor, str(form.get("text", ""))[:2000].replace("\0", ""), now)
            case "take-back":
                take_back(connection, actor, read_number(form.get("number")), now)
            case "extend":
                of = in_force(connection, service.competition)
                extend(connection, actor, of, str(form.get("phase", "")), _utc(str(form.get("closes", ""))), now)
            case other:
                raise Refusal("bad_request", f"there is no verb {str(other)[:40]!r}")
    return _go("/organiser")


def read_number(text: object) -> int:
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise Refusal("bad_request", "expected a number")


def _utc(text: str) -> datetime:
    """Read a time as a form sends it; it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "such as 2026-07-01T12:00, in UTC"
        raise Refusal("bad_request", "expected a date and a time", hint=hint) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@routes.post("/organiser/ratings")
def rate_report(service: Serves, actor: Asks, form: Form) -> Response:
    """Enter what a rater gives a team's report; an empty score takes one back."""
    track, rater = str(form.get("track", "")), str(form.get("rater", ""))[:200]
    value = read_score(str(form.get("value", "")).strip())
    with service.database.write() as connection:
        now, of = service.now(connection), service.competition
        rate(connection, actor, of, track, read_number(form.get("team")), rater, value, now)
    return _go(f"/organiser#rate-{track}" if of.track(track) else "/organiser")


def read_score(text: str) -> float | None:
    """Read a score as people write it; None for nothing."""
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        raise Refusal("bad_request", "expected a number as the score") from None
    if not math.isfinite(value):
        raise Refusal("bad_request", "expected a number as the score")
    return value


@routes.get("/organiser/alike")
def look_alike(request: Request, service: Serves, actor: Asks) -> HTMLResponse:
    """Submissions of different teams that are the same, or near copies."""
    with service.database.read() as connection:
        return page(request, "alike", actor, duplicates=duplicates(connection), alike=alike(connection))


@routes.get("/static/{name}")
def static(name: str, _actor: Asks) -> Response:
    """A script of ours."""
    if name not in STATIC:
        raise Refusal("not_found", "there is no such file")
    return Response(shipped_text(name), media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})


def _luck(connection: Connection, of: Competition, team_id: int) -> Luck | None:
    phase = of.first_public_phase
    weights = {task.name: task.weight for task in of.tasks}
    return None if phase is None else luck_of_team(connection, team_id, phase.name, weights)


def _submission(request: Request, service: Service, actor: Actor, submission_id: int, template: str) -> HTMLResponse:
    with service.database.read() as connection:
        shown = submission_view(connection, actor, submission_id, service.competition)
        published = fact(connection, PUBLISHED) is not None
        is_frozen = fact(connection, FROZEN) is not None
        log = None
        if isinstance(shown, OwnSubmissionView):
            try:
                log = log_text(connection, actor, submission_id, service.competition)
            except Refusal:
                log = None
    own = isinstance(shown, OwnSubmissionView)
    values: dict[str, Any] = {"sent": shown, "own": own, "log": log, "published": published, "is_frozen": is_frozen}
    if template == "submission":
        values |= _beside_the_board(service, shown, own=own)
    return page(request, template, actor, **values)


def _beside_the_board(service: Service, shown: SubmissionView, *, own: bool) -> dict[str, Any]:
    """Return how a submission stands, where its score is shown, and to its team how it answered the public items.

    Where scores are withheld, or the board is by items that nobody has, no items are shown.
    """
    competition = service.competition
    phase = competition.phase_named(shown.phase)
    if shown.score is None or phase is None or phase.feedback == "none":
        return {"stand": None, "answered": ()}
    board = service.boards.board(phase.name)
    with service.database.read() as connection:
        stand = how_it_stands(connection, board, shown.id, shown.team.id)
    shows_items = own and phase.feedback == "scores" and not competition.hides_board
    if stand is None or not shows_items:
        return {"stand": stand, "answered": ()}
    return {"stand": stand, "answered": answered(stand, service.questions)}


def _join(request: Request, service: Service, actor: Actor, problem: Refusal | None, name: str) -> HTMLResponse:
    return page(
        request,
        "join",
        actor,
        status=problem.status if problem else 200,
        problem=problem,
        name=name,
        asks_for_invitation=bool(service.limits.invitation),
    )


def me_page(
    request: Request,
    service: Service,
    actor: Actor,
    problem: Refusal | None,
    *,
    recipe: str = "",
    problem_of_report: Refusal | None = None,
) -> HTMLResponse:
    """Show a team's own page, with what was refused."""
    refused = problem or problem_of_report
    with service.database.read() as connection:
        sent = submission_views(connection, actor, team_id=actor.team_id, limit=200)
        of = in_force(connection, service.competition)
        handed_in = own_reports(connection, actor, of, service.now(connection))
    return page(
        request,
        "me",
        actor,
        status=refused.status if refused else 200,
        problem_of_report=problem_of_report,
        handed_in=handed_in,
        sent=sent,
        quota=quota_of(service, actor),
        problem=problem,
        recipe=recipe,
        baselines=list(service.baselines),
        check=service.recipes.check(recipe) if recipe.strip() else None,
    )


def _sign_in(request: Request, service: Service, answer: Response, found: Actor) -> Response:
    with service.database.write() as connection:
        session = new_session(connection, found, service.now(connection))
    secure = service.limits.https or request.url.scheme == "https"
    age = int(SESSION.total_seconds())
    answer.set_cookie(COOKIE, session, max_age=age, httponly=True, samesite="strict", secure=secure)
    return answer


def _own_path(path: str) -> str:
    """Return a path of this site, whatever a link asked for."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


def _go(path: str) -> Response:
    return RedirectResponse(path, status_code=303)
