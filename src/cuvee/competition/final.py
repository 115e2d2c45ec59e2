"""The final ranking: freeze, judge what was chosen once more on the private parts, publish.

Before `publish` nothing of the private parts is in any table that participants' views read; `publish` copies the
figures there. The order is by the private score; the gap to the public score is published with it. Who is hidden has no
place, and the ranking is made again when somebody is hidden after it is out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.chosen import all_chosen, choice_of
from cuvee.competition.facts import (
    CHOSEN,
    FROZEN,
    PUBLISHED,
    change_fact,
    fact,
    hold_facts,
    hold_facts_alone,
    set_fact,
    unset_fact,
)
from cuvee.competition.final_places import left_out, write_places
from cuvee.competition.final_tracks import write_track_places
from cuvee.competition.refusals import Refusal
from cuvee.competition.revision import changed
from cuvee.competition.runs import HIDDEN, again, move, new_run
from cuvee.competition.states import FINAL, UNDER_WAY, State
from cuvee.competition.tables import runs, submissions, teams
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
        return self.frozen and FINAL.issuperset(map(State, self.states))

    @property
    def in_words(self) -> str:
        """Say how many runs are in which state: "3 queued, 2 scored"."""
        return ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))


def freeze(connection: Connection, organiser: Actor, competition: Competition, now: datetime) -> int:
    """Take no more submissions, and queue those that teams chose; of a team that chose none, its best on the board.

    Parents and baselines are ranked beside them. Each track takes what may stand there, too. Return how many runs were
    queued.
    """
    hold_facts_alone(connection)
    if fact(connection, FROZEN) is not None:
        raise Refusal("wrong_state", "the final ranking is being made already")
    _check_nothing_is_open(connection)
    chosen = all_chosen(connection, competition)
    if not chosen:
        hint = "extend the phase, or see on the organiser's page why entries have none"
        raise Refusal("wrong_state", "no entry has a score, so there is nothing to rank", hint=hint)
    set_fact(connection, FROZEN, now.isoformat())
    change_fact(connection, CHOSEN, choice_of(connection, competition))
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
    hold_facts_alone(connection)
    begun = connection.execute(
        sa.select(runs.c.id).where(runs.c.purpose == HIDDEN, runs.c.state != State.QUEUED.value)
    ).first()
    is_frozen = fact(connection, FROZEN) is not None and fact(connection, PUBLISHED) is None
    if begun or not is_frozen:
        raise Refusal("wrong_state", "nothing is frozen, or the final runs have begun")
    unset_fact(connection, FROZEN)
    unset_fact(connection, CHOSEN)
    waiting = connection.execute(sa.select(runs.c.id).where(runs.c.purpose == HIDDEN)).scalars().all()
    for run_id in waiting:
        move(connection, run_id, State.CANCELLED, organiser, now, why="the final ranking was called off")
    audit.record(connection, organiser, "unfrozen", competition.name, now, runs=len(waiting))
    return len(waiting)


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
    """Publish the final ranking: each team by the better of its chosen submissions. Return how many places it has.

    Raises Refusal, with the teams' names, unless every shown team was judged and every score that counts is whole.
    """
    hold_facts_alone(connection)
    state = finals(connection)
    if state.published:
        raise Refusal("wrong_state", "the final ranking is published already")
    if not state.frozen:
        message = "the final ranking is not begun: nothing was judged on private items yet"
        raise Refusal(
            "wrong_state", message, hint="freeze first, which takes no more entries, and wait for the workers"
        )
    if not state.is_ready:
        message = f"the final runs are not all over: {state.in_words}"
        raise Refusal("wrong_state", message, hint="wait for the workers; the organiser's page says how far they are")
    if state.states.get(State.ERRORED.value):
        raise Refusal("wrong_state", "some final runs stopped by our failure", hint="run them again, or cancel them")
    _check_all_were_judged(connection, competition)
    places = write_places(connection, competition)
    write_track_places(connection, competition)
    set_fact(connection, PUBLISHED, now.isoformat())
    without = left_out(connection)
    audit.record(connection, organiser, "published", competition.name, now, places=places, left_out=without)
    changed(connection)
    return places


def rank_again(connection: Connection, organiser: Actor, competition: Competition, now: datetime, *, why: str) -> None:
    """Make a ranking that is out anew, after `why`; before it is out there is nothing to do."""
    if fact(connection, PUBLISHED) is None:
        return
    places = write_places(connection, competition)
    write_track_places(connection, competition)
    audit.record(connection, organiser, "ranked again", competition.name, now, places=places, why=why)


def rerun(
    connection: Connection, organiser: Actor, submission_id: int, competition: Competition, now: datetime
) -> None:
    """Judge a submission for the final ranking once more, or for the first time if its team was hidden before."""
    hold_facts(connection)
    if fact(connection, FROZEN) is None:
        raise Refusal("wrong_state", "nothing is frozen yet", hint="freeze first")
    if fact(connection, PUBLISHED) is not None:
        raise Refusal("wrong_state", "the final ranking is published; what it says stands")
    earlier = connection.execute(
        sa.select(runs.c.id).where(runs.c.submission_id == submission_id, runs.c.purpose == HIDDEN)
    ).scalar()
    if earlier is not None:
        again(connection, earlier, organiser, now)
        return
    if submission_id not in all_chosen(connection, competition):
        raise Refusal("wrong_state", f"submission {submission_id} is not chosen for the final ranking")
    new_run(connection, submission_id, HIDDEN, organiser, now)
    audit.record(connection, organiser, "run queued", f"submission {submission_id}", now, purpose=HIDDEN)


def _check_nothing_is_open(connection: Connection) -> None:
    """Refuse to freeze before every run is over: who waits for a verdict may have chosen that submission."""
    under_way = _count(connection, UNDER_WAY)
    if under_way:
        raise Refusal("wrong_state", f"{under_way} runs are still under way", hint="wait for them, or cancel them")
    open_runs = _count(connection, {State.SUSPECT, State.QUARANTINED})
    if open_runs:
        message = f"{open_runs} runs are suspect or quarantined: whether they have a score is not decided"
        raise Refusal("wrong_state", message, hint="judge them again, reject or cancel them")


def _count(connection: Connection, states: Iterable[State]) -> int:
    values = [state.value for state in states]
    return int(connection.execute(sa.select(sa.func.count()).where(runs.c.state.in_(values))).scalar_one())


def _check_all_were_judged(connection: Connection, competition: Competition) -> None:
    """Refuse where a team is shown now that was not when the submissions were chosen."""
    judged = sa.select(submissions.c.team_id).join(runs, runs.c.submission_id == submissions.c.id)
    chosen = all_chosen(connection, competition)
    missing = connection.execute(
        sa.select(teams.c.name, submissions.c.id)
        .join(submissions, submissions.c.team_id == teams.c.id)
        .where(submissions.c.id.in_(chosen), submissions.c.team_id.not_in(judged.where(runs.c.purpose == HIDDEN)))
        .order_by(submissions.c.id)
    ).all()
    if missing:
        named = ", ".join(f"{row.name} (submission {row.id})" for row in missing)
        hint = "judge them for the final ranking, or hide them"
        raise Refusal("wrong_state", f"some were not judged for the final ranking: {named}", hint=hint)
