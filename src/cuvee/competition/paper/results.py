"""What a report on a competition tells: the final ranking, and the methods that entries used and how these fared.

All of it is public once the final ranking is published; the recipes are, too, so methods can be counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.audit import head
from cuvee.competition.board import PARTICIPANT
from cuvee.competition.deadlines import in_force
from cuvee.competition.facts import PUBLISHED, fact
from cuvee.competition.numbers import Numbers, numbers
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import PUBLIC
from cuvee.competition.shown import is_shown
from cuvee.competition.states import State
from cuvee.competition.tables import public_results, runs, submissions, teams, verdicts
from cuvee.competition.track_views import TrackView, track_view
from cuvee.competition.tracks import TrackBoard
from cuvee.competition.views import FinalPlaceView, FinalView, final_view
from cuvee.errors import CuveeError
from cuvee.submission.asked import METHOD_SEPARATOR, is_space, read_asked
from cuvee.submission.competition import Competition

PROGRAM = "program"
"""What an entry without a recipe is called: code of a team's own."""

UNREADABLE = "unread recipe"
"""What an entry is called whose recipe this version does not read, such as one with a method of its own."""

SEARCH = "search"
"""Besides its method, what an entry is called whose recipe the judge has found in a search space."""


@dataclass(frozen=True)
class Sent:
    """A scored entry of a participant: its methods, its public score, and what it was judged by."""

    submission_id: int
    team_id: int
    methods: tuple[str, ...]
    public_value: float
    recipe: str


@dataclass(frozen=True)
class MethodUse:
    """How a method fared: entries and teams that used it, their public scores (0 to 1), and the best final place of
    participants by an entry with it, None where none was in the final."""

    method: str
    entries: int
    teams: int
    median_public: float
    best_public: float
    best_place: int | None


@dataclass(frozen=True)
class Results:
    """All that is told. `audit_head` is the newest digest of the audit log, by which a reader checks an export.

    Of the tracks their finals are told, and not their boards.
    """

    competition: Competition
    made_at: datetime
    published_at: datetime
    audit_head: str
    numbers: Numbers
    final: FinalView
    methods: tuple[MethodUse, ...]
    tracks: tuple[TrackView, ...] = ()
    sent: Mapping[int, Sent] = field(default_factory=dict)

    def methods_of(self, place: FinalPlaceView) -> str:
        """Return what a place of the final ranking was made with; nothing for parents and baselines."""
        entry = self.sent.get(place.submission)
        return "" if entry is None else ", ".join(entry.methods)


def read_results(connection: Connection, competition: Competition, now: datetime) -> Results:
    """Read the results of a competition. Raises Refusal before its final ranking is published."""
    published = fact(connection, PUBLISHED)
    if published is None:
        hint = "cuvee competition final FOLDER freeze, then publish"
        raise Refusal("wrong_state", "the final ranking is not published yet, so there is no report", hint=hint)
    final = final_view(connection)
    sent = {entry.submission_id: entry for entry in _sent(connection)}
    return Results(
        competition=in_force(connection, competition),
        made_at=now,
        published_at=datetime.fromisoformat(published),
        audit_head=head(connection).digest,
        numbers=numbers(connection),
        final=final,
        methods=methods_used(sent.values(), final),
        tracks=tuple(track_view(connection, TrackBoard(track, 0, ()), competition) for track in competition.tracks),
        sent=sent,
    )


def _sent(connection: Connection) -> list[Sent]:
    query: sa.Select[Any] = (
        sa.select(
            submissions.c.id,
            submissions.c.team_id,
            submissions.c.recipe,
            public_results.c.value,
            verdicts.c.content["found_recipe"].as_string().label("found_recipe"),
        )
        .join(teams, teams.c.id == submissions.c.team_id)
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .join(runs, sa.and_(runs.c.submission_id == submissions.c.id, runs.c.purpose == PUBLIC))
        .join(
            verdicts,
            sa.and_(verdicts.c.submission_id == submissions.c.id, verdicts.c.purpose == PUBLIC),
            isouter=True,
        )
        .where(runs.c.state == State.SCORED.value, teams.c.kind == PARTICIPANT, is_shown())
        .order_by(submissions.c.id)
    )
    return [_entry(row) for row in connection.execute(query)]


def _entry(row: sa.Row[Any]) -> Sent:
    judged_by = row.found_recipe or row.recipe
    return Sent(row.id, row.team_id, methods_in(row.recipe, row.found_recipe), row.value, judged_by)


def methods_in(recipe: str, found_recipe: str | None = None) -> tuple[str, ...]:
    """Name the methods of a recipe's stages, each once; of a search space those of the recipe that was found in it."""
    if not recipe.strip():
        return (PROGRAM,)
    try:
        searched = is_space(recipe, "recipe")
        names = read_asked(found_recipe or recipe, source="recipe").methods.split(METHOD_SEPARATOR)
    except CuveeError:
        return (UNREADABLE,)
    return (*names, SEARCH) if searched else tuple(names)


def methods_used(sent: Iterable[Sent], final: FinalView) -> tuple[MethodUse, ...]:
    """Say how each method fared, that of most teams first."""
    by_method: dict[str, list[Sent]] = {}
    for entry in sent:
        for method in entry.methods:
            by_method.setdefault(method, []).append(entry)
    participants = [place.submission for place in final.places if place.team.kind == PARTICIPANT]
    places = {submission: number for number, submission in enumerate(participants, start=1)}
    uses = [_use(method, entries, places) for method, entries in by_method.items()]
    return tuple(sorted(uses, key=lambda use: (-use.teams, -use.entries, use.method)))


def _use(method: str, entries: Sequence[Sent], places: Mapping[int, int]) -> MethodUse:
    scores = [entry.public_value for entry in entries]
    in_final = [places[entry.submission_id] for entry in entries if entry.submission_id in places]
    return MethodUse(
        method=method,
        entries=len(entries),
        teams=len({entry.team_id for entry in entries}),
        median_public=median(scores),
        best_public=max(scores),
        best_place=min(in_final, default=None),
    )
