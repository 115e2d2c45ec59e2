"""Which submissions are judged for the final ranking and for the final of each track, by public results alone."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.facts import CHOSEN, fact
from cuvee.competition.runs import PUBLIC
from cuvee.competition.shown import is_shown
from cuvee.competition.states import State
from cuvee.competition.tables import public_results, runs, submissions, teams, verdicts
from cuvee.competition.track_order import Cost, may_stand, order_key
from cuvee.submission.competition import Competition, Track

RANKING = ""
"""What the choice for the ranking by score stands under; tracks have names."""


def chosen_submissions(connection: Connection, competition: Competition) -> list[int]:
    """Return what goes into the final ranking by score, by team: what it chose, or else its best public submission."""
    at_most = competition.selections
    chosen: list[int] = []
    for rows in _by_team(_scored(connection)).values():
        selected = [row for row in rows if row.selected][:at_most]
        own = selected or rows[:1]
        chosen += [row.id for row in own]
    return chosen


def chosen_for_track(connection: Connection, competition: Competition, track: Track) -> list[int]:
    """Return what goes into the final of a track, by team: its chosen ones that may stand there, or its best there."""
    at_most = competition.selections
    gaps = gaps_of(connection, competition, PUBLIC)
    chosen: list[int] = []
    for rows in _by_team(_scored(connection)).values():
        costs = {row.id: _cost(row, gaps.get(row.id)) for row in rows}
        able = [row.id for row in rows if may_stand(track, costs[row.id])]
        able.sort(key=lambda number: (*order_key(track, costs[number]), number))
        selected = [row.id for row in rows if row.selected]
        chosen += [number for number in selected if number in able][:at_most] or able[:1]
    return chosen


def all_chosen(connection: Connection, competition: Competition) -> list[int]:
    """Return every submission that a final needs, each once: those of the ranking by score first."""
    choice = choice_of(connection, competition)
    return list(dict.fromkeys(chain.from_iterable(choice.values())))


def choice_of(connection: Connection, competition: Competition) -> dict[str, list[int]]:
    """Return what goes into each final: into the ranking by score under "", into a track's under its name."""
    choice = {RANKING: chosen_submissions(connection, competition)}
    for track in competition.tracks:
        choice[track.name] = chosen_for_track(connection, competition, track)
    return choice


def counted_submissions(
    connection: Connection, competition: Competition, name: str, judged: Mapping[int, int]
) -> frozenset[int]:
    """Return which of the submissions that were judged count in a final. `judged` has the team of each.

    A team's choice is that of the freeze, also where a public score has changed since. A team that had none then, as it
    was hidden, has what it would choose now.
    """
    at_freeze: Mapping[str, Sequence[int]] = fact(connection, CHOSEN) or {}
    counted = judged.keys() & set(at_freeze.get(name, ()))
    teams = {judged[number] for number in counted}
    for number in judged.keys() & set(choice_of(connection, competition).get(name, ())):
        if judged[number] not in teams:
            counted.add(number)
    return frozenset(counted)


def gaps_of(connection: Connection, competition: Competition, purpose: str) -> dict[int, float]:
    """Return by how much claimed scores differ from the judge's, on the worst task, by the submission's number.

    Who claims only some of the scores has claimed none.
    """
    reproduction = verdicts.c.content["reproduction"]
    gap, claimed = reproduction["score_gap"].as_float(), reproduction["tasks_claimed"].as_integer()
    query = sa.select(verdicts.c.submission_id, gap.label("gap"), claimed.label("claimed"))
    rows = connection.execute(query.where(verdicts.c.purpose == purpose)).all()
    whole = len(competition.tasks)
    complete = [row for row in rows if row.claimed == whole]
    return {row.submission_id: row.gap for row in complete if row.gap is not None}


def _scored(connection: Connection) -> Sequence[Row[Any]]:
    """Read all scored submissions that are shown, each team's best first."""
    columns = (submissions.c.id, submissions.c.team_id, submissions.c.selected)
    results = public_results.c
    figures = (results.value, results.tokens, results.cpu_seconds, results.tuning_tokens)
    query: sa.Select[Any] = (
        sa.select(*columns, *figures)
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .join(runs, sa.and_(runs.c.submission_id == submissions.c.id, runs.c.purpose == PUBLIC))
        .join(teams, teams.c.id == submissions.c.team_id)
        .where(runs.c.state == State.SCORED.value, is_shown())
        .order_by(submissions.c.team_id, public_results.c.value.desc(), submissions.c.id)
    )
    return connection.execute(query).all()


def _cost(row: Row[Any], gap: float | None) -> Cost:
    return Cost(row.value, row.tokens, row.cpu_seconds, row.tuning_tokens, gap)


def _by_team(rows: Sequence[Row[Any]]) -> Mapping[int, list[Row[Any]]]:
    by_team: dict[int, list[Row[Any]]] = {}
    for row in rows:
        by_team.setdefault(row.team_id, []).append(row)
    return by_team
