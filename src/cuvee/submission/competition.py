"""`Competition`: rules, budget, phases and tasks of a competition as frozen data."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal, cast, get_args

from cuvee.errors import RecipeError

Tier = Literal["recipe", "plugin", "program"]
"""Who writes code that runs: nobody; one method file; a whole program. Each includes those before it."""

TIERS: tuple[Tier, ...] = ("recipe", "plugin", "program")

Wall = Literal["sandbox", "cgroup", "filesystem"]
"""What holds a job on the judge's machine: walls around it, the kernel's limits on memory and processes, on disk."""

Policy = Literal["allow", "note", "deny"]
Part = Literal["public", "private"]
Feedback = Literal["scores", "ladder", "none"]
Logs = Literal["all", "none"]
TieBreak = Literal["cost", "tokens", "parameters", "earlier"]
TrackKind = Literal["score", "score_per_token", "claim_gap", "report"]
Cost = Literal["tokens", "cpu_seconds", "tuning_tokens"]

FILE = "competition.yaml"


@dataclass(frozen=True)
class Change:
    """A version of the competition file: since when, and its changes."""

    version: int
    date: date
    what: str


@dataclass(frozen=True)
class Licences:
    """The answer to each licence; `others` to those not listed, `unstated` to none at all."""

    allow: tuple[str, ...] = ()
    note: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    others: Policy = "deny"
    unstated: Policy = "deny"

    def policy(self, licence: str | None) -> Policy:
        """Return the lists' answer to a licence, by its key on a hub in small letters."""
        if licence is None:
            return self.unstated
        key = licence.lower()
        listed: tuple[tuple[Policy, tuple[str, ...]], ...] = (
            ("deny", self.deny),
            ("note", self.note),
            ("allow", self.allow),
        )
        return next((policy for policy, names in listed if key in names), self.others)


@dataclass(frozen=True)
class Rules:
    """The parts that a submission may be made of. None stands for no limit.

    `max_parameters` and `max_bytes` count a model together with its adapter. `families` are values of `model_type` in
    a config. `uploaded_before` is compared with the date of the pinned commit. `hub` says whether models of a hub may
    be used besides those that the competition names, `mixed_tokenizers` whether models of different vocabularies may be
    merged by a recipe that does not say which of them the output has.
    """

    tiers: tuple[Tier, ...] = ("recipe",)
    max_models: int | None = None
    max_parameters: int | None = None
    max_bytes: int | None = None
    uploaded_before: date | None = None
    licences: Licences = Licences()
    families: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("safetensors",)
    methods: tuple[str, ...] = ()
    hub: bool = True
    gated: Policy = "deny"
    undeclared_merges: Policy = "deny"
    mixed_tokenizers: Policy = "deny"


@dataclass(frozen=True)
class Budget:
    """The budget of judging a submission. Seconds are those of a machine that calibrates in `calibration_seconds`.

    `cpu_seconds` are those of all processors together, and count beside the clock's; None is no limit on them.
    `tuning_tokens` may be read of the competition's texts to tune a recipe, or answered in a search.
    `log_bytes` and `processes` bound the output of code in the sandbox and the processes that it may start.
    """

    seconds: float
    memory_bytes: int
    disk_bytes: int
    tokens: int | None = None
    tuning_tokens: int | None = None
    hardware: str = ""
    calibration_seconds: float | None = None
    processes: int = 256
    log_bytes: int = 1 << 20
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class Quota:
    """How many submissions of a team count in a phase; None is no limit."""

    per_day: int | None = None
    total: int | None = None
    at_once: int | None = None


@dataclass(frozen=True)
class Phase:
    """A stretch of time. `scores` says which part its board shows; `selections` how many submissions a team may choose
    for the phase after it. `feedback` and `logs` say how much a team sees of its own."""

    name: str
    opens: datetime
    closes: datetime
    scores: Part = "public"
    feedback: Feedback = "scores"
    logs: Logs = "none"
    quota: Quota = Quota()
    selections: int | None = None
    grace_seconds: float = 0.0

    def is_open(self, now: datetime) -> bool:
        """Say whether a submission that the server receives now belongs to this phase."""
        return self.opens <= now and (now - self.closes).total_seconds() < self.grace_seconds


