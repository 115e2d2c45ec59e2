"""Where a public and a private score differ by more than their items explain: a team has tuned on the public items.

A gap is compared with the usual gap, the median of all places: private items may be harder for everybody. Its interval
joins those of the two scores, which are of different items (R. Newcombe's method of variance estimates recovery,
Statistics in Medicine 17, 1998).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol


class Interval(Protocol):
    """A score with its 95 % interval."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True)
class Gap:
    """The public minus the private score, with its 95 % interval. `is_alarm`: it is above the usual gap beyond it."""

    value: float
    low: float
    high: float
    is_alarm: bool = False


def gap_of(public: Interval, private: Interval) -> Gap:
    """Return how far a private score is below the public one, and how sure that is."""
    value = public.value - private.value
    below = math.hypot(public.value - public.low, private.high - private.value)
    above = math.hypot(public.high - public.value, private.value - private.low)
    return Gap(value, value - below, value + above)


def usual_gap(gaps: Sequence[Gap]) -> float:
    """Return the gap of most: their median; 0 with fewer than three, which tell nothing of what is usual."""
    if len(gaps) < 3:
        return 0.0
    return median(gap.value for gap in gaps)


def with_alarms(gaps: Sequence[Gap]) -> tuple[Gap, ...]:
    """Raise the alarm at gaps whose whole interval is above zero and above the usual gap."""
    usual = max(0.0, usual_gap(gaps))
    return tuple(Gap(gap.value, gap.low, gap.high, gap.low > usual) for gap in gaps)
