"""What participants and visitors may see, as types. No type here has a place for a private score, and the code that
fills them cannot reach one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlalchemy.engine import Connection, Row

from cuvee.competition.actors import Actor
from cuvee.competition.board import Board, Entry, Place, find_ranks
from cuvee.competition.facts import PUBLISHED, fact
from cuvee.competition.gaps import Gap, gap_of, with_alarms
from cuvee.competition.head_to_head import Apart, HeadToHead
from cuvee.competition.queue import positions
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import PUBLIC
from cuvee.competition.shown import is_shown
from cuvee.competition.states import MEANING, Role, State
from cuvee.competition.tables import (
    archives,
    final_scores,
    logs,
    moves,
    public_results,
    runs,
    submissions,
    teams,
    verdicts,
)
from cuvee.competition.worker_keys import all_keys
from cuvee.submission.competition import Competition, Phase
from cuvee.submission.controls import ControlKind

Kind = Literal["participant", "baseline", "parent"]


class View(BaseModel):
    """An answer: exactly these fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FigureView(View):
    """A score with its 95 % interval."""

    value: float
    low: float
    high: float


class TeamView(View):
    id: int
    name: str
    kind: Kind
    note: str = ""


class CostView(View):
    """What judging took: seconds of the reference machine, bytes, tokens, parameters of the result.

    `cpu_seconds` are those of all processors together, also of the reference machine. These and the bytes are null
    where nobody measured them.
    """

    seconds: float
    cpu_seconds: float | None
    memory_bytes: int | None
    tokens: int
    parameters: int


class SubmissionView(View):
    """A submission as everybody may see it. Lists come without recipes.

    `found_recipe` is what the judge found where the recipe is a search space; it is shown to whom the recipe is.
    """

    id: int
    team: TeamView
    title: str
    phase: str
    state: State
    submitted_at: datetime
    score: FigureView | None
    tasks: dict[str, FigureView]
    cost: CostView | None
    note: str
    recipe: str | None
    found_recipe: str | None = None


class MoveView(View):
    at: datetime
    start: str
    end: str
    by: str
    reason: str


class KeyView(View):
    """A worker's public key, and the time in which verdicts were taken under it."""

    public_key: str
    registered_at: datetime
    ended_at: datetime | None


class SignedVerdictView(View):
    """A verdict as its worker has signed it, which `cuvee competition check-verdict` checks; None for an unsigned one.

    Its content has no scores of single items: they are under its seals.
    """

    submission: int
    purpose: str
    document: dict[str, Any] | None
    key: KeyView | None


class OwnSubmissionView(SubmissionView):
    """A submission as its team and the organiser see it. `feedback` says why a score is not shown."""

    meaning: str
    reason_code: str
    reason: str
    feedback: str
    progress: str
    attempt: int
    queue_position: int | None
    started_at: datetime | None
    finished_at: datetime | None
    selected: bool
    given_back: bool
    hidden: bool
    archive_sha256: str
    models: list[str]
    history: list[MoveView]
    findings: list[dict[str, Any]]
    evidence: dict[str, Any] | None
    figures: dict[str, Any] | None
    reproduction: dict[str, Any] | None
    weights_digest: str
    signed_by: str


class PlaceView(View):
    """One row of the board. `ranks` is the range that the order is sure of; None for parents and baselines."""

    place: int
    ranks: tuple[int, int] | None
    team: TeamView
    submission: int
    title: str
    score: FigureView
    tasks: dict[str, FigureView]
    against_best_parent: Literal["better", "worse", "unclear", ""]
    cost: CostView
    entries: int
    submitted_at: datetime


class BoardView(View):
    phase: str
    weights: dict[str, float]
    best_parent: str
    places: list[PlaceView]


class ApartView(View):
    """One team's entry minus another's, with the 95 % interval; items on which only one of the two is better."""

    value: float
    low: float
    high: float
    won: int
    lost: int
    items: int


class VersusView(View):
    """Two teams' entries on the same public items: by the competition's weights, and by task."""

    one: TeamView
    other: TeamView
    submissions: tuple[int, int]
    sentence: str
    whole: ApartView
    tasks: dict[str, ApartView]


class ControlView(View):
    """A control of a task: the score lost by it, for canaries the score above guessing, with the 95 % interval.

    `is_alarm` says that it is above that of most places, and above zero, beyond the interval.
    """

    task: str
    kind: ControlKind
    value: float
    low: float
    high: float
    items: int
    is_alarm: bool


