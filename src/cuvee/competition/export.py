"""Tables for spreadsheets, from what participants may see. A cell that a spreadsheet would take for a formula is
written as text.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC
from itertools import chain

from cuvee.competition.track_views import TrackView
from cuvee.competition.views import BoardView, FinalPlaceView, FinalView, PlaceView

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def board_csv(board: BoardView) -> str:
    """Write a board as CSV."""
    tasks = list(board.weights)
    head = ["place", "rank_best", "rank_worst", "team", "kind", "submission", "title", "score", "low", "high"]
    tail = ["against_best_parent", "seconds", "cpu_seconds", "memory_bytes", "tokens", "parameters"]
    tail += ["entries", "submitted_at"]
    rows = []
    for place in board.places:
        cost = place.cost
        rows.append(
            [
                *_start(place),
                *_task_values(place, tasks),
                place.against_best_parent,
                *(cost.seconds, cost.cpu_seconds, cost.memory_bytes, cost.tokens, cost.parameters),
                *(place.entries, place.submitted_at.isoformat()),
            ]
        )
    return as_csv([*head, *tasks, *tail], rows)


def kaggle_csv(board: BoardView) -> str:
    """Write a board with the columns of Kaggle's public leaderboards: participants alone, each with its best score."""
    head = ["Rank", "TeamId", "TeamName", "LastSubmissionDate", "Score", "SubmissionCount"]
    theirs = [place for place in board.places if place.team.kind == "participant"]
    rows = []
    for rank, place in enumerate(theirs, start=1):
        sent = f"{place.submitted_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        rows.append([rank, place.team.id, place.team.name, sent, f"{place.score.value:.5f}", place.entries])
    return as_csv(head, rows)


def final_csv(final: FinalView) -> str:
    """Write the final ranking as CSV."""
    tasks = sorted(set(chain.from_iterable(place.tasks for place in final.places)))
    own_controls = chain.from_iterable(place.controls for place in final.places)
    controls = sorted({(own.task, own.kind) for own in own_controls})
    twice = sorted(set(chain.from_iterable(place.agreement for place in final.places)))
    head = ["place", "rank_best", "rank_worst", "team", "kind", "submission", "title", "score", "low", "high"]
    head += ["public_score", "gap", "gap_low", "gap_high", "is_alarm", "entries", *tasks]
    for task, kind in controls:
        head += [f"{task}.{kind}", f"{task}.{kind}.low", f"{task}.{kind}.high", f"{task}.{kind}.is_alarm"]
    head += [f"{task}.agreement" for task in twice]
    rows = []
    for place in final.places:
        gap = (place.gap, place.gap_low, place.gap_high, place.is_alarm)
        cells = [*_start(place), place.public_score, *gap, place.entries, *_task_values(place, tasks)]
        for task, kind in controls:
            cells += _control_cells(place, task, kind)
        cells += [place.agreement.get(task, "") for task in twice]
        rows.append(cells)
    return as_csv(head, rows)


def _control_cells(place: FinalPlaceView, task: str, kind: str) -> list[object]:
    """Return the cells of a control: its value, its interval, whether it is an alarm; empty ones where none is."""
    for own in place.controls:
        if (own.task, own.kind) == (task, kind):
            return [own.value, own.low, own.high, own.is_alarm]
    return ["", "", "", ""]


def track_csv(track: TrackView) -> str:
    """Write a track's board and final as CSV, one below the other."""
    head = ["part", "place", "rank_best", "rank_worst", "team", "kind", "submission", "title", "value", "low", "high"]
    rows: list[list[object]] = []
    for part, places in (("board", track.board), ("final", track.final)):
        for place in places:
            whose = [part, place.place, *(place.ranks or ("", "")), place.team.name, place.team.kind]
            costs = [place.tokens, place.cpu_seconds, place.tuning_tokens]
            figures = [place.value, place.low, place.high, place.score, *costs, place.raters]
            rows.append([*whose, place.submission, place.title, *figures])
    return as_csv([*head, "score", "tokens", "cpu_seconds", "tuning_tokens", "raters"], rows)


def _start(place: PlaceView | FinalPlaceView) -> list[object]:
    """Return the first cells of a row, which all rankings have: who it is, and the score."""
    ranks = place.ranks or ("", "")
    score = (place.score.value, place.score.low, place.score.high)
    return [place.place, *ranks, place.team.name, place.team.kind, place.submission, place.title, *score]


def _task_values(place: PlaceView | FinalPlaceView, tasks: Sequence[str]) -> list[object]:
    return [place.tasks[task].value if task in place.tasks else "" for task in tasks]


def harmless(cell: object) -> object:
    """Return a cell that no spreadsheet runs."""
    if isinstance(cell, str) and cell.startswith(FORMULA):
        return f"'{cell}"
    return cell


def as_csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table as CSV that no spreadsheet runs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow(map(harmless, row))
    return text.getvalue()
