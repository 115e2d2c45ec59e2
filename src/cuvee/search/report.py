"""The figures that a search shows while it runs and when it ends: `report.json`, from which the page is drawn.

Scores are fractions of 1, larger is better; a score without an interval is a mean over items.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from cuvee.documents.checked import first_problem
from cuvee.documents.whole import write_whole
from cuvee.errors import EvaluationError
from cuvee.evaluation.output import writing
from cuvee.search.choice import AnchorKind, Choice
from cuvee.search.front import Front

REPORT_FILE = "report.json"

Phase = Literal["running", "finished", "interrupted"]
State = Literal["running", "measured", "dropped", "failed"]


@dataclass(frozen=True)
class TaskItems:
    """How many items of a task are in each part. `report_task` names the task that holds those of the last part."""

    name: str
    weight: float
    search: int
    select: int
    report: int
    report_task: str


@dataclass(frozen=True)
class Dimension:
    """A number or choice that candidates differ in: a range from `low` to `high`, or `choices`."""

    name: str
    low: float | None = None
    high: float | None = None
    logarithmic: bool = False
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None) or (self.low is None) != bool(self.choices):
            raise ValueError(f"dimension '{self.name}': expected a range or choices, got {self}")
        if self.logarithmic and not self.range[0] > 0:
            raise ValueError(f"dimension '{self.name}': a logarithmic range starts above 0, not at {self.low}")

    @property
    def range(self) -> tuple[float, float]:
        """Return both ends of the range. Raises ValueError where there are choices."""
        if self.low is None or self.high is None:
            raise ValueError(f"dimension '{self.name}' has choices, no range")
        return self.low, self.high


@dataclass(frozen=True)
class Candidate:
    """A recipe that the search tried.

    `value` is the number that the sampler was told, with the `standard_error` of the difference from the incumbent; on
    all search items it is the score itself. `items` and `tokens` count the answers, `reason` says why a candidate was
    dropped or failed. `select` is the score of a finalist on the select items. `anchor` marks recipes that need no
    search.
    """

    number: int
    name: str
    method: str
    parameters: Mapping[str, float | str]
    state: State
    value: float | None
    standard_error: float | None
    items: int
    tokens: int
    seconds: float
    reason: str = ""
    select: float | None = None
    anchor: AnchorKind | None = None


@dataclass(frozen=True)
class Curve:
    """The weight of one model in one role, from the first layer to the last."""

    model: str
    role: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Cost:
    """The cost of the search: items and tokens through the models, seconds by the clock.

    They hold everything that was measured, selection and report as well.
    """

    items: int
    tokens: int
    seconds: float
    workers: int


@dataclass(frozen=True)
class SearchReport:
    """Everything that the page shows. The candidates are sorted by their numbers.

    `evaluation_dtype` is the type that the networks computed in. `curves` are the winner's, `importance` says by share
    which dimensions mattered (it may be empty), `recipe` is the winner's YAML. `choice` is None until the search has
    ended.
    """

    title: str
    phase: Phase
    base: str
    models: tuple[str, ...]
    tasks: tuple[TaskItems, ...]
    sampler: str
    budget: str
    seed: int
    dimensions: tuple[Dimension, ...]
    candidates: tuple[Candidate, ...]
    cost: Cost
    recipe: str
    evaluation_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    choice: Choice | None = None
    curves: tuple[Curve, ...] = ()
    importance: Mapping[str, float] = field(default_factory=dict)
    front: Front | None = None
    warnings: tuple[str, ...] = ()

    @property
    def search_items(self) -> int:
        """Return how many search items there are."""
        return sum(task.search for task in self.tasks)

    @property
    def saved(self) -> float | None:
        """Return the share of the search items that racing saved, None before a candidate raced to its end."""
        candidates = [candidate for candidate in self.candidates if not candidate.anchor]
        raced = [candidate for candidate in candidates if candidate.state in ("measured", "dropped")]
        if not raced:
            return None
        return 1 - sum(candidate.items for candidate in raced) / (len(raced) * self.search_items)

    @property
    def best(self) -> Candidate | None:
        """Return the best of the candidates that were measured on all search items, anchors with them."""
        measured = [each for each in self.candidates if each.state == "measured"]
        return max(measured, key=lambda each: each.value or 0.0, default=None)

    def candidate(self, name: str) -> Candidate:
        """Return a candidate by its name."""
        return next(each for each in self.candidates if each.name == name)


_REPORT = TypeAdapter(SearchReport)


def write_report(report: SearchReport, folder: Path) -> Path:
    """Write `report.json` in a single step, and return its path. The same report gives the same bytes."""
    ordered = replace(report, candidates=tuple(sorted(report.candidates, key=lambda each: each.number)))
    path = folder / REPORT_FILE
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, _REPORT.dump_json(ordered, indent=2).decode() + "\n")
    return path


def read_report(folder: Path) -> SearchReport:
    """Read `report.json`. Raises EvaluationError if it is not there or is none."""
    path = folder / REPORT_FILE
    try:
        return _REPORT.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise EvaluationError("no report of a search", where=str(path), hint="name a search's folder") from error
    except ValidationError as error:
        message = f"not the report of a search: {first_problem(error)}"
        raise EvaluationError(message, where=str(path)) from error
