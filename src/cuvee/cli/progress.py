"""Progress for people, on stderr: a bar on a terminal, plain lines in a log, nothing in a pipe."""

import os
import stat
import sys
import time

from cuvee.progress import Progress, Silent

SECONDS_BETWEEN_LINES = 5


def shown_progress() -> Progress:
    """Return progress that fits where stderr goes."""
    if sys.stderr.isatty():
        return _Bar()
    try:
        mode = os.fstat(sys.stderr.fileno()).st_mode
    except (OSError, ValueError):
        return Silent()
    return _Lines() if stat.S_ISREG(mode) else Silent()


class _Bar:
    """One bar at a time, with the rate and the time left."""

    def start(self, what: str, total: int, unit: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        amounts = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(),)
        what_column = TextColumn("{task.description}", markup=False)
        note_column = TextColumn("{task.fields[note]}", markup=False)
        columns = (what_column, BarColumn(bar_width=None), *amounts, note_column, TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
        self._total = total
        self._task = self._progress.add_task(what, total=total, note="")
        self._progress.start()

    def advance(self, amount: int) -> None:
        self._progress.advance(self._task, amount)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)

    def finish(self) -> None:
        self._progress.update(self._task, completed=self._total)
        self._progress.stop()


class _Lines:
    """A line at the start, one every few seconds, and one at the end."""

    def start(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._done, self._note = what, total, 0, ""
        self._told = time.monotonic()
        print(f"{what}: {total:,} {unit}", file=sys.stderr, flush=True)

    def advance(self, amount: int) -> None:
        self._done += amount
        if time.monotonic() - self._told > SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            note = f", {self._note}" if self._note else ""
            print(f"{self._what}: {self._done / max(self._total, 1):.0%}{note}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        self._note = text

    def finish(self) -> None:
        print(f"{self._what}: done", file=sys.stderr, flush=True)
