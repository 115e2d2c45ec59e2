"""What every request works with: the database, the competition, the limits and the clock."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from cuvee.competition.board import Boards
from cuvee.competition.database import Database
from cuvee.competition.limits import Clock, Limits, utc_now
from cuvee.submission.competition import Competition


@dataclass(frozen=True)
class Service:
    """An open competition."""

    database: Database
    competition: Competition
    limits: Limits
    clock: Clock = utc_now

    @cached_property
    def boards(self) -> Boards:
        """The boards, computed once for every change."""
        return Boards(self.database, self.competition)

    def now(self) -> datetime:
        """Read the clock."""
        return self.clock()
