"""Written reports that teams hand in: one file for each track of reports, replaced until the deadline.

A report is a PDF or a text in UTF-8, such as Markdown. Nobody runs, renders or converts it here: it is kept as it came
and goes out as a file, or a text as letters. The team, the organiser and the track's raters read it, and everybody once
the final ranking is out, where `competition.yaml` says so.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.amounts import bytes_text
from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.facts import PUBLISHED, fact, hold_facts
from cuvee.competition.refusals import Refusal
from cuvee.competition.states import Role
from cuvee.competition.tables import reports, teams
from cuvee.competition.what_is import name_of
from cuvee.submission.competition import Competition, Track, Upload

Kind = Literal["pdf", "text"]
TAKEN = "a PDF, or a text in UTF-8 such as Markdown"
ENDINGS = {"pdf": "pdf", "text": "txt"}
GONE = b""
"""Stands where a report was that is not kept any more."""


@dataclass(frozen=True)
class Report:
    """A report without its content. `is_kept` is false where the server has let the content go."""

    track: str
    team_id: int
    team: str
    kind: Kind
    bytes: int
    digest: str
    sent_at: datetime
    is_kept: bool

    @property
    def file(self) -> str:
        """The name that it goes out under, of letters that are the same on every system."""
        return f"report-{self.track}-{self.team_id}.{ENDINGS[self.kind]}"


def upload_of(competition: Competition, track_name: str) -> tuple[Track, Upload]:
    """Return a track that takes reports here, and how. Raises Refusal 'not_found'."""
    track = competition.track(track_name)
    if track is None or track.upload is None:
        names = ", ".join(track.name for track in competition.tracks if track.upload) or "none"
        message = f"no track '{track_name[:80]}' takes reports here"
        raise Refusal("not_found", message, hint=f"there are: {names}")
    return track, track.upload


def hand_in(
    connection: Connection, team: Actor, competition: Competition, track_name: str, content: bytes, now: datetime
) -> Report:
    """Take a team's report, in place of its earlier one. `competition` is as it is in force.

    Raises Refusal 'closed' after the deadline, 'too_large', and 'bad_request' for a file of another kind.
    """
    team.needs(Role.TEAM)
    track, upload = upload_of(competition, track_name)
    closes = competition.upload_closes(track)
    if now >= closes:
        raise Refusal("closed", f"reports of '{track.title}' were taken until {closes:%Y-%m-%d %H:%M} UTC")
    if len(content) > upload.max_bytes:
        raise Refusal("too_large", f"the report has more than the {bytes_text(upload.max_bytes)} that it may have")
    kind = kind_of_report(content)
    hold_facts(connection)
    digest = hashlib.sha256(content).hexdigest()
    whose = sa.and_(reports.c.track == track.name, reports.c.team_id == team.team_id)
    connection.execute(reports.delete().where(whose))
    values = {"kind": kind, "bytes": len(content), "digest": digest, "content": content, "sent_at": now}
    connection.execute(reports.insert().values(track=track.name, team_id=team.team_id, **values))
    subject = f"team {team.team_id}"
    audit.record(
        connection, team, "report handed in", subject, now, track=track.name, bytes=len(content), sha256=digest
    )
    return Report(track.name, team.team_id or 0, team.name, kind, len(content), digest, now, is_kept=True)


def kind_of_report(content: bytes) -> Kind:
    """Tell a PDF from a text by its first bytes. Raises Refusal 'bad_request' for anything else."""
    if content.startswith(b"%PDF-"):
        return "pdf"
    if not content.strip():
        raise Refusal("bad_request", "the file is empty", hint=f"hand in {TAKEN}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if any(_is_control(character) for character in text):
        what = name_of(content) or "neither a PDF nor a text in UTF-8"
        raise Refusal("bad_request", f"this is {what}", hint=f"hand in {TAKEN}")
    return "text"


def _is_control(character: str) -> bool:
    return character < " " and character not in "\t\n\r\f"


def reports_of(connection: Connection, reader: Actor, track: Track) -> list[Report]:
    """Return the reports of a track that somebody may read, by the team's number."""
    rows = connection.execute(_rows().where(reports.c.track == track.name).order_by(reports.c.team_id)).all()
    is_out = fact(connection, PUBLISHED) is not None
    return [_report(row) for row in rows if _may_read(reader, track, row, is_out=is_out)]


