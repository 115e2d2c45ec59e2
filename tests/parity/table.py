"""The table of a full run: for each method and number type how near Cuvée and mergekit are, and how exact."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cuvee.plan import Plan
from parity.compare import Compared, Distance, compared, loaded_type
from parity.recipes import DRAWN, Case
from parity.run import Answers, Tensors, by_definition, merge_here, plan_of

AS_NEAR = 1.02
"""How much larger our distance to the exact result may be than mergekit's: chance, where both only round at the end."""

WORDS = {"F32": "float32", "BF16": "bfloat16"}
HEAD = (
    "method", "computed in", "recipes", "tensors", "worst difference", "over the bar", "explained",
    "distance to float64", "mergekit's",
)  # fmt: skip


@dataclass
class Row:
    """What was found of one method in one number type; entries are counted that are over the bar or explained."""

    recipes: set[str] = field(default_factory=set)
    tensors: int = 0
    worst: float = 0.0
    over: int = 0
    explained: int = 0
    ours: Distance = field(default_factory=Distance)
    plain: Distance = field(default_factory=Distance)
    reference: Distance = field(default_factory=Distance)

    @property
    def holds(self) -> bool:
        """Whether no entry is over the bar, and the default is as exact as mergekit."""
        return self.over == 0 and self.ours.value <= AS_NEAR * self.theirs.value

    @property
    def theirs(self) -> Distance:
        """mergekit's distance; that of its reference if it is nearer, for equal magnitudes are no fault of it."""
        measured = [distance for distance in (self.plain, self.reference) if distance.count]
        return min(measured, key=lambda distance: distance.value)

    def add(self, case: Case, found: Compared) -> None:
        self.recipes.add(case.id)
        self.tensors += 1
        self.worst = max(self.worst, found.worst)
        self.over += int(found.over.sum())
        self.explained += int(found.explained.sum())


Rows = dict[tuple[str, str], Row]


def rows(cases: Iterable[Case], answers: Answers, folder: Path) -> Rows:
    """Merge every case here, in both modes, and compare."""
    result: Rows = {}
    for case in cases:
        plain, reference = (answers.merged(case, reference=which) for which in (False, True))
        loaded = plan_of(case, "as_loaded")
        ours = merge_here(loaded, folder / case.id)
        for found in compared(loaded, ours, plain, reference):
            result.setdefault((case.key, found.loaded), Row()).add(case, found)
        exact = plan_of(case, "float32")
        _measure(exact, case.key, merge_here(exact, folder / f"{case.id}-default"), plain, reference, result)
    return result


def _measure(plan: Plan, key: str, ours: Tensors, plain: Tensors, reference: Tensors, result: Rows) -> None:
    for step in plan.steps:
        row, exact, name = result[key, loaded_type(plan, step)], by_definition(plan, step), step.name
        row.ours.add(ours[name], exact)
        # both are rounded to the type that the recipe asks for, which mergekit forgets in some methods
        row.plain.add(plain[name].astype(ours[name].dtype), exact)
        if not DRAWN[key].exactly:  # a reference in float64 is not mergekit's arithmetic
            row.reference.add(reference[name].astype(ours[name].dtype), exact)


def as_markdown(found: Rows) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *(_cells(key, loaded, row) for (key, loaded), row in sorted(found.items()))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(key: str, loaded: str, row: Row) -> Sequence[str]:
    worst = f"{row.worst:.1e}" if loaded == "F32" else f"{row.worst:.0f} ulp"
    return (
        f"`{key}`", WORDS[loaded], str(len(row.recipes)), str(row.tensors), worst, str(row.over), str(row.explained),
        f"{row.ours.value:.2e}", f"{row.theirs.value:.2e}",
    )  # fmt: skip
