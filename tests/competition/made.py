"""A competition, verdicts and a clock for tests of the organiser's side."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cuvee.competition.actors import Actor
from cuvee.competition.job import Job
from cuvee.competition.states import Role
from cuvee.evaluation.statistics import as_score, average, mean
from cuvee.submission.competition import Competition
from cuvee.submission.competition_yaml import parse_competition
from cuvee.submission.statement import Signature, sign_verdict
from cuvee.submission.verdict import (
    Figures,
    Finding,
    Hardware,
    Outcome,
    PrivateScores,
    PublicScores,
    Reason,
    Verdict,
)

NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
ORGANISER = Actor(Role.ORGANISER, "organiser")
TASKS = ("capitals", "sums")

TEXT = """
name: tiny
title: A tiny competition
description: Merge two small models.
version: 1
changelog:
  - {version: 1, date: 2026-06-01, what: the first version}
budget: {seconds: 60, memory: 2GB, disk: 1GB}
phases:
  - name: open
    opens: 2026-06-01
    closes: 2026-07-01T00:00Z
    feedback: FEEDBACK
    logs: LOGS
    quota: {per_day: PER_DAY, total: 100, at_once: 50}
    grace_seconds: 0
  - name: final
    opens: 2026-07-01T00:00Z
    closes: 2026-08-01T00:00Z
    scores: private
    selections: 2
tasks:
  - {name: capitals, public: tasks/capitals.csv, private: private/capitals.csv, weight: 1.0}
  - {name: sums, public: tasks/sums.csv, private: private/sums.csv, weight: 2.0}
teams: {max_members: 3, registration: open}
"""

TRACKS = """
tracks:
  - {name: frugal, title: Frugal, by: score, within: {tokens: 6000}}
  - {name: light, by: score, within: {cpu_seconds: 4}}
  - {name: untuned, title: Hardly tuned, by: score, within: {tuning_tokens: 1000}}
  - {name: per-token, title: Score for each token, by: score_per_token, at_least: 0.35}
  - {name: honest, title: Honest claims, by: claim_gap}
  - {name: report, title: Reports, by: report, scale: 5}
"""

LEAKS = TEXT.replace(
    "private: private/capitals.csv,",
    "private: private/capitals.csv, leaderboard: private/board.csv, "
    "controls: {shuffled: true, canaries: private/canaries.csv},",
)
"""A board by items that nobody has, and controls of a task."""


HARDWARE = Hardware("a processor", 2, 8 << 30, None, "Linux", {"python": "3.11"})


class Clock:
    """A clock that goes when told to."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self, connection: object = None) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    def advance(self, **amount: float) -> None:
        self.now += timedelta(**amount)


def tiny_competition(feedback: str = "scores", per_day: int = 20, logs: str = "none", text: str = TEXT) -> Competition:
    filled = text.replace("FEEDBACK", feedback).replace("PER_DAY", str(per_day)).replace("LOGS", logs)
    return parse_competition(filled, folder=Path("/nowhere"))


def items_of(skill: float, seed: int, n: int = 60) -> dict[str, tuple[float, ...]]:
    """Draw right and wrong answers: the same items are easy for everybody."""
    generator = np.random.default_rng(seed)
    return {task: tuple(map(float, generator.random(n) < skill)) for task in TASKS}


def scores_of(items: dict[str, tuple[float, ...]]) -> dict[str, object]:
    tasks = tuple(as_score(task, "accuracy", mean(values)) for task, values in items.items())
    macro = average(list(items.values()), [1.0, 2.0])
    return {"macro": as_score("macro", "accuracy", macro), "tasks": tasks, "items": items}


def verdict(
    skill: float = 0.6,
    seed: int = 0,
    *,
    outcome: Outcome = "accepted",
    reason: Reason | None = None,
    message: str = "",
    private_seed: int = 1,
    log: str = "all went well\n",
    seconds: float = 2.0,
    judged: datetime = NOON,
) -> Verdict:
    """Make what a judge would say of some submission; `fitted` makes it one of a certain run."""
    accepted = outcome == "accepted"
    counts = (200 << 20, 10 << 20, 5000, 12_000_000)
    measured = {"normalised_cpu_seconds": 1.5 * seconds, "held_memory_bytes": 300 << 20}
    figures = Figures(1.0, 1.0, 1.0, seconds, *counts, "bubblewrap", HARDWARE, **measured)
    return Verdict(
        outcome=outcome,
        submission="0" * 64,
        competition="tiny",
        competition_digest="0" * 64,
        judged=judged,
        reason=reason,
        message=message,
        findings=(Finding("size", "pass", "12 M parameters of at most 8 B"),),
        weights_digest=hashlib.sha256(f"{skill}{seed}".encode()).hexdigest() if accepted else None,
        predictions_digest=hashlib.sha256(f"p{skill}{seed}".encode()).hexdigest() if accepted else None,
        public=PublicScores(**scores_of(items_of(skill, seed))) if accepted else None,
        private=PrivateScores(**scores_of(items_of(skill, seed + 1000 * private_seed))) if accepted else None,
        figures=figures if accepted else None,
        log=log,
    )


def key_of(worker: str) -> Ed25519PrivateKey:
    """Return a worker's key: the same name has the same one."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(worker.encode()).digest())


def signature_of(verdict: Verdict, job: Job, worker: str) -> Signature:
    """Sign a verdict as the worker does that holds a run."""
    return sign_verdict(verdict, run=job.run_id, fence=job.fence, purpose=job.purpose, key=key_of(worker))


def fitted(verdict: Verdict, submission: str, purpose: str, competition: Competition) -> Verdict:
    """Return the verdict as that of a submission, by its digest, in a run of some purpose."""
    private = verdict.private if purpose == "final" else None
    return replace(verdict, submission=submission, competition_digest=competition.digest, private=private)
