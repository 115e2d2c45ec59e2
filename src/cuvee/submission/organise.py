"""Checks that a competition holds together: its files are there and unchanged, and its baselines keep its rules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cuvee.checkpoint.hashes import sha256_of
from cuvee.errors import CuveeError, PlatformError, RecipeError
from cuvee.evaluation import Task
from cuvee.hub import Hub
from cuvee.submission.assemble import Entry, check_entry
from cuvee.submission.competition import Competition
from cuvee.submission.data_room import open_data_room
from cuvee.submission.measure import Parts, load_parts
from cuvee.submission.sandbox import Plain
from cuvee.submission.sandbox.choose import find_walls
from cuvee.submission.sign import public_key, read_key
from cuvee.submission.template import KEY


@dataclass(frozen=True)
class Overview:
    """The contents of a competition: items of public and private parts, models, the sandbox of this machine.

    `problems` must be solved before it opens; `notes` are for the organiser to know. `counts` are the items of each
    part by task.
    """

    public_items: int
    private_items: int
    models: int
    sandbox: str
    problems: tuple[CuveeError, ...]
    notes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]


def check_competition(competition: Competition, hub: Hub) -> Overview:
    """Look at all that a competition names. Problems are gathered, none is raised."""
    problems = [*_model_problems(competition), *_baseline_problems(competition, hub), *_key_problems(competition)]
    problems += _data_room_problems(competition)
    parts = Parts({}, {})
    try:
        parts = load_parts(competition, competition.folder)
    except PlatformError as error:
        problems.append(RecipeError(error.message, where=error.where))
    problems += _shared_items(parts)
    public, private = _items(parts.public), _items(parts.private)
    sandbox = find_walls().sandbox
    notes = tuple(_notes(competition))
    name = sandbox.name if sandbox else Plain().name
    counts = {"public": _counts(parts.board), "private": _counts(parts.private)}
    return Overview(public, private, len(competition.models), name, tuple(problems), notes, counts)


def _counts(part: Mapping[str, Task]) -> dict[str, int]:
    return {name: len(task.samples) for name, task in part.items()}


def _model_problems(competition: Competition) -> Iterator[CuveeError]:
    for model in competition.models:
        folder = competition.folder / model.folder
        try:
            found = sha256_of([folder / name for name in model.files])
        except CuveeError as error:
            yield error
            continue
        for name, sha256 in model.files.items():
            if found[folder / name] != sha256:
                yield RecipeError("the file is not the one that the competition names", where=str(folder / name))


def _data_room_problems(competition: Competition) -> Iterator[CuveeError]:
    """Yield a problem for a file that would be handed out and is private, and for texts that have changed."""
    try:
        open_data_room(competition)
    except CuveeError as error:
        yield error
    for text in competition.calibration:
        place = competition.folder / text.file
        try:
            found = sha256_of([place])[place]
        except CuveeError as error:
            yield error
            continue
        if found != text.sha256:
            yield RecipeError("the file is not the one that the competition names", where=str(place))


def _baseline_problems(competition: Competition, hub: Hub) -> Iterator[CuveeError]:
    for name in competition.ranking.baselines:
        try:
            _, findings = check_entry(Entry(recipe=competition.folder / name), competition, hub)
        except CuveeError as error:
            yield error
            continue
        for finding in findings:
            if finding.outcome == "fail":
                yield RecipeError(f"the baseline breaks the rule '{finding.rule}': {finding.message}", where=name)


def _key_problems(competition: Competition) -> Iterator[CuveeError]:
    place = competition.folder / KEY
    if competition.public_key is None or not place.is_file():
        return
    try:
        if public_key(read_key(place)) != competition.public_key:
            yield RecipeError("the private key is not that of the public key", where=str(place))
    except CuveeError as error:
        yield error


def _shared_items(parts: Parts) -> Iterator[CuveeError]:
    """Yield a problem for each task whose hidden parts ask the same as its public part, or as one another."""
    pairs = (
        ("private", parts.private, "public", parts.public),
        ("leaderboard", parts.leaderboard, "public", parts.public),
        ("private", parts.private, "leaderboard", parts.leaderboard),
    )
    for name, part, other_name, other in pairs:
        for task in part.keys() & other.keys():
            shown = {sample.input for sample in other[task].samples}
            shared = sum(sample.input in shown for sample in part[task].samples)
            if shared:
                message = f"{shared} items of the {name} part are in the {other_name} one"
                yield RecipeError(message, where=f"task '{task}'")


def without_licence(competition: Competition) -> list[str]:
    """Name the models and texts that a competition hands out and says no licence of."""
    models = [model.name for model in competition.models if model.licence is None]
    return models + [text.name for text in competition.calibration if text.licence is None]


def _items(tasks: Mapping[str, Task]) -> int:
    return sum(len(task.samples) for task in tasks.values())


def _notes(competition: Competition) -> Iterator[str]:
    yield from find_walls().notes(competition.rules.tiers)
    if competition.public_key is None:
        yield "no public key: verdicts are not signed"
    without = [task.name for task in competition.tasks if task.private is None]
    if without:
        yield f"no private part: {', '.join(without)}"
    missing = [name for name in ("contact", "citation", "prizes") if not getattr(competition.about, name)]
    if missing:
        yield f"the first page has no {', no '.join(missing)}: see 'about'"
    if not competition.ranking.baselines:
        yield "no baselines: nobody sees what a plain merge reaches"
    if not any(phase.scores == "private" for phase in competition.phases):
        yield "no phase shows private scores: nobody sees when the final ranking comes"
    if unlicensed := without_licence(competition):
        yield f"no licence: {', '.join(unlicensed)}"
    if all(phase.closes <= datetime.now(UTC) for phase in competition.phases):
        yield f"all phases are over: the last one closed at {competition.phases[-1].closes:%Y-%m-%d %H:%M} UTC"
    if competition.budget.calibration_seconds is None:
        yield "no calibration: seconds count as they are, on a slow machine as on a fast one"
