"""Runs functions that yield what they have to say on their way to a result, so that one caller gathers it all."""

from collections.abc import Callable, Generator
from typing import TypeVar

_Said = TypeVar("_Said")
_Result = TypeVar("_Result")


def result_of(steps: Generator[_Said, None, _Result], hear: Callable[[_Said], None]) -> _Result:
    """Run a generator to its end, hand all that it yields to `hear`, and return its result."""
    while True:
        try:
            said = next(steps)
        except StopIteration as stop:
            result: _Result = stop.value
            return result
        hear(said)
