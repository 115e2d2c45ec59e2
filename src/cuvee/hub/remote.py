"""A model on a hub as a checkpoint: known by config, index and headers, a few kilobytes, before it is downloaded."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from cuvee.checkpoint import Checkpoint, TensorSpec, open_checkpoint
from cuvee.checkpoint.checkpoint import parse_config, parse_weight_map
from cuvee.checkpoint.folders import ENDING, split, weight_folders
from cuvee.checkpoint.header import Header, header_length, parse_header
from cuvee.checkpoint.naming import start_of_weights
from cuvee.checkpoint.stored_file import StoredFile
from cuvee.errors import CheckpointError, CuveeError
from cuvee.hub.access import Hub
from cuvee.hub.download import cached
from cuvee.hub.repository import Repository

FIRST_BYTES = 64 << 10
"""Asked of each file of weights at first: most headers fit."""

CONNECTIONS = 8


class RemoteCheckpoint:
    """A model's tensors without their numbers. `unseen` are names whose file is missing on the hub."""

    def __init__(self, repository: Repository, headers: tuple[Header, ...], config: dict[str, Any]) -> None:
        self.repository = repository
        self.headers = headers
        self.config = config
        self.place: Path | None = None
        tensors: dict[str, TensorSpec] = {}
        for header in headers:
            tensors |= {spec.name: spec for spec in header.tensors}
        self.tensors: Mapping[str, TensorSpec] = tensors

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        raise CheckpointError(f"'{name}' is not downloaded yet", where=self.repository.shown)

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        pass

    def files(self) -> dict[str, StoredFile]:
        hashes = self.repository.hashes
        return {
            header.name: StoredFile(header.size, blake3(header.raw).hexdigest(), hashes.get(header.name))
            for header in self.headers
        }


@dataclass(frozen=True)
class Opened:
    """A model of a hub, as far as it could be opened: the problems met, and the tensors that they hide."""

    checkpoint: RemoteCheckpoint | Checkpoint
    problems: tuple[CuveeError, ...] = ()
    unseen: frozenset[str] = frozenset()


def open_repository(hub: Hub, repository: Repository) -> Opened:
    """Open a model by its headers: of the cache if all its weights are there, or else by range requests.

    Raises CheckpointError if nothing of it can be known.
    """
    if hub.is_offline:
        return Opened(open_cached(repository))
    parts = _parts(hub, repository)
    config = _config(hub, repository)
    weights: list[str] = []
    for part in parts:
        weights += part.files
    if all(map(repository.has, ["config.json", *weights])):
        return Opened(open_cached(repository))
    problems: list[CuveeError] = []
    for part in parts:
        missing = [name for name in part.files if name not in repository.files]
        for name in missing:
            problems.append(CheckpointError(f"missing {name}, named by {part.start}", where=repository.shown))
    there = [name for name in weights if name in repository.files]
    headers: list[Header] = []
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for header in pool.map(lambda name: _header(hub, repository, name), there):
            if isinstance(header, Header):
                headers.append(header)
            else:
                problems.append(header)
    checkpoint = RemoteCheckpoint(repository, tuple(headers), config)
    unread = {*weights} - {header.name for header in headers}
    unseen: set[str] = set()
    for part in parts:
        problems += _index_problems(part, checkpoint)
        unseen |= {name for name, file in part.weight_map.items() if file in unread}
    return Opened(checkpoint, tuple(problems), frozenset(unseen))


def weight_names(hub: Hub, repository: Repository) -> list[str]:
    """List the files that a model's numbers are read from; none if they are not in safetensors."""
    if not any(name.endswith(ENDING) for name in repository.files):
        return []
    names: list[str] = []
    for part in _parts(hub, repository):
        names += part.files
    return names


def open_cached(repository: Repository) -> Checkpoint:
    """Open a model in the cache, with the sub-folders that are downloaded: those that it names as its parts."""
    checkpoint = open_checkpoint(repository.folder)
    checkpoint = checkpoint.without(checkpoint.others)
    checkpoint.hashes = repository.hashes
    return checkpoint


