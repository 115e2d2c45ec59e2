"""What an organiser may tune of the server itself; the competition's own rules are in competition.yaml."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Limits:
    """A run is held for `lease` at a time. `teams_per_hour` bounds how many teams may register by themselves."""

    lease: timedelta = timedelta(seconds=60)
    attempts_at_most: int = 3
    archive_bytes: int = 4_000_000
    teams_per_hour: int = 60


def utc_now() -> datetime:
    """Read the machine's clock."""
    return datetime.now(UTC)
