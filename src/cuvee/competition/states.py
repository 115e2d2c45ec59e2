"""The states of a run, and the one table of allowed moves between them.

A submission has one run for the public board and, if it is selected, one for the final ranking. Whose fault an end is
decides its state: the participant's (`rejected`, `failed`), nobody's (`cancelled`) or ours (`errored`).
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


class Role(StrEnum):
    """Who acts. `queue` is the server itself, when a lease runs out; `monitor` is a program that watches it."""

    VISITOR = "visitor"
    TEAM = "team"
    WORKER = "worker"
    ORGANISER = "organiser"
    MONITOR = "monitor"
    QUEUE = "queue"


MEANING = {
    State.QUEUED: "waits for a worker",
    State.RUNNING: "a worker judges it",
    State.SCORED: "judged, with a score",
    State.REJECTED: "breaks a rule of the competition",
    State.FAILED: "does not run to its end within the budget",
    State.ERRORED: "stopped by a failure of ours; costs no quota",
    State.CANCELLED: "taken back",
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
    (State.SCORED, State.QUEUED): frozenset({Role.ORGANISER}),
    (State.REJECTED, State.QUEUED): frozenset({Role.ORGANISER}),
    (State.FAILED, State.QUEUED): frozenset({Role.ORGANISER}),
    (State.ERRORED, State.QUEUED): frozenset({Role.ORGANISER}),
    (State.CANCELLED, State.QUEUED): frozenset({Role.ORGANISER}),
}

FINAL = frozenset({State.SCORED, State.REJECTED, State.FAILED, State.ERRORED, State.CANCELLED})


def may_move(start: State, end: State, by: Role) -> bool:
    """Tell whether the table lets `by` move a run from `start` to `end`."""
    return by in MOVES.get((start, end), frozenset())


def uses_quota(state: State, *, started: bool, given_back: bool) -> bool:
    """Tell whether a submission counts against its team's quota.

    Our failures never do, nor what was cancelled before a worker had begun it, nor what an organiser gave back.
    """
    if given_back or state is State.ERRORED:
        return False
    return started if state is State.CANCELLED else True
