"""How the items of a run were read: by which way, and how many tokens that took."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

WayTaken = Literal["one row", "padded", "grouped", "alone"]
"""All choices in one row with their prefix; rows in batches, padded; in batches of equal length; each row alone."""


@dataclass
class Reading:
    """Counts that grow as a network reads. `shown` counts padding, and the tokens by which the ways were tried."""

    items: Counter[WayTaken] = field(default_factory=Counter)
    shown: int = 0

    def copy(self) -> "Reading":
        """Return the counts as they are now."""
        return Reading(Counter(self.items), self.shown)

    def since(self, before: "Reading") -> "Reading":
        """Return the counts since an earlier copy was made."""
        return Reading(self.items - before.items, self.shown - before.shown)

    def to_json(self) -> Mapping[str, Any]:
        """Return the counts in plain types."""
        return {"items": dict(self.items), "tokens_shown": self.shown}
