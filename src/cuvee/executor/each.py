"""A function called with one argument after the other, each in the next slot that is free, and lost calls again."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cuvee.executor.executor import Done, Executor

MOST_ATTEMPTS = 3
"""How often a call may be lost."""


class Ended(NamedTuple):
    """The place of an argument among all, and how its call ended; `lost` if it was lost each time."""

    place: int
    done: Done


def call_each(executor: Executor, function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Ended]:
    """Call a function of a module with each argument, and yield the outcomes as they come."""
    waiting, free = deque(range(len(arguments))), deque(range(executor.slots))
    running: dict[int, int] = {}
    losses: Counter[int] = Counter()
    while waiting or running:
        while waiting and free:
            slot = free.popleft()
            running[slot] = waiting.popleft()
            executor.submit(slot, function, arguments[running[slot]])
        done = executor.next_done()
        place = running.pop(done.slot)
        free.append(done.slot)
        losses[place] += done.lost
        if done.lost and losses[place] < MOST_ATTEMPTS:
            waiting.append(place)
        else:
            yield Ended(place, done)
