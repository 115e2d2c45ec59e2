"""Token buckets: how often a visitor or a team may do what costs the server something.

A bucket holds the allowance of one period, and fills at that rate. The buckets are in the memory of this server: where
several servers share a database, each one counts for itself.
"""

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta

from cuvee.competition.refusals import Refusal

MOST_BUCKETS = 20_000
"""The bucket that nobody has used for the longest time is forgotten first."""


@dataclass(frozen=True)
class Rate:
    """So many times at once, and so many more in each period. `what` names it in a refusal: "registrations"."""

    what: str
    count: int
    period: timedelta


class Buckets:
    """The buckets of a server, by rate and by whom it is counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._levels: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, rate: Rate, whose: str, now: float) -> None:
        """Take one out of somebody's bucket. Raises Refusal 'too_many' that says when there is one again.

        `now` is in seconds of a clock that is never put back.
        """
        with self._lock:
            level, since = self._levels.pop((rate.what, whose), (float(rate.count), now))
            filled = (now - since) / rate.period.total_seconds() * rate.count
            level = min(level + filled, float(rate.count))
            enough = level >= 1
            self._levels[rate.what, whose] = (level - 1 if enough else level, now)
            if len(self._levels) > MOST_BUCKETS:
                self._levels.popitem(last=False)
        if not enough:
            wait = math.ceil((1 - level) * rate.period.total_seconds() / rate.count)
            raise Refusal(
                "too_many",
                f"too many {rate.what}: {rate.count} in {_spelled(rate.period)} are as many as may be",
                hint=f"try again in {wait} seconds",
            )


def _spelled(period: timedelta) -> str:
    return "an hour" if period == timedelta(hours=1) else f"{period.total_seconds():g} seconds"