@dataclass(frozen=True)
class _Part:
    """The files of weights of a folder, and the map of their index if there is any. Names are those in the whole."""

    start: str
    files: tuple[str, ...]
    weight_map: Mapping[str, str]


def _parts(hub: Hub, repository: Repository) -> list[_Part]:
    """Find the files of weights of a model, and of the sub-folders that it names as its parts."""
    folders = weight_folders(repository.files, partial(_text, hub, repository), repository.shown)
    return [_part(hub, repository, folder) for folder in folders.declared]


def _part(hub: Hub, repository: Repository, folder: str) -> _Part:
    own = [split(name)[1] for name in repository.files if split(name)[0] == folder]
    config = _config(hub, repository) if folder == "" else {}
    start = folder + start_of_weights(own, config, f"{repository.shown}/{folder}".rstrip("/"))
    if not start.endswith(".json"):
        return _Part(start, (start,), {})
    weight_map = parse_weight_map(_text(hub, repository, start), Path(repository.shown) / start)
    weight_map = {folder + name: folder + file for name, file in weight_map.items()}
    return _Part(start, tuple(dict.fromkeys(weight_map.values())), weight_map)


def _text(hub: Hub, repository: Repository, name: str) -> str:
    return cached(hub, repository, name).read_text(encoding="utf-8")


def _config(hub: Hub, repository: Repository) -> dict[str, Any]:
    if "config.json" not in repository.files:
        return {}
    return parse_config(_text(hub, repository, "config.json"), Path(repository.shown) / "config.json")


def _header(hub: Hub, repository: Repository, name: str) -> Header | CuveeError:
    """Read a file's header by a range request, or two for a long header."""
    file = repository.files[name]
    where = Path(repository.shown) / name
    try:
        start = _range(hub, repository, name, 0, min(FIRST_BYTES, file.size))
        length = header_length(start[:8], file.size, where)
        raw = start[8 : 8 + length]
        if len(raw) < length:
            raw += _range(hub, repository, name, 8 + len(raw), 8 + length)
        return parse_header(raw, file.size, where).within(split(name)[0])
    except CuveeError as error:
        return error


def _range(hub: Hub, repository: Repository, name: str, start: int, end: int) -> bytes:
    return hub.patiently(lambda: _ask_range(hub, repository, name, start, end), f"{repository.shown}/{name}")


def _ask_range(hub: Hub, repository: Repository, name: str, start: int, end: int) -> bytes:
    """Ask for bytes [start, end) of a file. A server that sends all of it instead is not listened to further."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    url = hf_hub_url(repository.name, name, revision=repository.commit, endpoint=hub.endpoint)
    headers = {**build_hf_headers(), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    received = b""
    seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=seconds) as response:
        hf_raise_for_status(response)
        first = start if response.status_code == 206 else 0
        for piece in response.iter_raw():
            received += piece
            if first + len(received) >= end:
                break
    if first + len(received) < end:
        raise OSError(f"{name} ended after {first + len(received)} bytes; {end} were expected")
    return received[start - first : end - first]


def _index_problems(part: _Part, checkpoint: RemoteCheckpoint) -> list[CuveeError]:
    """Say where the index and the files that could be read disagree."""
    weight_map = part.weight_map
    files: dict[str, str] = {}
    read = set()
    for header in checkpoint.headers:
        if header.name in part.files:
            read.add(header.name)
            files |= {spec.name: header.name for spec in header.tensors}
    astray = []
    for name, file in weight_map.items():
        if file in read and files.get(name) != file:
            astray.append(name)
    surplus = []
    if weight_map:
        surplus = [name for name in files if name not in weight_map]
    where = checkpoint.repository.shown
    problems: list[CuveeError] = []
    if astray:
        message = f"'{astray[0]}' is not in {weight_map[astray[0]]}, where the index has it ({len(astray)} such)"
        problems.append(CheckpointError(message, where=where))
    if surplus:
        problems.append(CheckpointError(f"'{surplus[0]}' is not in {part.start} ({len(surplus)} such)", where=where))
    return problems