@dataclass(frozen=True)
class OwnReport:
    """What a team has handed in for a track, if anything, and until when it may hand in another."""

    track: Track
    upload: Upload
    report: Report | None
    closes: datetime
    is_open: bool


def own_reports(connection: Connection, team: Actor, competition: Competition, now: datetime) -> list[OwnReport]:
    """Return a team's reports, one for each track that takes some. `competition` is as it is in force."""
    found = []
    for track in competition.tracks:
        if track.upload is None:
            continue
        whose = sa.and_(reports.c.track == track.name, reports.c.team_id == team.team_id)
        row = connection.execute(_rows().where(whose)).one_or_none()
        closes = competition.upload_closes(track)
        report = None if row is None else _report(row)
        found.append(OwnReport(track, track.upload, report, closes, is_open=now < closes))
    return found


def report_with_content(
    connection: Connection, reader: Actor, competition: Competition, track_name: str, team_id: int
) -> tuple[Report, bytes]:
    """Return a report and its content. Raises Refusal 'not_found' for one that is not there or not for this reader."""
    track = competition.track(track_name)
    query = _rows(reports.c.content).where(reports.c.track == track_name, reports.c.team_id == team_id)
    row = connection.execute(query).one_or_none()
    is_out = fact(connection, PUBLISHED) is not None
    if row is None or track is None or not _may_read(reader, track, row, is_out=is_out):
        raise Refusal("not_found", f"there is no report of team {team_id} that you may read")
    report = _report(row)
    if not report.is_kept:
        raise Refusal("not_found", "this report is not kept any more; its SHA-256 is in the audit log")
    return report, bytes(row.content)


def rates(reader: Actor, track: Track) -> bool:
    """Tell whether somebody is a rater of a track, as the file names them now."""
    return reader.role is Role.RATER and reader.name in track.raters


def _may_read(reader: Actor, track: Track, row: Row[Any], *, is_out: bool) -> bool:
    is_own = reader.role is Role.TEAM and reader.team_id == row.team_id
    if is_own or reader.role is Role.ORGANISER:
        return True
    if row.hidden:
        return False
    is_public = is_out and track.upload is not None and track.upload.published
    return is_public or rates(reader, track)


def _rows(*more: sa.Column[Any]) -> sa.Select[Any]:
    columns = [column for column in reports.c if column is not reports.c.content]
    is_kept = sa.func.length(reports.c.content) > 0
    return sa.select(*columns, is_kept.label("is_kept"), teams.c.name.label("team"), teams.c.hidden, *more).join(
        teams, teams.c.id == reports.c.team_id
    )


def _report(row: Row[Any]) -> Report:
    plain = {name: getattr(row, name) for name in ("track", "team_id", "team", "kind", "bytes", "digest", "sent_at")}
    return Report(**plain, is_kept=bool(row.is_kept))


def let_go(connection: Connection, competition: Competition, before: datetime) -> int:
    """Empty the reports that nobody publishes, where the ranking was out before a time. Return how many.

    Their size and SHA-256 stay, as what raters gave them does.
    """
    published = fact(connection, PUBLISHED)
    if published is None or datetime.fromisoformat(published) >= before:
        return 0
    public = [track.name for track in competition.tracks if track.upload and track.upload.published]
    old = reports.update().where(reports.c.content != GONE, reports.c.track.not_in(public))
    return connection.execute(old.values(content=GONE)).rowcount
