"""`cuvee competition get`: brings what a competition hands out into a folder, whole and checked.

The server is asked for a list, and then for each file by the SHA-256 of its content. A download that was stopped goes
on where it was. What a server says is not believed: names stay below the folder, and a file with another SHA-256 than
the list says is thrown away.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cuvee.amounts import bytes_text
from cuvee.competition.client import FIRST_WAIT, LONGEST_WAIT, TRIES, TRY_AGAIN, Client, checked
from cuvee.errors import CheckpointError, OutOfBudget, PlatformError, RecipeError
from cuvee.hub import Hub, download, find_repository
from cuvee.progress import Progress

CHUNK_BYTES = 1 << 18
MOST_FILES = 20_000
MOST_NAMED = 5
"""Files that an error names one by one."""

DEVICES = frozenset({"con", "prn", "aux", "nul"})
"""Names that are no files on Windows."""


def _below(name: str) -> str:
    """Refuse a name that leads out of the folder, or that some system takes for something else than a file."""
    is_plain = name.isprintable() and set(name).isdisjoint("\\:")
    if name.startswith(".") or not is_plain or any(map(_is_odd, name.split("/"))):
        raise ValueError(f"the name {name[:80]!r} is none that a file below a folder may have")
    return name


def _is_odd(part: str) -> bool:
    return part in ("", ".", "..") or part.partition(".")[0].lower() in DEVICES


Name = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_below)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ListedFile(BaseModel):
    """One file of the list."""

    model_config = ConfigDict(frozen=True)

    name: Name
    kind: str
    of: str
    size: Annotated[int, Field(ge=0)] | None
    sha256: Sha256
    hub: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}@[0-9a-f]{40}$")] | None = None
    hub_file: Name | None = None


class Listing(BaseModel):
    """What the server says that it hands out."""

    model_config = ConfigDict(frozen=True)

    competition: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    version: int
    files: Annotated[tuple[ListedFile, ...], Field(max_length=MOST_FILES)]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fetched:
    """What came of it: names of files that were brought, of those that were there, of those that were left out."""

    folder: Path
    competition: str
    version: int
    brought: tuple[str, ...]
    kept: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]
    bytes: int


def get(
    client: Client,
    folder: Path | None,
    *,
    models: bool,
    overwrite: bool,
    hub: Hub,
    progress: Progress,
) -> Fetched:
    """Bring all files of a competition into a folder: by default one of its name, here.

    Files that are there and right are kept. Raises RecipeError where one is there that differs, unless `overwrite`.
    """
    listing = ask_for_list(client)
    target = folder if folder is not None else Path(listing.competition)
    wanted = list(listing.files)
    if not models:
        wanted = [file for file in listing.files if file.kind != "model"]
    absent = _absent(wanted, target, overwrite=overwrite)
    own = [file for file in absent if file.hub is None]
    _refuse_small_disk(own, target)
    progress.start(f"getting {listing.competition}", _bytes_of(own), "bytes")
    for number, file in enumerate(own, start=1):
        _bring(client, file, target, progress)
        progress.note(f"{number} of {len(own)} files")
    progress.finish()
    _bring_from_hub([file for file in absent if file.hub is not None], target, hub, progress)
    present = [file for file in wanted if file not in absent]
    left_out = [file for file in listing.files if file not in wanted]
    return Fetched(
        folder=target,
        competition=listing.competition,
        version=listing.version,
        brought=_names(absent),
        kept=_names(present),
        left_out=_names(left_out),
        missing=listing.missing,
        bytes=_bytes_of(absent),
    )


def _names(files: Sequence[ListedFile]) -> tuple[str, ...]:
    return tuple(file.name for file in files)


def _bytes_of(files: Sequence[ListedFile]) -> int:
    return sum(filter(None, [file.size for file in files]))


def ask_for_list(client: Client) -> Listing:
    """Ask the server what it hands out. Raises CuveeError for an answer that is no list."""
    try:
        return Listing.model_validate(client.data())
    except ValidationError as error:
        first = error.errors()[0]
        message = f"what the server lists cannot be used: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise PlatformError(message, where=client.server, hint="tell the organiser") from error


def _absent(wanted: Sequence[ListedFile], folder: Path, *, overwrite: bool) -> list[ListedFile]:
    """Return the files that are not there yet. Raises RecipeError for those that are there and differ."""
    absent, other = [], []
    for file in wanted:
        place = folder / file.name
        if place.is_file() and _sha256(place) == file.sha256:
            continue
        if place.exists():
            other.append(file.name)
        absent.append(file)
    if other and not overwrite:
        more = f" and {len(other) - MOST_NAMED} more" if len(other) > MOST_NAMED else ""
        message = f"not the competition's, or of another version of its rules: {', '.join(other[:MOST_NAMED])}{more}"
        raise RecipeError(message, where=str(folder), hint="move what is yours away, or replace it by --overwrite")
    return absent


def _refuse_small_disk(files: Sequence[ListedFile], folder: Path) -> None:
    needed = _bytes_of(files) - sum(_arrived(_partial(folder, file)) for file in files)
    above = folder.absolute()
    while not above.exists():
        above = above.parent
    free = shutil.disk_usage(above).free
    if needed > free:
        message = f"the files take {bytes_text(needed)}, and there is room for {bytes_text(free)}"
        raise OutOfBudget(message, where=str(folder), hint="free some space, or leave the models out by --no-models")


def _bring(client: Client, file: ListedFile, folder: Path, progress: Progress) -> None:
    """Download a file beside its place, go on where an earlier try was, check it, and put it there."""
    place, partial = folder / file.name, _partial(folder, file)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        progress.advance(_arrived(partial))
        _download(client, file, partial, progress)
        if _sha256(partial) != file.sha256:
            partial.unlink()
            message = "what has arrived has another SHA-256 than the server's list says"
            raise CheckpointError(message, where=file.name, hint="try again; if it stays so, tell the organiser")
        os.replace(partial, place)
    except OSError as error:
        raise CheckpointError(f"cannot write it: {error.strerror}", where=str(place)) from error


def _download(client: Client, file: ListedFile, partial: Path, progress: Progress) -> None:
    wait, trouble = FIRST_WAIT, ""
    for attempt in range(TRIES):
        if attempt:
            client.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        try:
            trouble = _go_on(client, file, partial, progress)
        except httpx2.HTTPError as error:
            trouble = f"{type(error).__name__}: {error}"
        if not trouble:
            return
    raise PlatformError(f"'{file.name}' does not come: {trouble}", where=client.server, hint="run the same again later")


def _go_on(client: Client, file: ListedFile, partial: Path, progress: Progress) -> str:
    """Download what is missing of a file. Return why it may be tried again, or nothing where all is there."""
    arrived = _arrived(partial)
    if file.size is not None and arrived >= file.size > 0:
        return ""
    headers = {"Range": f"bytes={arrived}-"} if arrived else {}
    with client.http.stream("GET", f"{client.address}/api/data/{file.sha256}", headers=headers) as response:
        if response.status_code in TRY_AGAIN:
            return f"HTTP {response.status_code}"
        if response.status_code >= 400:
            response.read()
            checked(response)
        with partial.open("ab" if response.status_code == 206 else "wb") as opened:
            for piece in response.iter_bytes(CHUNK_BYTES):
                opened.write(piece)
                progress.advance(len(piece))
                _refuse_too_long(file, opened.tell())
    short = file.size is not None and _arrived(partial) < file.size
    return "it ended early" if short else ""


def _refuse_too_long(file: ListedFile, count: int) -> None:
    if file.size is not None and count > file.size:
        message = f"the server sends more than the {file.size} bytes of its list"
        raise CheckpointError(message, where=file.name, hint="tell the organiser")


def _bring_from_hub(files: Sequence[ListedFile], folder: Path, hub: Hub, progress: Progress) -> None:
    """Download files of models at their pinned commits, and put copies of them into the folder."""
    for model in dict.fromkeys(file.hub for file in files if file.hub is not None):
        name, _, commit = model.partition("@")
        repository = find_repository(hub, name, commit)
        of_model = [file for file in files if file.hub == model]
        theirs = {file.hub_file: file for file in of_model if file.hub_file is not None}
        absent = sorted(theirs.keys() - repository.files.keys())
        if absent:
            raise CheckpointError(f"the hub has no '{absent[0]}' of it", where=model, hint="tell the organiser")
        download(hub, repository, theirs, progress)
        for on_hub, file in theirs.items():
            _copy(repository.folder / on_hub, folder / file.name, file)


def _copy(source: Path, place: Path, file: ListedFile) -> None:
    if _sha256(source) != file.sha256:
        message = "the hub's file has another SHA-256 than the competition names"
        raise CheckpointError(message, where=f"{file.hub}/{file.hub_file}", hint="tell the organiser")
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.{file.sha256[:16]}.part")
    shutil.copyfile(source, partial)
    os.replace(partial, place)


def _partial(folder: Path, file: ListedFile) -> Path:
    place = folder / file.name
    return place.with_name(f".{place.name}.{file.sha256[:16]}.part")


def _arrived(partial: Path) -> int:
    return partial.stat().st_size if partial.is_file() else 0


def _sha256(place: Path) -> str:
    with place.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