@dataclass(frozen=True)
class Controls:
    """What the final asks besides, to see whether a score owes to items that have leaked.

    `shuffled`: the private items with their choices in another order. `paraphrases`: a file with private items in other
    words. `canaries`: a file with items that nobody can answer who has not seen them.
    """

    shuffled: bool = False
    paraphrases: str | None = None
    canaries: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files that nobody may have."""
        return tuple(name for name in (self.paraphrases, self.canaries) if name is not None)


@dataclass(frozen=True)
class CompetitionTask:
    """A task of which participants have the public part. Paths are relative to the competition's folder.

    Without `metrics` those of the task file count. A task without private part has no say in the final ranking. With a
    `leaderboard` part, which nobody has, the board is by that part instead of the public part.
    """

    name: str
    public: str
    private: str | None = None
    weight: float = 1.0
    metrics: tuple[str, ...] = ()
    limit: int | None = None
    leaderboard: str | None = None
    controls: Controls = Controls()

    @property
    def hidden_files(self) -> tuple[str, ...]:
        """Return the task files that nobody may have."""
        parts = tuple(name for name in (self.private, self.leaderboard) if name is not None)
        return (*parts, *self.controls.files)


@dataclass(frozen=True)
class Model:
    """A model that the competition hands out: the name in recipes, its folder, SHA-256 of its files.

    `card` facts stand in for a hub's facts of it. `hub` is where participants get it, as `org/name@commit`;
    without it the server hands the files out itself.
    """

    name: str
    folder: str
    files: Mapping[str, str]
    licence: str | None = None
    uploaded: date | None = None
    hub: str | None = None


@dataclass(frozen=True)
class CalibrationText:
    """A text that recipes may calibrate by: its file, the SHA-256 of it, and the task that it is like, if any."""

    name: str
    file: str
    sha256: str
    licence: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class Event:
    """A piece of news."""

    date: date
    what: str


@dataclass(frozen=True)
class About:
    """Facts for people besides the rules: prizes, news, whom to ask, how to cite, where to talk."""

    prizes: tuple[str, ...] = ()
    news: tuple[Event, ...] = ()
    contact: str = ""
    citation: str = ""
    forum: str = ""


@dataclass(frozen=True)
class Ranking:
    """How submissions of equal score are ordered. The score is the average of the tasks' main metrics by weight."""

    tie_breaks: tuple[TieBreak, ...] = ("earlier",)
    baselines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limit:
    """The most that an entry of a track may cost: tokens of its answers, seconds of all processors together, or tokens
    that were read to tune it and answered in its search.
    """

    cost: Cost
    most: float


@dataclass(frozen=True)
class Upload:
    """How teams hand reports in on the site: a file of at most `max_bytes`, replaced until `closes`.

    `closes` is None for the end of the last phase that takes entries. Where `published`, everybody reads the reports
    once the final ranking is out.
    """

    max_bytes: int
    closes: datetime | None = None
    published: bool = False


@dataclass(frozen=True)
class Track:
    """A ranking beside the main ranking, with a board and a final of its own.

    `by` is what counts: the score of entries within a limit, the score for each token, the gap between the score that
    a team claims and that of the judge, or what raters give a written report, from 0 to `scale`. Entries that score
    less than `at_least` on the board have no place.

    `upload` says how reports are handed in, None where that is done elsewhere. `raters` may read and rate them with
    tokens of their own.
    """

    name: str
    title: str
    by: TrackKind
    description: str = ""
    within: Limit | None = None
    at_least: float = 0.0
    scale: float = 10.0
    upload: Upload | None = None
    raters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Teams:
    """Who may take part."""

    max_members: int = 5
    registration: Literal["open", "invited"] = "open"


@dataclass(frozen=True)
class Competition:
    """A competition at one version of its file. `folder` is where the paths in it lead from; `text` is the file.

    `public_key` checks the signatures of verdicts; None where the organiser signs nothing. `without` names the walls
    that a machine which judges code may lack.
    """

    name: str
    title: str
    version: int
    changelog: tuple[Change, ...]
    rules: Rules
    budget: Budget
    phases: tuple[Phase, ...]
    tasks: tuple[CompetitionTask, ...]
    models: tuple[Model, ...]
    ranking: Ranking
    teams: Teams
    public_key: str | None
    description: str
    text: str
    folder: Path
    without: tuple[Wall, ...] = ()
    calibration: tuple[CalibrationText, ...] = ()
    about: About = About()
    tracks: tuple[Track, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the file's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def selections(self) -> int:
        """How many submissions of a team go into the final ranking."""
        return next((phase.selections for phase in self.phases if phase.selections), 1)

    @property
    def hides_board(self) -> bool:
        """Say whether the board is by items that nobody has."""
        return any(task.leaderboard is not None for task in self.tasks)

    def phase(self, now: datetime) -> Phase | None:
        """Return the phase that is open, if any; the earlier of two."""
        return next((phase for phase in self.phases if phase.is_open(now)), None)

    @property
    def public_phases(self) -> tuple[Phase, ...]:
        """The phases that take entries and show public scores: those with a board."""
        return tuple(phase for phase in self.phases if phase.scores == "public")

    @property
    def first_public_phase(self) -> Phase | None:
        """The phase whose board is shown first, if any board is shown."""
        return next(iter(self.public_phases), None)

    def phase_named(self, name: str) -> Phase | None:
        """Return a phase by its name; None where there is none."""
        return next((phase for phase in self.phases if phase.name == name), None)

    def track(self, name: str) -> Track | None:
        """Return a track by its name; None where there is none."""
        return next((track for track in self.tracks if track.name == name), None)

    def upload_closes(self, track: Track) -> datetime:
        """Return until when reports of a track are taken."""
        if track.upload is not None and track.upload.closes is not None:
            return track.upload.closes
        taking = self.public_phases or self.phases
        return max(phase.closes for phase in taking)

    def task(self, name: str) -> CompetitionTask:
        """Return a task by its name."""
        return next(task for task in self.tasks if task.name == name)


def read_wall(name: str) -> Wall:
    """Read the name of a wall as a command is given it. Raises RecipeError for any other name."""
    for wall in get_args(Wall):
        if name == wall:
            return cast("Wall", wall)
    walls = ", ".join(get_args(Wall))
    raise RecipeError(f"there is no wall {name!r}", hint=f"expected one of {walls}")
