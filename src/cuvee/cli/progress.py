"""Progress for people: a bar on a terminal, nothing in a pipe. Everything goes to stderr."""

import sys

from cuvee.progress import Progress, Silent


def shown_progress() -> Progress:
    """Return progress that fits where stderr goes."""
    return _Bar() if sys.stderr.isatty() else Silent()


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
        columns = (TextColumn("{task.description}"), BarColumn(), *amounts, TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._total = total
        self._task = self._progress.add_task(what, total=total)
        self._progress.start()

    def advance(self, amount: int) -> None:
        self._progress.advance(self._task, amount)

    def finish(self) -> None:
        self._progress.update(self._task, completed=self._total)
        self._progress.stop()
