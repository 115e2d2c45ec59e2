"""The score that a model of the competition must have on every machine: it shows a worker whose first test is wrong.

The first worker that comes into service records it for a competition.yaml; all later tests are compared with it.
"""

from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy.engine import Connection

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.facts import EXPECTED, fact, hold_facts_alone, set_fact, unset_fact
from cuvee.competition.refusals import Refusal
from cuvee.submission.expected import ControlScore, disagreement


@dataclass(frozen=True)
class Expected:
    """A score, by which version of competition.yaml it is, and who has found it when."""

    competition_digest: str
    control: ControlScore
    worker: str
    at: datetime


_STORED = TypeAdapter(Expected)


def expected(connection: Connection) -> Expected | None:
    """Return what is expected; None before the first worker came into service."""
    stored = fact(connection, EXPECTED)
    return None if stored is None else _STORED.validate_python(stored)


def check_fit(
    connection: Connection, worker: Actor, control: ControlScore | None, competition_digest: str, now: datetime
) -> str:
    """Compare what a worker's passed test has found with what is expected, and say what does not fit.

    Where nothing is expected of this version of competition.yaml, this is from now on.
    """
    wanted = expected(connection)
    if wanted is None or wanted.competition_digest != competition_digest:
        wanted = _record(connection, worker, control, competition_digest, now)
    if wanted is None:
        return ""
    if control is None:
        return "its test judged no model of the competition; it needs the server's folder and version of cuvee"
    problem = disagreement(control, wanted.control)
    if not problem:
        return ""
    return f"{problem}; expected by {wanted.worker} with {_shown(wanted.control)}, found with {_shown(control)}"


def forget(connection: Connection, organiser: Actor, now: datetime) -> None:
    """Expect nothing any more: the next worker that tests itself records what it finds."""
    hold_facts_alone(connection)
    if fact(connection, EXPECTED) is None:
        raise Refusal("wrong_state", "nothing is expected yet", hint="the next worker that tests itself records it")
    unset_fact(connection, EXPECTED)
    audit.record(connection, organiser, "expectation forgotten", "expected score", now)


def _record(
    connection: Connection, worker: Actor, control: ControlScore | None, competition_digest: str, now: datetime
) -> Expected | None:
    """Record what is expected, unless another worker was faster. Return what is recorded then."""
    hold_facts_alone(connection)
    there = expected(connection)
    if there is not None and there.competition_digest == competition_digest:
        return there
    if control is None:
        return None
    recorded = Expected(competition_digest, control, worker.name, now)
    unset_fact(connection, EXPECTED)
    set_fact(connection, EXPECTED, _STORED.dump_python(recorded, mode="json"))
    scores = {task: round(control.score(task), 4) for task in control.items}
    details = {"model": control.model, "scores": scores, "versions": dict(control.versions)}
    audit.record(connection, worker, "expectation recorded", "expected score", now, **details)
    return recorded


def _shown(control: ControlScore) -> str:
    versions = [f"{name} {version}" for name, version in sorted(control.versions.items())]
    return ", ".join(versions) or "unknown versions"