class FinalPlaceView(View):
    """One row of the final ranking. `gap` is the public minus the final score, with its 95 % interval.

    `is_alarm` says that the gap is above that of most, beyond the interval. `entries` counts the team's scored entries.
    `controls` are questions asked in another way, `agreement` the share of equal answers of tasks decoded twice.
    `unanswered` names those of them that others have answered and this submission has not.
    """

    place: int
    ranks: tuple[int, int] | None
    team: TeamView
    submission: int
    title: str
    score: FigureView
    public_score: float
    gap: float
    gap_low: float
    gap_high: float
    is_alarm: bool
    entries: int
    tasks: dict[str, FigureView]
    controls: list[ControlView]
    agreement: dict[str, float]
    unanswered: list[str]


class FinalView(View):
    published: bool
    places: list[FinalPlaceView]


def board_view(board: Board) -> BoardView:
    """Show a board."""
    return _board_view(board, list(_place_views(board)))


def board_json(board: Board) -> str:
    """Write what `board_view` shows as JSON, row by row: thousands of rows as objects take memory and collections."""
    empty = _board_view(board, []).model_dump_json()
    rows = ",".join(place.model_dump_json() for place in _place_views(board))
    return f"{empty.removesuffix(']}')}{rows}]}}"


def _board_view(board: Board, places: list[PlaceView]) -> BoardView:
    return BoardView(phase=board.phase, weights=dict(board.weights), best_parent=board.best_parent, places=places)


def _place_views(board: Board) -> Iterator[PlaceView]:
    find_ranks(board.places)
    for number, place in enumerate(board.places, start=1):
        yield _place_view(number, place)


def versus_view(found: HeadToHead) -> VersusView:
    """Show two entries of a board beside each other."""
    return VersusView(
        one=_team_of(found.one),
        other=_team_of(found.other),
        submissions=(found.one.submission_id, found.other.submission_id),
        sentence=found.sentence,
        whole=_apart(found.whole),
        tasks={apart.name: _apart(apart) for apart in found.tasks},
    )


def _team_of(entry: Entry) -> TeamView:
    return TeamView(id=entry.team_id, name=entry.team, kind=kind_of(entry.kind))


def _apart(apart: Apart) -> ApartView:
    return ApartView(**{name: getattr(apart, name) for name in ApartView.model_fields})


def final_view(connection: Connection) -> FinalView:
    """Show the final ranking, which is empty before it is published."""
    found = connection.execute(
        sa.select(
            final_scores,
            submissions.c.title,
            teams.c.id.label("team_id"),
            teams.c.name,
            teams.c.kind,
            public_results.c.low.label("public_low"),
            public_results.c.high.label("public_high"),
        )
        .join(submissions, submissions.c.id == final_scores.c.submission_id)
        .join(teams, teams.c.id == submissions.c.team_id)
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .where(is_shown())
        .order_by(final_scores.c.place)
    ).all()
    gaps = with_alarms([_gap(row) for row in found])
    entries = _scored_entries(connection, [row.team_id for row in found])
    controls = _controls(found)
    answered = {row.submission_id: _answered(row) for row in found}
    asked = set().union(*answered.values())
    places = []
    for row, gap in zip(found, gaps, strict=True):
        unanswered = sorted(asked - answered[row.submission_id])
        places.append(_final_place(row, gap, entries[row.team_id], controls[row.submission_id], unanswered))
    return FinalView(published=fact(connection, PUBLISHED) is not None, places=places)


def _controls(rows: Sequence[Row[Any]]) -> dict[int, list[ControlView]]:
    """Return the controls of each submission; a control is compared with the same one of all others."""
    by_kind: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
    views: dict[int, list[ControlView]] = {row.submission_id: [] for row in rows}
    for row in rows:
        for control in (row.controls or {}).get("controls", ()):
            by_kind.setdefault((control["task"], control["kind"]), []).append((row.submission_id, control))
    for asked in by_kind.values():
        gaps = with_alarms([Gap(control["value"], control["low"], control["high"]) for _, control in asked])
        for (submission_id, control), gap in zip(asked, gaps, strict=True):
            views[submission_id].append(ControlView(**control, is_alarm=gap.is_alarm))
    return views


