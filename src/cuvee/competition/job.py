"""A run that a worker holds. Plain data: also for workers that have no database."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A claimed run: what to judge, and the number that its results must show."""

    run_id: int
    submission_id: int
    purpose: str
    attempt: int
    fence: int
    archive_digest: str
    lease_seconds: float
