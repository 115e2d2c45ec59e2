"""`competition.yaml` -> Competition, checked key by key; every problem is told with its line.

Only the file itself is read. Whether the task files and models that it names are there is `check_competition`'s matter.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from cuvee.amounts import bytes_of
from cuvee.documents.checked import checked
from cuvee.documents.document import Document, read_document, read_text
from cuvee.documents.shown import shown
from cuvee.errors import CuveeError, RecipeError, several
from cuvee.submission.competition import (
    FILE,
    TIERS,
    About,
    Budget,
    CalibrationText,
    Change,
    Competition,
    CompetitionTask,
    Controls,
    Cost,
    Event,
    Feedback,
    Licences,
    Limit,
    Logs,
    Model,
    Part,
    Phase,
    Policy,
    Quota,
    Ranking,
    Rules,
    Teams,
    TieBreak,
    Tier,
    Track,
    TrackKind,
    Upload,
    Wall,
)

T = TypeVar("T")

MOST_REPORT_BYTES = 20_000_000
"""Reports lie in the database, each as one value."""


def _amount(value: Any) -> Any:
    return bytes_of(value) if isinstance(value, str) else value


def _moment(value: Any) -> datetime:
    """Read a date, which is its first moment, or a date and time; without a zone it is UTC."""
    if not isinstance(value, str):
        raise ValueError("expected a date such as 2026-05-31 or a time such as 2026-05-31T18:00Z")
    found = datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _day(value: Any) -> date:
    if not isinstance(value, str):
        raise ValueError("expected a date such as 2026-05-31")
    return date.fromisoformat(value)


def _inside(value: str) -> str:
    """Refuse a path that leaves the competition's folder."""
    path = PurePosixPath(value)
    leaves = path.is_absolute() or ".." in path.parts
    if leaves or "\\" in value or not path.parts:
        raise ValueError("expected a path within the competition's folder")
    return str(path)


def _lower(values: list[str]) -> list[str]:
    return [value.lower() for value in values]


def _float(value: Any) -> Any:
    return float(value) if type(value) is int else value


