"""One slot in this process: a call runs while it is submitted."""

from collections.abc import Callable
from typing import Any, Self

from cuvee.executor.executor import Done, outcome, refuse_busy


class Here:
    """Runs calls in this process, in turn."""

    slots = 1

    def __init__(self) -> None:
        self._done: Done | None = None

    def submit(self, slot: int, function: Callable[..., Any], *arguments: Any) -> None:
        refuse_busy(slot, self.slots, busy=self._done is not None)
        ended = outcome(function, arguments)
        self._done = Done(slot, ended.value, ended.failure)

    def next_done(self) -> Done:
        if self._done is None:
            raise ValueError("no call runs")
        done, self._done = self._done, None
        return done

    def close(self) -> None:
        self._done = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
