"""A blend against its parents: the models that its `cuvee.json` names answer the same items.

A parent's reference is read as the merge read it, from the current folder or from the recipe's. Where the recipe lay is
not recorded, so that the blend's folder and those above it are tried, and `recipe_folder` if it is given. Its
files must be those that were merged, by size, header and sampled contents.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from blake3 import blake3

from cuvee.checkpoint.stored_file import changed_files
from cuvee.errors import CheckpointError, EvaluationError
from cuvee.evaluation.report import Report, by_task
from cuvee.evaluation.statistics import Difference, Gap, paired_difference
from cuvee.foreign import open_files
from cuvee.hub import Hub
from cuvee.plan.resolve import folder_of
from cuvee.progress import Progress, Within
from cuvee.recipe.reference import parse_reference

RECORD = "cuvee.json"
Measure = Callable[[Path, Path | None, Progress], Report]
"""Evaluates the model in a folder, with its output in another."""

FOLDERS_ABOVE = 2


@dataclass(frozen=True)
class Parent:
    """A model that went into a blend: its reference, and where it lies."""

    reference: str
    folder: Path


@dataclass(frozen=True)
class TaskChange:
    """The change that a blend brings to a task: its difference to the parent that is best there.

    `lost` are the ids of the items that this parent does better, `won` of those that the blend does better.
    """

    task: str
    best_parent: str
    gap: Gap
    lost: tuple[str, ...]
    won: tuple[str, ...]

    @property
    def outcome(self) -> str:
        """Gained or forgotten, where the interval says so, else a tie."""
        return {"better": "gained", "worse": "forgotten", "tie": "tie"}[self.gap.verdict]


@dataclass(frozen=True)
class AgainstParents:
    """A blend's report beside those of its parents; `differences` are the blend minus each parent.

    `folders` hold the parents' own output, if there is any.
    """

    blend: Report
    names: tuple[str, ...]
    parents: tuple[Report, ...]
    differences: tuple[Difference, ...]
    changes: tuple[TaskChange, ...]
    folders: tuple[Path, ...] = ()

    @property
    def sentence(self) -> str:
        """Sum up the tasks that were gained and forgotten."""
        words = []
        for outcome, tasks in (("gained", self.tasks("gained")), ("forgotten", self.tasks("forgotten"))):
            words.append(f"{outcome}: {', '.join(tasks) or 'nothing clear'}")
        return f"Against the best parent of each task {'; '.join(words)}."

    def tasks(self, outcome: str) -> list[str]:
        """Name the tasks with an outcome."""
        return [change.task for change in self.changes if change.outcome == outcome]

    def to_json(self) -> dict[str, Any]:
        """Return everything but the parents' own scores in plain types."""
        parents = []
        for place, (name, report) in enumerate(zip(self.names, self.parents, strict=True)):
            entry: dict[str, Any] = {"model": name, "model_digest": report.model_digest}
            if self.differences:
                entry |= self.differences[place].to_json()
            if report.figures:
                entry["figures"] = by_task(report.figures)
            parents.append(entry)
        tasks = {
            change.task: {
                "outcome": change.outcome,
                "best_parent": change.best_parent,
                "difference": change.gap.to_json(),
                "lost": list(change.lost),
                "won": list(change.won),
            }
            for change in self.changes
        }
        return {"blend": self.blend.model, "parents": parents, "tasks": tasks}


def parents_of(blend: Path, hub: Hub, progress: Progress, *, recipe_folder: Path | None = None) -> tuple[Parent, ...]:
    """Find the models that a blend was made of, those of a hub downloaded. Raises CheckpointError."""
    parents = []
    for entry in _inputs(blend / RECORD):
        reference = str(entry["model"])
        place = _place(reference, blend, recipe_folder) or folder_of(_pinned(entry), hub, progress)
        _check_same(entry, place)
        parents.append(Parent(reference, place.resolve()))
    return tuple(parents)


def evaluate_with_parents(
    blends: Sequence[tuple[Path, Path | None]],
    measure: Measure,
    *,
    out: Path | None,
    hub: Hub,
    progress: Progress,
    recipe_folder: Path | None = None,
) -> tuple[AgainstParents, ...]:
    """Measure blends, each with the place of its output, and their parents, a shared parent once.

    `out` is where the parents' output goes, a folder for each. All parents are found before anything is measured.
    """
    families = [parents_of(blend, hub, progress, recipe_folder=recipe_folder) for blend, _ in blends]
    folders = {parent.folder for parent in chain.from_iterable(families)}
    count = len(blends) + len(folders)
    measured: dict[Path, Report] = {}
    comparisons: list[AgainstParents] = []

    def heard() -> Progress:
        return Within(progress, f"model {len(comparisons) + len(measured) + 1} of {count}")

    for (blend, place), parents in zip(blends, families, strict=True):
        report = measure(blend, place, heard())
        if report.macro is None and not report.figures:
            raise EvaluationError("the tasks have no targets to compare a blend and its parents by")
        for parent in parents:
            if parent.folder not in measured:
                measured[parent.folder] = measure(parent.folder, out and output_of(parent, out), heard())
        reports = [measured[parent.folder] for parent in parents]
        compared = against_parents(report, [parent.reference for parent in parents], reports)
        if out is not None:
            compared = replace(compared, folders=tuple(output_of(parent, out) for parent in parents))
        comparisons.append(compared)
    return tuple(comparisons)


