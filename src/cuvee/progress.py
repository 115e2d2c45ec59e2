"""How long work tells what it has done: a protocol of three calls. The default does nothing."""

from typing import Protocol


class Progress(Protocol):
    """Receives progress. Called from one thread at a time."""

    def start(self, what: str, total: int, unit: str) -> None:
        """Begin a stretch of `total` units ("bytes", "items", ...)."""

    def advance(self, amount: int) -> None:
        """Say that `amount` more units are done."""

    def finish(self) -> None:
        """End the stretch."""


class Silent:
    """Progress that nobody watches."""

    def start(self, what: str, total: int, unit: str) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass

    def finish(self) -> None:
        pass
