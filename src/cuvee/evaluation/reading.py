"""How the items of a run were read: by which way, and how many tokens that took."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

WayTaken = Literal["one row", "padded", "grouped", "alone"]
"""All choices in one row with their prefix; rows in batches, padded; in batches of equal length; each row alone."""


@dataclass(frozen=True)
class Reading:
    """How many items were read in each way, and how many tokens a network was shown for them.

    `shown` counts padding, and the tokens by which the ways were tried.
    """

    items: Mapping[WayTaken, int] = field(default_factory=dict)
    shown: int = 0

    def since(self, before: "Reading") -> "Reading":
        """Return the counts since an earlier reading."""
        return Reading(Counter(self.items) - Counter(before.items), self.shown - before.shown)

    def to_json(self) -> Mapping[str, Any]:
        """Return the counts in plain types."""
        return {"items": dict(self.items), "tokens_shown": self.shown}


class Meter:
    """Counts what a network reads, from its loading on."""

    def __init__(self) -> None:
        self._items: Counter[WayTaken] = Counter()
        self._shown = 0

    @property
    def reading(self) -> Reading:
        """The counts so far."""
        return Reading(dict(self._items), self._shown)

    def took(self, way: WayTaken, items: int) -> None:
        """Count items that are read in a way."""
        self._items[way] += items

    def showed(self, tokens: int) -> None:
        """Count tokens that the network is shown."""
        self._shown += tokens