Bytes = Annotated[int, BeforeValidator(_amount), Field(gt=0)]
Day = Annotated[date, BeforeValidator(_day)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Inside = Annotated[str, AfterValidator(_inside)]
Keys = Annotated[list[str], AfterValidator(_lower)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Positive = Annotated[float, BeforeValidator(_float), Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
OnHub = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}@[0-9a-f]{40}$")]
RaterName = Annotated[str, Field(pattern=r"^[^\s\x00-\x1f\x7f]+( [^\s\x00-\x1f\x7f]+)*$", max_length=80)]
Address = Annotated[str, Field(pattern=r"^https?://[^\s<>\"]+$", max_length=500)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Change(_Strict):
    version: Count
    date: Day
    what: str


class _Licences(_Strict):
    """Keys as hubs write them, such as apache-2.0. `note` lets a model in and says so beside the submission."""

    allow: Keys = []
    note: Keys = []
    deny: Keys = []
    others: Policy = "deny"
    unstated: Policy = "deny"


class _Rules(_Strict):
    tiers: Annotated[list[Tier], Field(min_length=1)] = ["recipe"]
    max_models: Count | None = None
    max_parameters: Count | None = Field(default=None, description="of a model together with its adapter")
    max_bytes: Bytes | None = Field(default=None, description="of a model's weights together with its adapter's")
    uploaded_before: Day | None = Field(default=None, description="the pinned commit must be older")
    licences: _Licences = _Licences()
    families: list[str] = Field(default=[], description="allowed values of model_type; none: any")
    formats: Annotated[list[Literal["safetensors"]], Field(min_length=1)] = ["safetensors"]
    methods: list[str] = Field(default=[], description="allowed merge methods; none: any")
    hub: bool = Field(default=True, description="whether models of a hub may be used besides those named here")
    gated: Policy = "deny"
    undeclared_merges: Policy = "deny"
    mixed_tokenizers: Policy = Field(default="deny", description="different ones, and no `tokenizer` in the recipe")
    remote_code: Literal["never"] = "never"


class _Budget(_Strict):
    seconds: Positive
    cpu_seconds: Positive | None = Field(default=None, description="of all processors together, beside the clock's")
    memory: Bytes
    disk: Bytes
    tokens: Count | None = None
    tuning_tokens: Count | None = Field(default=None, description="read to tune a recipe, or answered in a search")
    hardware: str = ""
    calibration_seconds: Positive | None = None
    processes: Count = 256
    log: Bytes = 1 << 20


class _Quota(_Strict):
    per_day: Count | None = None
    total: Count | None = None
    at_once: Count | None = None


class _Phase(_Strict):
    name: Name
    opens: Moment
    closes: Moment
    scores: Part = "public"
    feedback: Feedback = "scores"
    logs: Logs = "none"
    quota: _Quota = _Quota()
    selections: Count | None = None
    grace_seconds: Annotated[float, BeforeValidator(_float), Field(ge=0, allow_inf_nan=False)] = 0.0


class _Controls(_Strict):
    shuffled: bool = Field(default=False, description="ask the private items with their choices in another order")
    paraphrases: Inside | None = Field(default=None, description="the same items by id, in other words")
    canaries: Inside | None = Field(default=None, description="items that only a model can answer that has seen them")


class _Task(_Strict):
    name: Name
    public: Inside
    leaderboard: Inside | None = Field(default=None, description="nobody has it, and the board is by it")
    private: Inside | None = None
    controls: _Controls = _Controls()
    weight: Positive = 1.0
    metrics: list[str] = []
    limit: Count | None = Field(default=None, description="only the first items of each part")


class _Model(_Strict):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    folder: Inside
    files: Annotated[dict[str, Sha256], Field(min_length=1)]
    license: str | None = None
    uploaded: Day | None = None
    hub: OnHub | None = Field(default=None, description="org/name@commit, where participants get it")


class _CalibrationText(_Strict):
    name: Name
    file: Inside
    sha256: Sha256
    license: str | None = None
    task: str | None = Field(default=None, description="the task that the text is like; none: it is general")


class _Event(_Strict):
    date: Day
    what: str


class _About(_Strict):
    """Text for the first page; none of it is read as HTML."""

    prizes: list[str] = []
    news: list[_Event] = []
    contact: str = ""
    citation: str = ""
    forum: Address | None = None


class _Ranking(_Strict):
    tie_breaks: list[TieBreak] = ["earlier"]
    baselines: list[Inside] = []


class _Within(_Strict):
    tokens: Count | None = Field(default=None, description="of the answers on the board's items")
    cpu_seconds: Positive | None = Field(default=None, description="of all processors together, as control groups tell")
    tuning_tokens: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="read to tune a recipe, or answered in a search; 0 keeps out what the judge tunes"
    )


class _Upload(_Strict):
    max: Annotated[Bytes, Field(le=MOST_REPORT_BYTES)] = 5_000_000
    closes: Moment | None = Field(default=None, description="by default the end of the last phase that takes entries")
    published: bool = Field(default=False, description="whether everybody reads the reports after the reveal")


class _Track(_Strict):
    name: Name
    by: TrackKind
    title: Annotated[str, Field(max_length=60)] = ""
    description: str = ""
    within: _Within | None = None
    at_least: Annotated[float, BeforeValidator(_float), Field(ge=0, le=1)] = 0.0
    scale: Positive = 10.0
    upload: _Upload | None = Field(default=None, description="how reports are handed in on the site; none: elsewhere")
    raters: Annotated[list[RaterName], Field(max_length=50)] = Field(default=[], description="who rates reports")


class _Teams(_Strict):
    max_members: Count = 5
    registration: Literal["open", "invited"] = "open"


class CompetitionDocument(_Strict):
    """A competition: rules, budget, phases and tasks."""

    name: Name
    title: str
    description: str = ""
    version: Count
    changelog: Annotated[list[_Change], Field(min_length=1)]
    rules: _Rules = _Rules()
    budget: _Budget
    phases: Annotated[list[_Phase], Field(min_length=1)]
    tasks: Annotated[list[_Task], Field(min_length=1)]
    models: list[_Model] = []
    calibration: list[_CalibrationText] = []
    ranking: _Ranking = _Ranking()
    tracks: Annotated[list[_Track], Field(max_length=8)] = []
    teams: _Teams = _Teams()
    about: _About = _About()
    without: list[Wall] = []
    public_key: Annotated[str, Field(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")] | None = None


def load_competition(path: Path | str) -> Competition:
    """Read a `competition.yaml`, or that in a folder. Raises RecipeError that holds every problem with its line."""
    place = Path(path)
    file = place / FILE if place.is_dir() else place
    return parse_competition(read_text(file, "competition"), folder=file.parent.absolute(), source=str(file))


def find_competition(folder: Path | None) -> Path | None:
    """Find a competition's file in a folder, in the nearest one above it, or else from the current folder upwards."""
    for start in (folder, Path.cwd()):
        if start is None:
            continue
        for above in (start.absolute(), *start.absolute().parents):
            if (above / FILE).is_file():
                return above / FILE
    return None


def parse_competition(text: str, *, folder: Path, source: str = FILE) -> Competition:
    """Read a competition from text. Raises RecipeError that holds every problem with its line."""
    document = read_document(text, source)
    written = checked(CompetitionDocument, document)
    problems = list(_contradictions(written, document))
    if problems:
        raise several(problems)
    return _competition(written, text, folder)


def _contradictions(written: CompetitionDocument, document: Document) -> Iterator[CuveeError]:
    """Find problems that no single key shows."""
    versions = [change.version for change in written.changelog]
    if versions != sorted(set(versions)) or versions[-1] != written.version:
        message = f"the changelog ends at version {versions[-1]}, in rising order; the file says {written.version}"
        yield RecipeError(message, where=document.place(("changelog",)), hint="add what was changed, last")
    yield from _repeated(written.tasks, "tasks", lambda task: task.name, document)
    yield from _repeated(written.phases, "phases", lambda phase: phase.name, document)
    yield from _repeated(written.models, "models", lambda model: model.name, document)
    yield from _repeated(written.calibration, "calibration", lambda text: text.name, document)
    yield from _repeated(written.tracks, "tracks", lambda track: track.name, document)
    for i, track in enumerate(written.tracks):
        for message, hint in _odd_tracks(track):
            yield RecipeError(message, where=document.place(("tracks", i)), hint=hint)
    for i, phase in enumerate(written.phases):
        if phase.closes <= phase.opens:
            yield RecipeError("the phase closes before it opens", where=document.place(("phases", i, "closes")))
        if i and phase.opens < written.phases[i - 1].closes:
            message = f"the phase opens before '{written.phases[i - 1].name}' closes"
            yield RecipeError(message, where=document.place(("phases", i, "opens")))
    for i, task in enumerate(written.tasks):
        if task.private is not None and task.private == task.public:
            message = "the private part is the public one"
            yield RecipeError(message, where=document.place(("tasks", i, "private")))
        if task.leaderboard is not None and task.leaderboard in (task.public, task.private):
            message = "the leaderboard part is another part, too"
            yield RecipeError(message, where=document.place(("tasks", i, "leaderboard")))
        controls = task.controls
        has_controls = any((controls.shuffled, controls.paraphrases, controls.canaries))
        if task.private is None and has_controls:
            message = f"the task {shown(task.name)} has controls and no private part, beside which they are asked"
            yield RecipeError(message, where=document.place(("tasks", i, "controls")))
    tasks = [task.name for task in written.tasks]
    for i, text in enumerate(written.calibration):
        if text.task is not None and text.task not in tasks:
            message = f"there is no task {shown(text.task)}"
            yield RecipeError(
                message, where=document.place(("calibration", i, "task")), hint=f"tasks: {', '.join(tasks)}"
            )
    if "sandbox" in written.without and written.rules.tiers != ["recipe"]:
        message = "'without' has 'sandbox', and a tier brings code, which runs in a sandbox or not at all"
        hint = "take 'sandbox' out, or let 'rules.tiers' be [recipe]"
        yield RecipeError(message, where=document.place(("without",)), hint=hint)
    shows_private = any(phase.scores == "private" for phase in written.phases)
    has_private = any(task.private for task in written.tasks)
    if shows_private and not has_private:
        yield RecipeError(
            "a phase shows private scores, and no task has a private part", where=document.place(("tasks",))
        )


def _odd_tracks(track: _Track) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a track, and what to do."""
    count = len(_limits(track.within))
    if track.by == "score" and count != 1:
        hint = (
            "`within: {tokens: 2000000}`, `{cpu_seconds: 60}` or `{tuning_tokens: 100000}`; the ranking by score alone "
            "is always there"
        )
        yield f"the track {shown(track.name)} by score needs one limit, and has {count}", hint
    if track.by != "score" and track.within is not None:
        yield f"the track {shown(track.name)} is by '{track.by}', which has no limit", "take `within` out"
    if track.by == "report" and track.at_least:
        yield f"the track {shown(track.name)} is by 'report', which has no score", "take `at_least` out"

    if track.by != "report" and (track.upload or track.raters):
        what = "`upload`" if track.upload else "`raters`"
        yield f"the track {shown(track.name)} is by '{track.by}', which has no reports", f"take {what} out"
    if len(set(track.raters)) < len(track.raters):
        yield f"the track {shown(track.name)} names a rater twice", "name each once"


def _repeated(entries: Sequence[T], key: str, name: Callable[[T], str], document: Document) -> Iterator[CuveeError]:
    names = [name(entry) for entry in entries]
    for i, one in enumerate(names):
        if one in names[:i]:
            yield RecipeError(f"two {key} are named {shown(one)}", where=document.place((key, i)))


def _change(written: _Change) -> Change:
    return Change(written.version, written.date, written.what)


def _model(written: _Model) -> Model:
    return Model(written.name, written.folder, dict(written.files), written.license, written.uploaded, written.hub)


def _calibration_text(written: _CalibrationText) -> CalibrationText:
    return CalibrationText(written.name, written.file, written.sha256, written.license, written.task)


def _competition(written: CompetitionDocument, text: str, folder: Path) -> Competition:
    rules, budget = written.rules, written.budget
    return Competition(
        name=written.name,
        title=written.title,
        version=written.version,
        changelog=tuple(map(_change, written.changelog)),
        rules=Rules(
            tiers=tuple(tier for tier in TIERS if tier in rules.tiers),
            max_models=rules.max_models,
            max_parameters=rules.max_parameters,
            max_bytes=rules.max_bytes,
            uploaded_before=rules.uploaded_before,
            licences=_licences(rules.licences),
            families=tuple(rules.families),
            formats=tuple(rules.formats),
            methods=tuple(rules.methods),
            hub=rules.hub,
            gated=rules.gated,
            undeclared_merges=rules.undeclared_merges,
            mixed_tokenizers=rules.mixed_tokenizers,
        ),
        budget=Budget(
            seconds=budget.seconds,
            memory_bytes=budget.memory,
            disk_bytes=budget.disk,
            tokens=budget.tokens,
            tuning_tokens=budget.tuning_tokens,
            hardware=budget.hardware,
            calibration_seconds=budget.calibration_seconds,
            processes=budget.processes,
            log_bytes=budget.log,
            cpu_seconds=budget.cpu_seconds,
        ),
        phases=tuple(map(_phase, written.phases)),
        tasks=tuple(map(_task, written.tasks)),
        models=tuple(map(_model, written.models)),
        ranking=Ranking(tuple(written.ranking.tie_breaks), tuple(written.ranking.baselines)),
        tracks=tuple(map(_track, written.tracks)),
        teams=Teams(written.teams.max_members, written.teams.registration),
        public_key=written.public_key,
        description=written.description,
        text=text,
        folder=folder,
        without=tuple(written.without),
        calibration=tuple(map(_calibration_text, written.calibration)),
        about=_about(written.about),
    )


def _task(written: _Task) -> CompetitionTask:
    controls = written.controls
    return CompetitionTask(
        name=written.name,
        public=written.public,
        private=written.private,
        weight=written.weight,
        metrics=tuple(written.metrics),
        limit=written.limit,
        leaderboard=written.leaderboard,
        controls=Controls(controls.shuffled, controls.paraphrases, controls.canaries),
    )


def _track(written: _Track) -> Track:
    limit = next(iter(_limits(written.within)), None)
    upload = written.upload
    return Track(
        name=written.name,
        title=written.title or written.name,
        by=written.by,
        description=written.description,
        within=limit,
        at_least=written.at_least,
        scale=written.scale,
        upload=None if upload is None else Upload(upload.max, upload.closes, upload.published),
        raters=tuple(written.raters),
    )


def _limits(within: _Within | None) -> list[Limit]:
    """Return the limits that a track names, of which it may have one."""
    if within is None:
        return []
    named: tuple[tuple[Cost, float | None], ...] = (
        ("tokens", within.tokens),
        ("cpu_seconds", within.cpu_seconds),
        ("tuning_tokens", within.tuning_tokens),
    )
    return [Limit(cost, most) for cost, most in named if most is not None]


def _about(written: _About) -> About:
    return About(
        prizes=tuple(written.prizes),
        news=tuple(Event(event.date, event.what) for event in written.news),
        contact=written.contact,
        citation=written.citation,
        forum=written.forum or "",
    )


def _licences(written: _Licences) -> Licences:
    lists = (tuple(written.allow), tuple(written.note), tuple(written.deny))
    return Licences(*lists, others=written.others, unstated=written.unstated)


def _phase(written: _Phase) -> Phase:
    return Phase(
        name=written.name,
        opens=written.opens,
        closes=written.closes,
        scores=written.scores,
        feedback=written.feedback,
        logs=written.logs,
        quota=Quota(written.quota.per_day, written.quota.total, written.quota.at_once),
        selections=written.selections,
        grace_seconds=written.grace_seconds,
    )
