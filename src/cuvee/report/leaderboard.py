"""A leaderboard's entries, how sure their order is, and the verdict in a sentence.

Every figure is a fraction from 0 to 1; "points" are hundredths of it. Recipes may be chosen on the public part of each
task; the ranking and the verdict report the private part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cuvee.amounts import points, signed

EntryKind = Literal["base", "expert", "blend", "reference"]
Mark = Literal["best blend", "best parent", ""]
PARENT_KINDS: tuple[EntryKind, ...] = ("base", "expert")


@dataclass(frozen=True)
class Figure:
    """A score and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A score minus another on the same items, and the 95 % interval of that difference."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Entry:
    """A model of the board. `public` and `private` are macro averages over the tasks.

    `method` and `recipe` (YAML text) are empty for models that are not blends. `seconds` is the time that making it
    took, None where it was not made here. `skill` names the task that an expert was trained on.
    """

    name: str
    kind: EntryKind
    method: str
    recipe: str
    public: Figure
    private: Figure
    public_tasks: Mapping[str, Figure]
    private_tasks: Mapping[str, Figure]
    seconds: float | None = None
    skill: str = ""


@dataclass(frozen=True)
class TaskNote:
    """A task: how many items each part has, and an item with its answer."""

    name: str
    kind: Literal["multiple choice", "generation"]
    n_public: int
    n_private: int
    example_input: str
    example_answer: str


@dataclass(frozen=True)
class Leaderboard:
    """Everything that the page and the terminal table show.

    - `ranks`: the best and worst plausible rank of each entry, in the order of `entries` (see `rank_ranges`).
    - `best_blend`: the name of the blend that is best on the public part.
    - `best_parent`: the name of the base or expert that is best on the private part.
    - `verdict`: the best blend minus the best parent on the private part.
    - `starter_recipe` (YAML) and `commands` (a line each): how to make and measure a first blend.
    - `notes`: sentences that stand below the verdict.
    """

    title: str
    entries: tuple[Entry, ...]
    tasks: tuple[TaskNote, ...]
    ranks: tuple[tuple[int, int], ...]
    best_blend: str
    best_parent: str
    verdict: Difference
    starter_recipe: str
    commands: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kinds = {entry.name: entry.kind for entry in self.entries}
        if len(kinds) != len(self.entries):
            raise ValueError("two entries of a leaderboard have the same name")
        if len(self.ranks) != len(self.entries):
            raise ValueError(f"{len(self.entries)} entries need as many ranks, got {len(self.ranks)}")
        if kinds.get(self.best_blend) != "blend":
            raise ValueError(f"best_blend {self.best_blend!r} is not the name of a blend")
        if kinds.get(self.best_parent) not in PARENT_KINDS:
            raise ValueError(f"best_parent {self.best_parent!r} is not the name of a base or an expert")


@dataclass(frozen=True)
class Row:
    """A line of the ranking. `gap` is public minus private; `rank` is "4", or "2-5" where the order is not clear."""

    rank: str
    name: str
    method: str
    kind: EntryKind
    private: Figure
    public: Figure
    gap: float
    seconds: float | None
    mark: Mark
    entry: Entry


def rows(leaderboard: Leaderboard) -> tuple[Row, ...]:
    """List the entries by falling private average, equal entries by name."""
    ranked = sorted(
        zip(leaderboard.entries, leaderboard.ranks, strict=True),
        key=lambda pair: (-pair[0].private.value, pair[0].name),
    )
    return tuple(_row(leaderboard, entry, best, worst) for entry, (best, worst) in ranked)


def _row(leaderboard: Leaderboard, entry: Entry, best: int, worst: int) -> Row:
    return Row(
        rank=str(best) if best == worst else f"{best}-{worst}",
        name=entry.name,
        method=entry.method,
        kind=entry.kind,
        private=entry.private,
        public=entry.public,
        gap=entry.public.value - entry.private.value,
        seconds=entry.seconds,
        mark=_mark(leaderboard, entry.name),
        entry=entry,
    )


def verdict_sentence(leaderboard: Leaderboard) -> str:
    """Say whether the best blend beats the best parent. An interval that touches zero shows nothing."""
    blend, parent = f"Best blend {leaderboard.best_blend}", f"the best parent {leaderboard.best_parent}"
    return comparison_sentence(blend, parent, leaderboard.verdict, "private")


def comparison_sentence(blend: str, parent: str, difference: Difference, part: str) -> str:
    """Say whether a blend beats a parent on a part of the tasks."""
    interval = f"on the {part} part (95 % interval {signed(difference.low)} to {signed(difference.high)})"
    if difference.low > 0:
        return f"{blend} beats {parent} by {signed(difference.value)} points {interval}."
    if difference.high < 0:
        return f"{blend} is behind {parent} by {points(-difference.value)} points {interval}."
    return f"{blend} does not clearly beat {parent}: {signed(difference.value)} points {interval}."


def interval(figure: Figure | Difference) -> str:
    """Write the bounds of a score in points, e.g. "59.8–65.8"."""
    return f"{points(figure.low)}–{points(figure.high)}"


def _mark(leaderboard: Leaderboard, name: str) -> Mark:
    if name == leaderboard.best_blend:
        return "best blend"
    return "best parent" if name == leaderboard.best_parent else ""
