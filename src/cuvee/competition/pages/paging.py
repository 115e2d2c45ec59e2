"""Rankings of many rows in pages: which page a reader asks for, its rows, and the reader's own row on every page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

ROWS_PER_PAGE = 50
MOST_PAGES = 10_000

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a ranking. `own` is the reader's row where it is on another page, which is `own_page`."""

    rows: tuple[T, ...]
    page: int
    pages: int
    own: T | None
    own_page: int

    @property
    def drawn(self) -> tuple[T, ...]:
        """The rows that are drawn: those of this page, and the reader's own."""
        return self.rows if self.own is None else (*self.rows, self.own)


def page_of_rows(
    rows: Sequence[T],
    teams: Sequence[int],
    page: int,
    *,
    at: int | None = None,
    reader: int | None = None,
    rows_per_page: int = ROWS_PER_PAGE,
) -> Page[T]:
    """Return a page of a ranking; one beyond the last is the last. `teams` has the number of each row's team.

    `at` is a team whose page is wanted, whichever that is now; `reader` the one whose own row stands on each page.
    """
    pages = max(1, -(-len(rows) // rows_per_page))
    shown = _page_of(teams, at, rows_per_page) or min(page, pages)
    own_page = _page_of(teams, reader, rows_per_page)
    own = None
    if reader is not None and own_page not in (0, shown):
        own = rows[list(teams).index(reader)]
    return Page(tuple(rows[(shown - 1) * rows_per_page : shown * rows_per_page]), shown, pages, own, own_page)


def _page_of(teams: Sequence[int], team: int | None, rows_per_page: int) -> int:
    """Return the page on which a team's row is; 0 for one that has none."""
    for number, other in enumerate(teams):
        if other == team:
            return 1 + number // rows_per_page
    return 0


def read_page_number(written: str) -> int:
    """Read the number of a page; the first for what is none, the last that there may be for one too large."""
    if not (written.isascii() and written.isdigit()):
        return 1
    digits = written.lstrip("0")
    if len(digits) > len(str(MOST_PAGES)):  # it may be too long to be read as a number
        return MOST_PAGES
    return min(int(digits or "1"), MOST_PAGES)


def pages_near(page: int, pages: int) -> list[int]:
    """Return the pages to offer: the first, the last, and those beside this one."""
    return sorted({1, page - 1, page, page + 1, pages} & set(range(1, pages + 1)))
