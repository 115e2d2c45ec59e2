"""How long work reports its progress: a protocol of four calls. The default does nothing."""

from typing import Protocol, runtime_checkable


class Progress(Protocol):
    """Receives progress. Called from one thread at a time."""

    def start(self, what: str, total: int, unit: str) -> None:
        """Begin a stretch of `total` units ("bytes", "items", ...)."""

    def advance(self, amount: int) -> None:
        """Say that `amount` more units are done."""

    def note(self, text: str) -> None:
        """Say in a few words where in the stretch the work is: "12 of 39 tensors"."""

    def finish(self) -> None:
        """End the stretch."""


@runtime_checkable
class Stoppable(Protocol):
    """Progress that can stop the work at moments at which there is nothing to say."""

    def check(self) -> None:
        """Raise to stop the work."""


class Silent:
    """Progress that nobody watches."""

    def start(self, what: str, total: int, unit: str) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass


class Within:
    """Progress of one of several like works: every stretch is named with which of them it belongs to."""

    def __init__(self, progress: Progress, which: str) -> None:
        self._progress = progress
        self._which = which

    def start(self, what: str, total: int, unit: str) -> None:
        self._progress.start(f"{self._which}: {what}", total, unit)

    def advance(self, amount: int) -> None:
        self._progress.advance(amount)

    def note(self, text: str) -> None:
        self._progress.note(text)

    def finish(self) -> None:
        self._progress.finish()
