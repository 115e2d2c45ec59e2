"""`Verdict`: a judge's findings on a submission, as data that travels as JSON.

accepted     it was built, measured and keeps the rules
rejected     for a reason that is the participant's: rules, budget, a recipe that fails
errored      for a reason that is the platform's: it costs no quota and is tried again
quarantined  our code failed on it and not on a model of the competition: the organiser decides whose fault that is

Public and private scores are of separate types, and `PublicVerdict`, which participants may see, has no place
for private scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from cuvee.documents.checked import first_problem
from cuvee.errors import SubmissionError
from cuvee.evaluation import Score
from cuvee.submission.controls import Control
from cuvee.submission.evidence import Evidence
from cuvee.submission.likeness import Likeness

T = TypeVar("T")

Outcome = Literal["accepted", "rejected", "errored", "quarantined"]

Reason = Literal[
    "rules",  # a rule is broken: see the findings
    "archive",  # not a submission that can be read
    "recipe",  # it does not plan or does not merge
    "time",  # over the budget's seconds
    "cpu",  # over the budget's cpu_seconds
    "memory",
    "disk",
    "tokens",  # of the answers, or read to tune
    "processes",
    "log",  # wrote more than may be kept
    "crash",  # the participant's code failed or was stopped
    "output",  # what came out of the sandbox is not what was asked for
    "claim",  # weights, predictions or scores are not those that were claimed
    "infrastructure",  # ours
]

FindingOutcome = Literal["pass", "note", "fail"]
Agreement = Literal["bit_identical", "within_tolerance", "differs", "not_claimed"]

_strict = with_config(ConfigDict(extra="forbid"))


@_strict
@dataclass(frozen=True)
class Finding:
    """A rule's word on a model, or on the whole submission if `model` is None."""

    rule: str
    outcome: FindingOutcome
    message: str
    model: str | None = None


@_strict
@dataclass(frozen=True)
class PublicScores:
    """Scores on the public parts. `items` has the main metric of each item, by task, in the order of the task.

    `part` is `leaderboard` where the board is by parts that nobody has, of the tasks that have one.
    """

    macro: Score
    tasks: tuple[Score, ...]
    items: Mapping[str, tuple[float, ...]]
    part: Literal["public", "leaderboard"] = "public"


@_strict
@dataclass(frozen=True)
class PrivateScores:
    """Scores on the private parts: for organisers alone until the reveal.

    `controls` say what other ways to ask have changed, and `agreement` the share of equal answers of a task that is
    decoded by chance, and so twice.
    """

    macro: Score
    tasks: tuple[Score, ...]
    items: Mapping[str, tuple[float, ...]]
    controls: tuple[Control, ...] = ()
    agreement: Mapping[str, float] = field(default_factory=dict)


@_strict
@dataclass(frozen=True)
class Hardware:
    """The machine that judged, in words and numbers."""

    processor: str
    cores: int
    memory_bytes: int
    accelerator: str | None
    system: str
    versions: Mapping[str, str]


@_strict
@dataclass(frozen=True)
class Tuning:
    """What was read to tune a recipe: tokens in all, of each of the competition's texts by name, and by a search."""

    tokens: int
    texts: Mapping[str, int]
    search: "Searched | None" = None


@_strict
@dataclass(frozen=True)
class Searched:
    """What a search took: tokens and items through the models, candidates, seconds by the clock."""

    tokens: int
    items: int
    candidates: int
    seconds: float


@_strict
@dataclass(frozen=True)
class Figures:
    """The cost of judging. `normalised_seconds` counts against the budget: the seconds that the reference machine would
    have taken. `sandbox` names the sandbox that the work ran in.

    `normalised_cpu_seconds` are those of all processors together, as the budget counts them. `peak_memory_bytes` leaves
    out copies of files that the system can drop, `held_memory_bytes` counts them and also short peaks. Each is None
    where nobody has measured it. `tuning` is part of the merge, and None where the recipe is not tuned.
    """

    merge_seconds: float
    evaluate_seconds: float
    calibration_seconds: float | None
    normalised_seconds: float
    peak_memory_bytes: int | None
    disk_bytes: int
    tokens: int
    parameters: int
    sandbox: str
    hardware: Hardware
    normalised_cpu_seconds: float | None = None
    held_memory_bytes: int | None = None
    tuning: Tuning | None = None


@_strict
@dataclass(frozen=True)
class Reproduction:
    """How the model that was built here compares with the claims of the submission.

    `weights_distance` is the largest relative distance of a tensor, `predictions_agree` the share of equal answers on
    the public parts, `score_gap` the largest difference of a public score, of so many `tasks_claimed`.
    """

    weights: Agreement
    predictions: Agreement
    scores: Agreement
    weights_distance: float | None = None
    predictions_agree: float | None = None
    score_gap: float | None = None
    tasks_claimed: int | None = None


@_strict
@dataclass(frozen=True)
class PublicVerdict:
    """A verdict as participants may see it: without private scores, and without the log, which a phase may withhold."""

    outcome: Outcome
    submission: str
    competition: str
    competition_digest: str
    judged: datetime
    reason: Reason | None = None
    message: str = ""
    findings: tuple[Finding, ...] = ()
    evidence: Evidence | None = None
    recipe_digest: str | None = None
    found_recipe: str | None = None
    weights_digest: str | None = None
    reproducible: Literal["bits", "tolerance"] | None = None
    predictions_digest: str | None = None
    public: PublicScores | None = None
    figures: Figures | None = None
    reproduction: Reproduction | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads."""
        return dict(_PUBLIC.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, content: Any) -> "PublicVerdict":
        """Read plain data. Raises SubmissionError for anything but a verdict."""
        return _read(_PUBLIC, content)


@_strict
@dataclass(frozen=True)
class Verdict:
    """All findings of a judge. `submission` and `competition_digest` name the entry; `predictions_digest` that of the
    answers to the public parts. `found_recipe` is the recipe that was found in a search space. Of a submission that is
    not accepted the unknown fields are None."""

    outcome: Outcome
    submission: str
    competition: str
    competition_digest: str
    judged: datetime
    reason: Reason | None = None
    message: str = ""
    findings: tuple[Finding, ...] = ()
    evidence: Evidence | None = None
    recipe_digest: str | None = None
    found_recipe: str | None = None
    weights_digest: str | None = None
    reproducible: Literal["bits", "tolerance"] | None = None
    predictions_digest: str | None = None
    public: PublicScores | None = None
    private: PrivateScores | None = field(default=None, repr=False)
    figures: Figures | None = None
    reproduction: Reproduction | None = None
    likeness: Likeness | None = field(default=None, repr=False)
    log: str = ""

    @property
    def costs_quota(self) -> bool:
        """Say whether the submission counts: failures for our reasons do not."""
        return self.outcome != "errored"

    def for_participants(self) -> PublicVerdict:
        """Return the verdict without private scores, likeness and log."""
        return PublicVerdict(**{each.name: getattr(self, each.name) for each in fields(PublicVerdict)})

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads, private scores and all."""
        return dict(_WHOLE.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, content: Any) -> "Verdict":
        """Read plain data. Raises SubmissionError for anything but a verdict."""
        return _read(_WHOLE, content)


WITHHELD = frozenset(each.name for each in fields(Verdict)) - {each.name for each in fields(PublicVerdict)}
"""What a verdict has that participants may not see."""

_PUBLIC = TypeAdapter(PublicVerdict)
_WHOLE = TypeAdapter(Verdict)


def _read(adapter: TypeAdapter[T], content: Any) -> T:
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise SubmissionError(f"this is no verdict: {first_problem(error)}") from error