def _answered(row: Row[Any]) -> set[str]:
    """Name the controls and second answers that a submission has figures of."""
    content = row.controls or {}
    controls = {f"{control['task']} {control['kind']}" for control in content.get("controls", ())}
    return controls | {f"{task} again" for task in content.get("agreement", ())}


def _gap(row: Row[Any]) -> Gap:
    public = FigureView(value=row.public_value, low=row.public_low, high=row.public_high)
    return gap_of(public, FigureView(value=row.value, low=row.low, high=row.high))


def _scored_entries(connection: Connection, team_ids: Sequence[int]) -> dict[int, int]:
    """Count the entries of each team that have a score."""
    counts = connection.execute(
        sa.select(submissions.c.team_id, sa.func.count().label("entries"))
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .where(submissions.c.team_id.in_(team_ids))
        .group_by(submissions.c.team_id)
    )
    return {row.team_id: row.entries for row in counts}


def submission_view(
    connection: Connection, actor: Actor, submission_id: int, competition: Competition
) -> SubmissionView | OwnSubmissionView:
    """Show a submission: all of it to its team and the organiser, the result to everybody else."""
    row = connection.execute(_submissions().where(submissions.c.id == submission_id)).one_or_none()
    if row is not None and _is_own(actor, row):
        return _own(connection, actor, row, competition)
    if row is None or not _is_public(row):
        raise Refusal("not_found", f"there is no submission {submission_id} to be seen")
    shows_recipe = row.team_kind != "participant" or fact(connection, PUBLISHED) is not None
    found = _found_recipe(connection, submission_id) if shows_recipe else None
    return SubmissionView(**_shared(row, show_score=True, recipe=shows_recipe), found_recipe=found)


def _found_recipe(connection: Connection, submission_id: int) -> str | None:
    """Return the recipe that the public run has found in a search space, if the submission is one."""
    found = connection.execute(
        sa.select(verdicts.c.content["found_recipe"].as_string()).where(
            verdicts.c.submission_id == submission_id, verdicts.c.purpose == PUBLIC
        )
    ).scalar()
    return found if isinstance(found, str) else None


def key_views(connection: Connection) -> list[KeyView]:
    """List all keys that workers have signed with, oldest first."""
    return [_key_view(row) for row in all_keys(connection)]


def signed_verdict_view(connection: Connection, actor: Actor, submission_id: int, purpose: str) -> SignedVerdictView:
    """Show a signed verdict to the organiser, and to others once they may see all that it says.

    A team sees that of its own public run where it sees the score. Everybody sees those of shown submissions once the
    final ranking is published, as recipes are shown then, too.
    """
    row = connection.execute(_submissions().where(submissions.c.id == submission_id)).one_or_none()
    verdict = connection.execute(
        sa.select(verdicts).where(verdicts.c.submission_id == submission_id, verdicts.c.purpose == purpose)
    ).one_or_none()
    published = fact(connection, PUBLISHED) is not None
    if row is None or verdict is None or not _may_see_verdict(actor, row, purpose, published=published):
        raise Refusal("not_found", f"there is no {purpose} verdict of submission {submission_id} to be seen")
    keys = {key.public_key: key for key in key_views(connection)}
    key = keys.get(verdict.signed["public_key"]) if verdict.signed else None
    return SignedVerdictView(submission=submission_id, purpose=purpose, document=verdict.signed, key=key)


def _may_see_verdict(actor: Actor, row: Row[Any], purpose: str, *, published: bool) -> bool:
    if actor.role is Role.ORGANISER:
        return True
    if published and _is_public(row):
        return True
    if purpose != PUBLIC or not _is_own(actor, row):
        return False
    return row.value is None or bool(row.released)


def _is_public(row: Row[Any]) -> bool:
    """Say whether everybody sees a submission: its team is shown, and its score is there and released."""
    return bool(row.is_shown and row.released) and row.state == State.SCORED


def submission_views(
    connection: Connection, actor: Actor, *, team_id: int | None, limit: int, before: int | None = None
) -> list[SubmissionView]:
    """List submissions, newest first: of a team, or all that the actor may see."""
    query = _submissions(LISTED).order_by(submissions.c.id.desc()).limit(limit)
    if team_id is not None:
        query = query.where(submissions.c.team_id == team_id)
    if before is not None:
        query = query.where(submissions.c.id < before)
    is_of_own_team = actor.role is Role.TEAM and team_id == actor.team_id
    if actor.role is not Role.ORGANISER and not is_of_own_team:
        query = query.where(is_shown(), public_results.c.released, runs.c.state == State.SCORED.value)
    return [
        SubmissionView(**_shared(row, show_score=_shows_score(actor, row), recipe=False))
        for row in connection.execute(query)
    ]


