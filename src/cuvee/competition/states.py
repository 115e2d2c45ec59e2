"""The states of a run, and the one table of allowed moves between them.

A submission has one run for the public board and, if it is selected, one for the final ranking. Whose fault an end is
decides its state: the participant's (`rejected`, `failed`), nobody's (`cancelled`) or ours (`errored`).

What a worker judged that then failed its own test is judged again, or is `suspect` until the organiser says so. Where
our code failed on a submission, and not on a model of the competition, it is `quarantined`: the organiser decides.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    SCORED = "scored"
    REJECTED = "rejected"
    FAILED = "failed"
    ERRORED = "errored"
    CANCELLED = "cancelled"
    SUSPECT = "suspect"
    QUARANTINED = "quarantined"


class Role(StrEnum):
    """Who acts. `queue` is the server, when a lease runs out or a worker fails its own test; `monitor` watches it.

    A `rater` reads and rates the reports of the tracks that name them.
    """

    VISITOR = "visitor"
    TEAM = "team"
    WORKER = "worker"
    ORGANISER = "organiser"
    MONITOR = "monitor"
    RATER = "rater"
    QUEUE = "queue"


MEANING = {
    State.QUEUED: "waits for a worker",
    State.RUNNING: "a worker judges it",
    State.SCORED: "judged, with a score",
    State.REJECTED: "breaks a rule of the competition",
    State.FAILED: "does not run to its end within the budget",
    State.ERRORED: "stopped by a failure of ours; costs no quota",
    State.CANCELLED: "taken back",
    State.SUSPECT: "judged by a machine that failed its own test; the organiser has it judged again, at no cost",
    State.QUARANTINED: "our code failed on it, and the organiser looks at it; counts until the organiser gives it back",
}

MOVES: dict[tuple[State, State], frozenset[Role]] = {
    (State.QUEUED, State.RUNNING): frozenset({Role.WORKER}),
    (State.QUEUED, State.CANCELLED): frozenset({Role.TEAM, Role.ORGANISER}),
    (State.RUNNING, State.SCORED): frozenset({Role.WORKER}),
    (State.RUNNING, State.REJECTED): frozenset({Role.WORKER}),
    (State.RUNNING, State.FAILED): frozenset({Role.WORKER}),
    (State.RUNNING, State.QUEUED): frozenset({Role.WORKER, Role.QUEUE, Role.ORGANISER}),
    (State.RUNNING, State.ERRORED): frozenset({Role.WORKER, Role.QUEUE}),
    (State.RUNNING, State.CANCELLED): frozenset({Role.TEAM, Role.ORGANISER}),
    (State.SCORED, State.QUEUED): frozenset({Role.ORGANISER, Role.QUEUE}),
    (State.SCORED, State.SUSPECT): frozenset({Role.QUEUE}),
    (State.REJECTED, State.QUEUED): frozenset({Role.ORGANISER, Role.QUEUE}),
    (State.REJECTED, State.SUSPECT): frozenset({Role.QUEUE}),
    (State.FAILED, State.QUEUED): frozenset({Role.ORGANISER, Role.QUEUE}),
    (State.FAILED, State.SUSPECT): frozenset({Role.QUEUE}),
    (State.ERRORED, State.QUEUED): frozenset({Role.ORGANISER, Role.QUEUE}),
    (State.ERRORED, State.SUSPECT): frozenset({Role.QUEUE}),
    (State.CANCELLED, State.QUEUED): frozenset({Role.ORGANISER}),
    (State.RUNNING, State.QUARANTINED): frozenset({Role.WORKER}),
    (State.QUARANTINED, State.QUEUED): frozenset({Role.ORGANISER, Role.QUEUE}),
    (State.QUARANTINED, State.FAILED): frozenset({Role.ORGANISER}),
    (State.QUARANTINED, State.SUSPECT): frozenset({Role.QUEUE}),
    (State.QUARANTINED, State.CANCELLED): frozenset({Role.TEAM, Role.ORGANISER}),
    (State.SUSPECT, State.QUEUED): frozenset({Role.ORGANISER}),
    (State.SUSPECT, State.CANCELLED): frozenset({Role.TEAM, Role.ORGANISER}),
}

UNDER_WAY = frozenset({State.QUEUED, State.RUNNING})
"""The states that a worker will end."""

FINAL = frozenset({State.SCORED, State.REJECTED, State.FAILED, State.ERRORED, State.CANCELLED})
"""The states that wait for nobody."""


def may_move(start: State, end: State, by: Role) -> bool:
    """Tell whether the table lets `by` move a run from `start` to `end`."""
    return by in MOVES.get((start, end), frozenset())


def uses_quota(state: State, *, started: bool, given_back: bool) -> bool:
    """Tell whether a submission counts against its team's quota.

    Our failures never do, nor what was cancelled before a worker had begun it, nor what an organiser gave back.
    """
    if given_back or state in (State.ERRORED, State.SUSPECT):
        return False
    return started if state is State.CANCELLED else True
