"""The competition as files: what visitors see, to be kept or put on any web server. No database, no scripts."""

from pathlib import Path

from sqlalchemy.engine import Connection

from cuvee.competition.actors import VISITOR
from cuvee.competition.audit import head
from cuvee.competition.board import PARTICIPANT, make_board
from cuvee.competition.console import announcements
from cuvee.competition.deadlines import in_force
from cuvee.competition.export import board_csv, final_csv, kaggle_csv
from cuvee.competition.facts import FROZEN, fact
from cuvee.competition.numbers import numbers
from cuvee.competition.pages.board_page import ORDER_NAMES, Choice, arranged
from cuvee.competition.pages.final_page import final_drawing, verdict_of
from cuvee.competition.pages.prose import news_of, rules_in_prose
from cuvee.competition.pages.render import text
from cuvee.competition.pages.track_page import track_values
from cuvee.competition.reports import report_with_content, reports_of
from cuvee.competition.service import Service
from cuvee.competition.states import MEANING
from cuvee.competition.track_views import track_view
from cuvee.competition.views import (
    board_view,
    final_view,
    key_views,
    submission_view,
    submission_views,
    team_view,
)
from cuvee.submission.competition import Track

MOST_ON_TOP = 5


def write_site(service: Service, folder: Path) -> int:
    """Write the pages of a competition as a visitor sees them now. Return how many files were written."""
    pages = _pages(service)
    for name, content in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    files = _report_files(service)
    for name, report in files.items():
        (folder / name).write_bytes(report)
    return len(pages) + len(files)


def _report_files(service: Service) -> dict[str, bytes]:
    """Return the reports that everybody may read, by the names of their files."""
    files = {}
    with service.database.read() as connection:
        for track in service.competition.tracks:
            for number, name in _file_names(connection, track).items():
                _, files[name] = report_with_content(connection, VISITOR, service.competition, track.name, number)
    return files


def _file_names(connection: Connection, track: Track) -> dict[int, str]:
    """Return the files of the reports that everybody may read, by the team's number."""
    return {report.team_id: report.file for report in reports_of(connection, VISITOR, track) if report.is_kept}


def _pages(service: Service) -> dict[str, str]:
    of = service.competition
    phase = of.first_public_phase or of.phases[0]
    with service.database.read() as connection:
        board = make_board(connection, of, phase.name)
        final = final_view(connection)
        of = in_force(connection, of)
        told = announcements(connection)
        is_frozen = fact(connection, FROZEN) is not None
        record, now, keys = head(connection), service.now(connection), key_views(connection)
        counted = numbers(connection)
        tracks = [track_view(connection, service.tracks.board(each.name), service.competition) for each in of.tracks]
        files = {each.name: _file_names(connection, each) for each in of.tracks}
        sent = submission_views(connection, VISITOR, team_id=None, limit=100_000)
        shown = {each.id: submission_view(connection, VISITOR, each.id, of) for each in sent}
        teams = {each.team.id: team_view(connection, VISITOR, each.team.id) for each in sent}
    common = {"competition": of, "actor": VISITOR, "path": ""}
    choice = Choice(phase.name)
    all_rows = arranged(board, choice, rows_per_page=max(1, len(board.places)))
    board_values = {
        "choice": choice,
        "shown": all_rows,
        "phases": [phase.name],
        "published": final.published,
        "best_parent": board.best_parent,
        "phase": phase,
        "numbers": counted,
        "now": now,
        "orders": ORDER_NAMES,
    }
    top = [place for place in board.places if place.entry.kind == PARTICIPANT][:MOST_ON_TOP]
    overview = {"now": now, "numbers": counted, "top": top, "rules": rules_in_prose(of), "verdict": verdict_of(final)}
    overview |= {"news": news_of(of, told), "is_frozen": is_frozen}
    final_values = {"final": final, "verdict": overview["verdict"], "drawing": final_drawing(final)}
    guide = {
        "meaning": MEANING,
        "address": "https://the-server",
        "record": record,
        "now": now,
        "is_frozen": is_frozen,
        "keys": keys,
        "cards": service.task_cards,
    }
    made = {
        "index.html": text("overview", {**common, **overview, "path": "index.html"}, static_site=True),
        "board.html": text("board", {**common, **board_values}, static_site=True),
        "final.html": text("final", {**common, **final_values}, static_site=True),
        "guide.html": text("guide", {**common, **guide}, static_site=True),
        "board.json": board_view(board).model_dump_json(indent=1),
        "board.csv": board_csv(board_view(board)),
        "leaderboard.csv": kaggle_csv(board_view(board)),
        "final.json": final.model_dump_json(indent=1),
        "final.csv": final_csv(final),
    }
    for track in tracks:
        values = {**common, **track_values(of, track), "reports": files[track.name]}
        made[f"track-{track.name}.html"] = text("track", values, static_site=True)
        made[f"track-{track.name}.json"] = track.model_dump_json(indent=1)
    for number, one in shown.items():
        values = {**common, "sent": one, "own": False, "log": None, "stand": None, "answered": ()}
        made[f"submission-{number}.html"] = text("submission", values, static_site=True)
    for number, team in teams.items():
        theirs = [each for each in sent if each.team.id == number]
        made[f"team-{number}.html"] = text(
            "team", {**common, "team": team, "sent": theirs, "luck": None}, static_site=True
        )
    return made