def team_view(connection: Connection, actor: Actor, team_id: int) -> TeamView:
    """Show a team."""
    row = connection.execute(sa.select(teams).where(teams.c.id == team_id)).one_or_none()
    sees_hidden = actor.role is Role.ORGANISER or actor.team_id == team_id
    if row is None or (row.hidden and not sees_hidden):
        raise Refusal("not_found", f"there is no team {team_id}")
    return TeamView(id=row.id, name=row.name, kind=row.kind, note=row.note)


def _shows_logs(phase: Phase | None) -> bool:
    if phase is None:
        return False
    return phase.logs != "none" and phase.feedback == "scores"


def log_text(connection: Connection, actor: Actor, submission_id: int, competition: Competition) -> str:
    """Return the log of a submission's public run, if the rules of its phase let the team see it.

    A judge's log can say what the score was, so it is withheld where scores are.
    """
    row = connection.execute(_submissions().where(submissions.c.id == submission_id)).one_or_none()
    if row is None or not _is_own(actor, row):
        raise Refusal("not_found", f"there is no submission {submission_id} of yours")
    phase = competition.phase_named(row.phase)
    if actor.role is not Role.ORGANISER and not _shows_logs(phase):
        raise Refusal(
            "not_allowed", "logs are not shown in this phase", hint="run `cuvee submission verify` to see them at home"
        )
    texts = connection.execute(
        sa.select(logs.c.attempt, logs.c.text).where(logs.c.run_id == row.run_id).order_by(logs.c.attempt)
    ).all()
    return "\n".join(f"--- attempt {attempt}\n{text}" for attempt, text in texts)


def archive_content(connection: Connection, actor: Actor, submission_id: int) -> bytes:
    """Return a submission as it was sent."""
    row = connection.execute(_submissions().where(submissions.c.id == submission_id)).one_or_none()
    if row is None or not _is_own(actor, row):
        raise Refusal("not_found", f"there is no submission {submission_id} of yours")
    found = connection.execute(sa.select(archives.c.content).where(archives.c.digest == row.archive_digest))
    content = bytes(found.scalar_one())
    if not content:
        raise Refusal("not_found", f"the archive of submission {submission_id} was dropped when it was cancelled")
    return content


LISTED = tuple(column for column in submissions.c if column.name not in ("recipe", "lineage"))


def _submissions(columns: Iterable[sa.Column[Any]] = submissions.c) -> sa.Select[Any]:
    return (
        sa.select(
            *columns,
            teams.c.name.label("team_name"),
            teams.c.kind.label("team_kind"),
            teams.c.note.label("team_note"),
            is_shown().label("is_shown"),
            runs.c.id.label("run_id"),
            *(
                runs.c[name]
                for name in ("state", "reason_code", "reason", "attempt", "progress", "started_at", "finished_at")
            ),
            *(public_results.c[name] for name in ("value", "low", "high", "released", "tasks", "weights_digest")),
            *(public_results.c[name] for name in CostView.model_fields),
        )
        .join(teams, teams.c.id == submissions.c.team_id)
        .join(runs, sa.and_(runs.c.submission_id == submissions.c.id, runs.c.purpose == PUBLIC))
        .join(public_results, public_results.c.submission_id == submissions.c.id, isouter=True)
    )


def _is_own(actor: Actor, row: Row[Any]) -> bool:
    if actor.role is Role.ORGANISER:
        return True
    return actor.role is Role.TEAM and bool(actor.team_id == row.team_id)


def _shows_score(actor: Actor, row: Row[Any]) -> bool:
    if row.value is None:
        return False
    return bool(row.released) or actor.role is Role.ORGANISER


def _shared(row: Row[Any], *, show_score: bool, recipe: bool) -> dict[str, Any]:
    shown = show_score and row.value is not None
    return {
        "id": row.id,
        "team": TeamView(id=row.team_id, name=row.team_name, kind=row.team_kind, note=row.team_note),
        "title": row.title,
        "phase": row.phase,
        "state": State(row.state),
        "submitted_at": row.submitted_at,
        "score": FigureView(value=row.value, low=row.low, high=row.high) if shown else None,
        "tasks": _figures(row.tasks) if shown else {},
        "cost": None if row.seconds is None else _cost(row),
        "note": row.note,
        "recipe": row.recipe if recipe else None,
    }


