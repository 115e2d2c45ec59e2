"""Three parts of the items: one to search on, one to choose the winner on, one to report it on.

Which part an item falls into follows from the ids of its task alone. So two searches on the same tasks never search on
items that the other reports, whatever their seeds, and the order of a file does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blake3 import blake3

from cuvee.errors import RecipeError, several

FEW_ITEMS, TOO_FEW_ITEMS = 50, 20
"""Items a task in the search part below which the split warns, and below which it refuses."""

BLOCK = 25

Ids = Mapping[str, Sequence[str]]
"""Item ids by the name of the task that holds them."""


@dataclass(frozen=True)
class Parts:
    """Item ids by task. `report` names the task that holds the items, which may be another than the searched task.

    `warnings` say why the search is less sure than it should be.
    """

    search: dict[str, tuple[str, ...]]
    select: dict[str, tuple[str, ...]]
    report: dict[str, tuple[str, ...]]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shares:
    """How a task is divided. Shares of items are fractions of 1, and together no more than 1.

    `report` is 0 where other tasks hold the items to report on.
    """

    search: float = 0.5
    select: float = 0.25
    report: float = 0.25

    def __post_init__(self) -> None:
        shares = (self.search, self.select, self.report)
        if min(self.search, self.select) <= 0 or self.report < 0:
            raise RecipeError(
                f"the parts search, select and report got the shares {_listed(shares)}",
                hint="search and select need a share above 0, and none may be negative",
            )
        if sum(shares) > 1 + 1e-9:
            raise RecipeError(
                f"the shares of search, select and report add up to {sum(shares):g}",
                hint="no item may be in two parts: they may add up to 1 at most",
            )


def split(items: Ids, shares: Shares | None = None, *, private: Ids | None = None) -> Parts:
    """Divide the items of each task by the hashes of their ids.

    `private` holds the items to report on where they come from tasks of their own; then search and select share all of
    `items`, half and half unless `shares` says otherwise. Raises RecipeError where a part is too small, an id comes
    twice in a task, or an item to report on is also an item to search on.
    """
    if shares is None:
        shares = Shares() if private is None else Shares(0.5, 0.5, 0.0)
    if (shares.report > 0) == (private is not None):
        raise RecipeError(
            f"the report part has the share {shares.report:g} and {'no' if private is None else 'also a'} private task",
            hint="report on a share of the tasks, or on tasks of their own with the share 0",
        )
    ordered = {task: _by_hash(task, ids) for task, ids in items.items()}
    cuts = {task: _cuts(len(ids), shares) for task, ids in ordered.items()}
    search = {task: ids[: cuts[task][0]] for task, ids in ordered.items()}
    select = {task: ids[cuts[task][0] : cuts[task][1]] for task, ids in ordered.items()}
    if private is None:
        report = {task: ids[cuts[task][1] : cuts[task][2]] for task, ids in ordered.items()}
    else:
        report = {task: _by_hash(task, ids) for task, ids in private.items()}
        _check_apart(items, private)
    _check_sizes(search, items)
    _check_filled("select", select)
    _check_filled("report", report)
    return Parts(search, select, report, _warnings(search))


def blocks(search: Ids, *, block: int = BLOCK, seed: int = 0) -> list[dict[str, tuple[str, ...]]]:
    """Cut the search part into blocks of at least `block` items, in an order that `seed` decides.

    Every block holds the same number of a task's items, up to one, and at least one of each task in the first block:
    so each mirrors the whole, and a candidate may be judged after any of them.
    """
    if block < 1:
        raise RecipeError(f"a block of {block} items", hint="a block holds one item at least")
    ordered = {task: sorted(ids, key=lambda item: _hash(f"{seed}", task, item)) for task, ids in search.items()}
    total = sum(len(ids) for ids in ordered.values())
    count = max(1, total // block)
    return [_block(ordered, number, count) for number in range(count)]


def _block(ordered: Ids, number: int, count: int) -> dict[str, tuple[str, ...]]:
    return {
        task: tuple(ids[_edge(number, count, len(ids)) : _edge(number + 1, count, len(ids))])
        for task, ids in ordered.items()
    }


def _edge(number: int, count: int, items: int) -> int:
    """Return how many of a task's items come before a block, rounded up."""
    return -(-number * items // count)


def _by_hash(task: str, ids: Sequence[str]) -> tuple[str, ...]:
    if len(set(ids)) < len(ids):
        twice = next(item for item in ids if list(ids).count(item) > 1)
        raise RecipeError(f"task '{task}' has two items with the id '{twice}'", hint="give every item its own id")
    return tuple(sorted(ids, key=lambda item: (_hash("part", item), item)))


def _hash(*words: str) -> str:
    return blake3("\0".join(words).encode()).hexdigest()


def _cuts(items: int, shares: Shares) -> tuple[int, int, int]:
    ends = (shares.search, shares.search + shares.select, shares.search + shares.select + shares.report)
    first, second, third = (round(items * end) for end in ends)
    return first, second, third


def _check_sizes(search: Ids, items: Ids) -> None:
    if not search:
        raise RecipeError("a search without tasks", hint="name one task at least")
    problems = []
    for task, ids in search.items():
        if len(ids) < TOO_FEW_ITEMS:
            problems.append(_too_few(task, len(ids), len(items[task])))
    if problems:
        raise several(problems)


def _too_few(task: str, searched: int, items: int) -> RecipeError:
    return RecipeError(
        f"task '{task}' has {searched} items to search on, of {items}",
        hint=f"a search needs {TOO_FEW_ITEMS} a task at least, better {FEW_ITEMS}: add items, or raise the share",
    )


def _check_apart(items: Ids, private: Ids) -> None:
    for task, ids in private.items():
        shared = sorted(set(ids).intersection(items.get(task, ())))
        if shared:
            raise RecipeError(
                f"item '{shared[0]}' of task '{task}' is searched on and reported on",
                hint="report on another task, or on a share of this one",
            )


def _check_filled(part: str, items: Ids) -> None:
    for task, ids in items.items():
        if not ids:
            raise RecipeError(f"task '{task}' has no item in the {part} part", hint="add items, or raise its share")


def _warnings(search: Ids) -> tuple[str, ...]:
    few = [f"{task} ({len(ids)})" for task, ids in search.items() if len(ids) < FEW_ITEMS]
    if not few:
        return ()
    return (f"fewer than {FEW_ITEMS} items to search on in {', '.join(few)}: expect the winner to be lucky",)


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
