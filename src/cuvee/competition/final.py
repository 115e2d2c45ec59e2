"""The final ranking: freeze, judge what was chosen once more on the private parts, publish.

Before `publish` nothing of the private parts is in any table that participants' views read; `publish` copies the
figures there. The order is by the private score; the gap to the public score is published with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.comparisons import ranks
from cuvee.competition.facts import FROZEN, PUBLISHED, fact, set_fact, unset_fact
from cuvee.competition.private import private_scores
from cuvee.competition.refusals import Refusal
from cuvee.competition.revision import changed
from cuvee.competition.runs import HIDDEN, PUBLIC, again, move, new_run
from cuvee.competition.states import FINAL, State
from cuvee.competition.submissions import selections
from cuvee.competition.tables import final_scores, public_results, runs, submissions, teams
from cuvee.submission.competition import Competition


@dataclass(frozen=True)
class Finals:
    """How far the final ranking is: runs by state."""

    frozen: bool
    published: bool
    states: dict[str, int]

    @property
    def is_ready(self) -> bool:
        """Tell whether every run has ended."""
        return self.frozen and all(State(state) in FINAL for state in self.states)


def freeze(connection: Connection, organiser: Actor, competition: Competition, now: datetime) -> int:
    """Take no more submissions, and queue every team's chosen ones; of a team that chose none, its best public one.

    Parents and baselines are ranked beside them. Return how many runs were queued.
    """
    if fact(connection, FROZEN) is not None:
        raise Refusal("wrong_state", "the final ranking is being made already")
    under_way = connection.execute(
        sa.select(sa.func.count()).where(runs.c.state.in_([State.QUEUED.value, State.RUNNING.value]))
    ).scalar_one()
    if under_way:
        raise Refusal("wrong_state", f"{under_way} runs are still under way", hint="wait for them, or cancel them")
    set_fact(connection, FROZEN, now.isoformat())
    chosen = chosen_submissions(connection, selections(competition))
    earlier = {row.submission_id: row.id for row in connection.execute(sa.select(runs).where(runs.c.purpose == HIDDEN))}
    for submission_id in chosen:
        if submission_id in earlier:
            again(connection, earlier[submission_id], organiser, now)
        else:
            new_run(connection, submission_id, HIDDEN, organiser, now)
    audit.record(connection, organiser, "frozen", competition.name, now, submissions=chosen)
    changed(connection)
    return len(chosen)


def unfreeze(connection: Connection, organiser: Actor, competition: Competition, now: datetime) -> int:
    """Take submissions again: the final runs are taken back. Not possible once one has begun. Return how many."""
    begun = connection.execute(
        sa.select(runs.c.id).where(runs.c.purpose == HIDDEN, runs.c.state != State.QUEUED.value)
    ).first()
    if fact(connection, FROZEN) is None or begun:
        raise Refusal("wrong_state", "nothing is frozen, or the final runs have begun")
    unset_fact(connection, FROZEN)
    waiting = connection.execute(sa.select(runs.c.id).where(runs.c.purpose == HIDDEN)).scalars().all()
    for run_id in waiting:
        move(connection, run_id, State.CANCELLED, organiser, now, why="the final ranking was called off")
    audit.record(connection, organiser, "unfrozen", competition.name, now, runs=len(waiting))
    return len(waiting)


def chosen_submissions(connection: Connection, at_most: int) -> list[int]:
    """Return what goes into the final ranking, by team."""
    found = connection.execute(
        sa.select(submissions.c.id, submissions.c.team_id, submissions.c.selected)
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .join(runs, sa.and_(runs.c.submission_id == submissions.c.id, runs.c.purpose == PUBLIC))
        .join(teams, teams.c.id == submissions.c.team_id)
        .where(runs.c.state == State.SCORED.value, ~submissions.c.hidden, ~teams.c.hidden)
        .order_by(submissions.c.team_id, public_results.c.value.desc(), submissions.c.id)
    ).all()
    by_team: dict[int, list[Any]] = {}
    for row in found:
        by_team.setdefault(row.team_id, []).append(row)
    return [
        row.id for rows in by_team.values() for row in ([each for each in rows if each.selected][:at_most] or rows[:1])
    ]


def finals(connection: Connection) -> Finals:
    """Tell how far the final ranking is."""
    states = connection.execute(
        sa.select(runs.c.state, sa.func.count()).where(runs.c.purpose == HIDDEN).group_by(runs.c.state)
    ).all()
    return Finals(
        fact(connection, FROZEN) is not None,
        fact(connection, PUBLISHED) is not None,
        {row[0]: row[1] for row in states},
    )


def publish(connection: Connection, organiser: Actor, competition: Competition, now: datetime) -> int:
    """Publish the final ranking: each team by the better of its chosen submissions. Return how many places it has."""
    state = finals(connection)
    if state.published:
        raise Refusal("wrong_state", "the final ranking is published already")
    if not state.is_ready:
        raise Refusal("wrong_state", f"the final runs are not all over: {state.states}", hint="freeze first, then wait")
    if state.states.get(State.ERRORED.value):
        raise Refusal("wrong_state", "some final runs stopped by our failure", hint="run them again, or cancel them")
    best = _best_of_each_team(connection, private_scores(connection, HIDDEN))
    places = _places(best, competition)
    if places:
        connection.execute(final_scores.insert(), places)
    set_fact(connection, PUBLISHED, now.isoformat())
    audit.record(connection, organiser, "published", competition.name, now, places=len(places))
    changed(connection)
    return len(places)


@dataclass(frozen=True)
class _Scored:
    row: Row[Any]
    kind: str
    public_value: float


def _best_of_each_team(connection: Connection, scored: Sequence[Row[Any]]) -> list[_Scored]:
    known = {
        row.id: row
        for row in connection.execute(
            sa.select(submissions.c.id, submissions.c.team_id, teams.c.kind, public_results.c.value)
            .join(teams, teams.c.id == submissions.c.team_id)
            .join(public_results, public_results.c.submission_id == submissions.c.id)
        )
    }
    best: dict[int, _Scored] = {}
    for row in sorted(scored, key=lambda each: (-each.value, each.submission_id)):
        of = known[row.submission_id]
        best.setdefault(of.team_id, _Scored(row, of.kind, of.value))
    return sorted(best.values(), key=lambda each: (-each.row.value, each.row.submission_id))


def _places(best: Sequence[_Scored], competition: Competition) -> list[dict[str, Any]]:
    """Rank participants with ranges; parents and baselines have a place in the order but the rank 0."""
    weights = {task.name: task.weight for task in competition.tasks if task.private}
    competing = [each for each in best if each.kind == "participant"]
    ranges = dict(
        zip(
            (e.row.submission_id for e in competing),
            ranks([e.row.item_scores for e in competing], weights),
            strict=True,
        )
    )
    return [
        {
            "submission_id": each.row.submission_id,
            "place": place,
            "rank_low": ranges.get(each.row.submission_id, (0, 0))[0],
            "rank_high": ranges.get(each.row.submission_id, (0, 0))[1],
            "value": each.row.value,
            "low": each.row.low,
            "high": each.row.high,
            "public_value": each.public_value,
            "tasks": each.row.tasks,
        }
        for place, each in enumerate(best, start=1)
    ]