def output_of(parent: Parent, out: Path) -> Path:
    """Return the folder below `out` for a parent's answers: its name, and a few letters that tell equal names apart."""
    return out / f"{parent.folder.name}-{blake3(str(parent.folder).encode()).hexdigest()[:8]}"


def against_parents(blend: Report, names: Sequence[str], parents: Sequence[Report]) -> AgainstParents:
    """Compare a blend with its parents on the same items. Raises EvaluationError if they are not the same.

    Where no item has a score there are no differences: the reports' figures of whole tasks stand beside each other.
    """
    if all(report.macro is None for report in (blend, *parents)):
        return AgainstParents(blend, tuple(names), tuple(parents), (), ())
    differences = tuple(paired_difference(blend, parent) for parent in parents)
    changes = tuple(_change(task, blend, names, parents, differences) for task in differences[0].tasks)
    return AgainstParents(blend, tuple(names), tuple(parents), differences, changes)


def _change(
    task: str, blend: Report, names: Sequence[str], parents: Sequence[Report], differences: Sequence[Difference]
) -> TaskChange:
    """Compare with the parent that is best at the task, the first of equals: where the difference is least."""
    best = min(range(len(parents)), key=lambda place: differences[place].tasks[task].value)
    lost, won = [], []
    for own, other in zip(blend.task(task).items, parents[best].task(task).items, strict=True):
        if own.score is None or other.score is None:
            continue
        if own.score < other.score:
            lost.append(own.id)
        elif own.score > other.score:
            won.append(own.id)
    return TaskChange(task, names[best], differences[best].tasks[task], lost=tuple(lost), won=tuple(won))


def _inputs(record: Path) -> list[Mapping[str, Any]]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        inputs = [entry for entry in content["inputs"] if isinstance(entry["files"], dict) and entry["model"]]
    except OSError as error:
        raise CheckpointError("this model does not say what it was made of", where=str(record)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError("not a record of a merge", where=str(record)) from error
    if not inputs:
        raise CheckpointError("the record names no model", where=str(record))
    return inputs


def _place(reference: str, blend: Path, recipe_folder: Path | None) -> Path | None:
    """Return the first folder in which the reference leads somewhere; None if it leads nowhere here."""
    path = Path(parse_reference(reference).path).expanduser()
    above = [blend, *blend.absolute().parents[:FOLDERS_ABOVE]]
    for folder in [*([recipe_folder] if recipe_folder else []), Path(), *above]:
        if (folder / path).exists():
            return folder / path
    if path.is_absolute() or reference.startswith(".") or not parse_reference(reference).looks_like_hub_name:
        hint = "--recipe-folder names the folder from which the recipe was read"
        raise CheckpointError("this parent is not where the recipe says", where=reference, hint=hint)
    return None


def _pinned(entry: Mapping[str, Any]) -> str:
    reference = parse_reference(str(entry["model"]))
    return f"{reference.path}@{entry['revision']}" if entry.get("revision") else str(reference)


def _check_same(entry: Mapping[str, Any], place: Path) -> None:
    """Raise CheckpointError if a parent's files are not those that were merged, by headers and sampled contents."""
    hint = "--recipe-folder names the folder from which the recipe was read"
    try:
        files = open_files(place).files()
    except CheckpointError as error:
        message = f"this is not the file that was merged: {error.message}"
        raise CheckpointError(message, where=error.where, hint=hint) from error
    for name in changed_files(entry["files"], files):
        path = place if place.is_file() else place / name
        raise CheckpointError("this is not the file that was merged", where=str(path), hint=hint)


def blends_in(folder: Path) -> tuple[Path, ...]:
    """Return the folder itself if it is a blend, or else the blends in it. Raises CheckpointError if there are none."""
    if (folder / RECORD).is_file():
        return (folder,)
    blends = []
    for record in folder.glob(f"*/{RECORD}"):
        if not record.parent.name.startswith("."):
            blends.append(record.parent)
    if not blends:
        hint = f"a blend's folder holds a {RECORD}; `cuvee merge` writes it"
        raise CheckpointError("there is no blend here", where=str(folder), hint=hint)
    return tuple(sorted(blends))
