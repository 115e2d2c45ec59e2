"""What is shown of a track: its rule, its board and its final."""

from datetime import datetime

from sqlalchemy.engine import Connection

from cuvee.competition.actors import VISITOR
from cuvee.competition.deadlines import in_force
from cuvee.competition.facts import PUBLISHED, fact
from cuvee.competition.reports import reports_of
from cuvee.competition.track_order import UNITS, Standing
from cuvee.competition.tracks import TrackBoard, final_rows
from cuvee.competition.views import TeamView, View, kind_of
from cuvee.submission.competition import Competition, Track, TrackKind


class TrackPlaceView(View):
    """One row of a track. `low` and `high` are a 95 % interval, or of a report the least and the most that raters gave.

    Tokens and seconds are those of the public run, which decide whether an entry may stand in the track.
    """

    place: int
    ranks: tuple[int, int] | None
    team: TeamView
    submission: int | None
    title: str
    value: float
    low: float | None
    high: float | None
    score: float | None
    tokens: int | None
    cpu_seconds: float | None
    tuning_tokens: int | None
    raters: int


class UploadView(View):
    """How reports are handed in here. Where `published`, everybody reads them after the reveal."""

    max_bytes: int
    closes: datetime
    published: bool


class TrackView(View):
    """A track: what counts in which unit, its board by public results, and its final once it is published.

    `reports` are the teams whose reports everybody may read.
    """

    name: str
    title: str
    by: TrackKind
    unit: str
    description: str
    most_tokens: int | None
    most_cpu_seconds: float | None
    most_tuning_tokens: int | None
    at_least: float
    scale: float
    published: bool
    upload: UploadView | None
    reports: list[int]
    board: list[TrackPlaceView]
    final: list[TrackPlaceView]


def track_view(connection: Connection, board: TrackBoard, competition: Competition) -> TrackView:
    """Show a track."""
    track = board.track
    limits = {} if track.within is None else {track.within.cost: track.within.most}
    return TrackView(
        name=track.name,
        title=track.title,
        by=track.by,
        unit=UNITS[track.by],
        description=track.description,
        most_tokens=_whole(limits.get("tokens")),
        most_cpu_seconds=limits.get("cpu_seconds"),
        most_tuning_tokens=_whole(limits.get("tuning_tokens")),
        at_least=track.at_least,
        scale=track.scale,
        published=fact(connection, PUBLISHED) is not None,
        upload=_upload(in_force(connection, competition), track),
        reports=[report.team_id for report in reports_of(connection, VISITOR, track) if report.is_kept],
        board=list(map(_track_place, board.rows)),
        final=list(map(_track_place, final_rows(connection, track))),
    )


def _upload(competition: Competition, track: Track) -> UploadView | None:
    """Show how reports are handed in. `competition` is as it is in force."""
    own = competition.track(track.name)
    if own is None or own.upload is None:
        return None
    return UploadView(
        max_bytes=own.upload.max_bytes, closes=competition.upload_closes(own), published=own.upload.published
    )


def _whole(most: float | None) -> int | None:
    return None if most is None else int(most)


def _track_place(row: Standing) -> TrackPlaceView:
    return TrackPlaceView(
        place=row.place,
        ranks=row.ranks,
        team=TeamView(id=row.team_id, name=row.team, kind=kind_of(row.kind)),
        submission=row.submission_id,
        title=row.title,
        value=row.value,
        low=row.low,
        high=row.high,
        score=row.score,
        tokens=row.tokens,
        cpu_seconds=row.cpu_seconds,
        tuning_tokens=row.tuning_tokens,
        raters=row.raters,
    )
