"""The results of a search, for the terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

from cuvee.amounts import points, signed

if TYPE_CHECKING:
    from cuvee.search.report import SearchReport

ROWS = 12


def candidates_table(report: "SearchReport") -> Table:
    """Return the best candidates: their settings, and their scores on the items to choose by."""
    table = Table("number", "recipe", "to search by", "to choose by", "items", "what became of it")
    ranked = sorted(report.candidates, key=lambda candidate: -(candidate.value or 0.0))
    for candidate in ranked[:ROWS]:
        value = "" if candidate.value is None else points(candidate.value)
        select = "" if candidate.select is None else points(candidate.select)
        name = f"{candidate.name} (anchor)" if candidate.anchor else candidate.name
        state = candidate.reason or candidate.state
        table.add_row(str(candidate.number), name, value, select, str(candidate.items), state)
    return table


def parts_lines(report: "SearchReport") -> Iterator[str]:
    """Give the verdict and the figures that it rests on, a line each."""
    choice = report.choice
    if choice is None:
        yield "the search has not ended: run it again to go on"
        return
    yield choice.verdict
    for name, score in (("searched on", choice.search), ("chosen on", choice.select), ("reported on", choice.report)):
        yield f"  {name} {score.n} items: {points(score.value)} ({points(score.low)} to {points(score.high)})"
    optimism = choice.optimism
    yield (
        f"  optimism, the score where it was found minus that on new items: {signed(optimism.value)} points "
        f"({signed(optimism.low)} to {signed(optimism.high)}); luck alone would give the best of {choice.measured} "
        f"equal candidates {signed(choice.luck)}"
    )
    saved = report.saved
    if saved is not None:
        yield f"  racing saved {saved:.0%} of the items"
    for warning in report.warnings:
        yield f"warning: {warning}"
