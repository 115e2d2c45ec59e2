"""What a competition hands out, each file with its SHA-256: rules, public tasks, baselines, texts and models.

Nothing is handed out by where it lies. The list is made from `competition.yaml`, and a name that is not in the list
leads nowhere. A file that is private, by whatever path or link, is refused before anything is handed out.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import yaml

from cuvee.checkpoint.hashes import sha256_of
from cuvee.errors import RecipeError
from cuvee.submission.competition import FILE, Competition, CompetitionTask, Model

Kind = Literal["rules", "task", "baseline", "calibration", "model"]

PRIVATE = "private"
"""The organiser's folder, from which nothing is handed out."""

TASK_FILES = (".yaml", ".yml")


@dataclass(frozen=True)
class HandOut:
    """A file for everybody. `name` is its path in a participant's folder, `of` the task, model or text that it is of.

    `hub` is the model's `org/name@commit` where participants get it from a hub, as its `hub_file`. `size` is None for a
    file of such a model that this machine does not have. `place` is where this machine has it; None for the rules,
    whose text is `content`, and for what a hub hands out.
    """

    name: str
    kind: Kind
    of: str
    size: int | None
    sha256: str
    licence: str | None = None
    hub: str | None = None
    hub_file: str | None = None
    place: Path | None = None
    content: bytes | None = None

    @property
    def is_here(self) -> bool:
        """Whether this machine can hand it out."""
        return self.place is not None or self.content is not None


@dataclass(frozen=True)
class DataRoom:
    """All that is handed out, in the order of `competition.yaml`. `missing` names what it lists and nobody has."""

    files: tuple[HandOut, ...]
    missing: tuple[str, ...] = ()
    _by_digest: Mapping[str, HandOut] = field(default_factory=dict)

    def file(self, sha256: str) -> HandOut | None:
        """Return the file that is handed out with exactly this content."""
        return self._by_digest.get(sha256)

    def bytes_of(self, kind: Kind) -> int:
        """Return how large all files of a kind are together, as far as their sizes are known."""
        sizes = [file.size for file in self.files if file.kind == kind]
        return sum(filter(None, sizes))


@dataclass(frozen=True)
class _Listed:
    """A file that the competition names, before anybody has looked whether it is there."""

    name: str
    kind: Kind
    of: str
    sha256: str | None = None
    licence: str | None = None
    hub: str | None = None
    hub_file: str | None = None


def open_data_room(competition: Competition) -> DataRoom:
    """List what a competition hands out. Raises RecipeError for a file that is a private one, by whatever link."""
    text = competition.text.encode()
    files = [HandOut(FILE, "rules", competition.name, len(text), competition.digest, content=text)]
    missing = []
    hidden = _Hidden(competition)
    for listed in dict.fromkeys(_listed(competition)):
        place = competition.folder / listed.name
        hidden.refuse(place, listed)
        if place.is_file() or listed.hub is not None:
            files.append(_handed_out(listed, place))
        else:
            missing.append(listed.name)
    return DataRoom(tuple(files), tuple(missing), {file.sha256: file for file in files})


def _handed_out(listed: _Listed, place: Path) -> HandOut:
    is_here = place.is_file()
    has_copy = is_here and listed.hub is None
    return HandOut(
        name=listed.name,
        kind=listed.kind,
        of=listed.of,
        size=place.stat().st_size if is_here else None,
        sha256=listed.sha256 or sha256_of([place])[place],
        licence=listed.licence,
        hub=listed.hub,
        hub_file=listed.hub_file,
        place=place if has_copy else None,
    )


def _listed(competition: Competition) -> Iterator[_Listed]:
    for task in competition.tasks:
        licence = _licence_of(competition.folder / task.public)
        for name in task_files(competition, task, task.public):
            yield _Listed(name, "task", task.name, licence=licence)
    for name in competition.ranking.baselines:
        yield _Listed(name, "baseline", PurePosixPath(name).stem)
    for text in competition.calibration:
        yield _Listed(text.file, "calibration", text.name, text.sha256, text.licence)
    for model in competition.models:
        yield from _files_of(model)


def _files_of(model: Model) -> Iterator[_Listed]:
    for file, sha256 in model.files.items():
        on_hub = None if model.hub is None else file
        yield _Listed(f"{model.folder}/{file}", "model", model.name, sha256, model.licence, model.hub, on_hub)


def task_files(competition: Competition, task: CompetitionTask, name: str) -> list[str]:
    """Return the files of a task's part, by their names in the folder: the task file, and the data that it names.

    Raises RecipeError for data outside the competition's folder, which no participant would have.
    """
    data = _written(competition.folder / name).get("data")
    if not isinstance(data, str):
        return [name]
    beside = os.path.normpath(PurePosixPath(name).parent / data).replace(os.sep, "/")
    if beside.startswith("../") or PurePosixPath(beside).is_absolute():
        message = f"the data of the task '{task.name}' lie outside the competition's folder"
        raise RecipeError(message, where=f"{name}: data: {data}", hint="put the file beside the task file")
    return [name, beside]


def _licence_of(place: Path) -> str | None:
    licence = _written(place).get("license")
    return licence if isinstance(licence, str) else None


def _written(place: Path) -> dict[str, object]:
    """Return what a task file says; nothing for a bare data file, or for one that the check of tasks will refuse."""
    if place.suffix not in TASK_FILES:
        return {}
    try:
        content = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


class _Hidden:
    """The files that nobody may have: all below the private folder, and of every task the parts and controls that
    are hidden.

    Files are told apart by device and number, so that no link of either sort leads around this.
    """

    def __init__(self, competition: Competition) -> None:
        self._folder = (competition.folder / PRIVATE).resolve()
        self._files: set[tuple[int, int]] = set()
        for task in competition.tasks:
            for name in task.hidden_files:
                self._add_task(competition.folder / name)
        for folder, _, names in os.walk(self._folder):
            for name in names:
                self._add(Path(folder) / name)

    def refuse(self, place: Path, listed: _Listed) -> None:
        """Raise RecipeError for a file that is hidden."""
        is_below = place.resolve().is_relative_to(self._folder)
        if is_below or _number_of(place) in self._files:
            message = f"'{listed.name}' of the {listed.kind} '{listed.of}' would be handed out, and it is private"
            raise RecipeError(message, where=FILE, hint="name a file that participants may have")

    def _add_task(self, place: Path) -> None:
        self._add(place)
        data = _written(place).get("data")
        if isinstance(data, str):
            self._add(place.parent / data)

    def _add(self, place: Path) -> None:
        number = _number_of(place)
        if number is not None:
            self._files.add(number)


def _number_of(place: Path) -> tuple[int, int] | None:
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
