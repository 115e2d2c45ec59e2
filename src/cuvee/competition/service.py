"""What every request works with: the database, the competition, the limits and the clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from sqlalchemy.engine import Connection

from cuvee.competition.board import Boards
from cuvee.competition.clock import Clock, database_time
from cuvee.competition.database import Database
from cuvee.competition.limits import Limits
from cuvee.competition.task_cards import TaskCard, public_questions, task_cards
from cuvee.competition.tracks import TrackBoards
from cuvee.submission.competition import Competition
from cuvee.submission.data_room import DataRoom, open_data_room
from cuvee.submission.written import WrittenRecipes


@dataclass(frozen=True)
class Service:
    """An open competition. `stopwatch` gives seconds of this process that no jump of a clock changes."""

    database: Database
    competition: Competition
    limits: Limits
    clock: Clock = database_time
    stopwatch: Callable[[], float] = time.monotonic

    @cached_property
    def boards(self) -> Boards:
        """The boards, computed once for every change."""
        return Boards(self.database, self.competition)

    @cached_property
    def tracks(self) -> TrackBoards:
        """The boards of the tracks, computed once for every change."""
        return TrackBoards(self.database, self.competition)

    @cached_property
    def data_room(self) -> DataRoom:
        """What everybody may have. Raises RecipeError where that would be something private."""
        return open_data_room(self.competition)

    @cached_property
    def largest_report(self) -> int:
        """How many bytes a report may have that is handed in here."""
        return max((track.upload.max_bytes for track in self.competition.tracks if track.upload), default=0)

    @cached_property
    def task_cards(self) -> tuple[TaskCard, ...]:
        """What the guide says of each task, read once."""
        return task_cards(self.competition)

    @cached_property
    def questions(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """What each public item asks and what is right, by task."""
        return public_questions(self.competition)

    @cached_property
    def baselines(self) -> dict[str, str]:
        """The recipes of the baselines that are here, by the names of their files without the ending."""
        files = [self.competition.folder / baseline for baseline in self.competition.ranking.baselines]
        return {file.stem: file.read_text(encoding="utf-8") for file in files if file.is_file()}

    @cached_property
    def recipes(self) -> WrittenRecipes:
        """What checks and packs recipes that are written on the site."""
        return WrittenRecipes(self.competition)

    def now(self, connection: Connection | None = None) -> datetime:
        """Read the clock in the transaction that is under way, or in a short one of its own where none is."""
        if connection is not None:
            return self.clock(connection)
        with self.database.read() as reading:
            return self.clock(reading)
