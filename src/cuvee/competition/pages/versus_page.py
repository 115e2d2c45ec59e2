"""The page of two teams: an axis around zero on which all differences have room."""

import math
from typing import Any

from cuvee.competition.board import Board
from cuvee.competition.head_to_head import HeadToHead

MIDDLE, HALF = 112, 100
"""Pixels: where zero is, and how far the axis reaches to each side."""


def versus_values(board: Board, found: HeadToHead | None, one: int | None) -> dict[str, Any]:
    """Return what the page shows: the teams to choose from, of which `one` is chosen, the comparison, and its axis."""
    entries = sorted(board.entries, key=lambda entry: (entry.kind != "participant", entry.team.casefold()))
    teams = [entry.team_id for entry in entries]
    first = one if one in teams else next(iter(teams), None)
    second = next((team for team in teams if team != first), None)
    values: dict[str, Any] = {"entries": entries, "found": found, "first": first, "second": second}
    if found is None:
        return values
    rows = (found.whole, *found.tasks)
    ends = [max(abs(apart.low), abs(apart.high)) for apart in rows]
    reach = max(0.05, math.ceil(max(ends) * 20) / 20)

    def at(difference: float) -> float:
        return round(MIDDLE + HALF * difference / reach, 1)

    return {**values, "rows": rows, "reach": f"{100 * reach:.0f}", "at": at}