def _own(connection: Connection, actor: Actor, row: Row[Any], competition: Competition) -> OwnSubmissionView:
    verdict = connection.execute(
        sa.select(verdicts).where(verdicts.c.submission_id == row.id, verdicts.c.purpose == PUBLIC)
    ).one_or_none()
    found: Mapping[str, Any] = verdict.content if verdict else {}
    signed: Mapping[str, Any] = (verdict.signed if verdict else None) or {}
    state = State(row.state)
    return OwnSubmissionView(
        **_shared(row, show_score=_shows_score(actor, row), recipe=True),
        found_recipe=found.get("found_recipe"),
        meaning=MEANING[state],
        reason_code=row.reason_code,
        reason=row.reason,
        feedback=_feedback(row, competition),
        progress=row.progress,
        attempt=row.attempt,
        queue_position=positions(connection).get(row.run_id) if state is State.QUEUED else None,
        started_at=row.started_at,
        finished_at=row.finished_at,
        selected=row.selected,
        given_back=row.given_back,
        hidden=row.hidden,
        archive_sha256=row.archive_digest,
        models=list(row.lineage),
        history=_history(connection, row.run_id),
        findings=list(found.get("findings", ())),
        evidence=found.get("evidence"),
        figures=found.get("figures"),
        reproduction=found.get("reproduction") if row.released else None,
        weights_digest=row.weights_digest or "",
        signed_by=signed.get("public_key", ""),
    )


def _key_view(row: Row[Any]) -> KeyView:
    return KeyView(public_key=row.public_key, registered_at=row.registered_at, ended_at=row.ended_at)


def _feedback(row: Row[Any], competition: Competition) -> str:
    """Say why a score that is there is not shown."""
    if row.value is None or row.released:
        return ""
    phase = competition.phase_named(row.phase)
    if phase is not None and phase.feedback == "ladder":
        return "not better than your best by more than the noise, so no new score is shown"
    return "scores are not shown in this phase"


def _history(connection: Connection, run_id: int) -> list[MoveView]:
    found = connection.execute(sa.select(moves).where(moves.c.run_id == run_id).order_by(moves.c.id))
    return [MoveView(at=row.at, start=row.start, end=row.end, by=row.by, reason=row.reason) for row in found]


def _figures(tasks: Mapping[str, Mapping[str, float]]) -> dict[str, FigureView]:
    return {name: FigureView(value=f["value"], low=f["low"], high=f["high"]) for name, f in tasks.items()}


def _cost(row: Row[Any] | Entry) -> CostView:
    return CostView(**{name: getattr(row, name) for name in CostView.model_fields})


def _place_view(number: int, place: Place) -> PlaceView:
    entry = place.entry
    return PlaceView(
        place=number,
        ranks=place.ranks,
        team=_team_of(entry),
        submission=entry.submission_id,
        title=entry.title,
        score=FigureView(value=place.score.value, low=place.score.low, high=place.score.high),
        tasks={name: FigureView(value=f.value, low=f.low, high=f.high) for name, f in entry.tasks.items()},
        against_best_parent=place.against_parent,
        cost=_cost(entry),
        entries=entry.entries,
        submitted_at=entry.submitted_at,
    )


def _final_place(
    row: Row[Any], gap: Gap, entries: int, controls: list[ControlView], unanswered: list[str]
) -> FinalPlaceView:
    return FinalPlaceView(
        place=row.place,
        ranks=(row.rank_low, row.rank_high) if row.rank_low else None,
        team=TeamView(id=row.team_id, name=row.name, kind=kind_of(row.kind)),
        submission=row.submission_id,
        title=row.title,
        score=FigureView(value=row.value, low=row.low, high=row.high),
        public_score=row.public_value,
        gap=gap.value,
        gap_low=gap.low,
        gap_high=gap.high,
        is_alarm=gap.is_alarm and row.kind == "participant",
        entries=entries,
        tasks=_figures(row.tasks),
        controls=controls,
        agreement=(row.controls or {}).get("agreement", {}),
        unanswered=unanswered,
    )


def kind_of(text: str) -> Kind:
    """Return the kind of a team by its name in the database."""
    kinds: Sequence[Kind] = ("participant", "baseline", "parent")
    return next(kind for kind in kinds if kind == text)
