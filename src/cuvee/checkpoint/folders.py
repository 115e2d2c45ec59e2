"""Which sub-folders of a model have weights of their own: the dense layers of SentenceTransformers, and others.

A folder is written with a slash at its end, the model's own is the empty text. A tensor is called by its folder and its
name there, `2_Dense/linear.weight`, and so it is merged as all others are and written to a file of the same sub-folder.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuvee.checkpoint.companions import ADAPTER, WEIGHTS, is_hidden
from cuvee.errors import CheckpointError

MODULES, ROUTER = "modules.json", "router_config.json"
"""Files that name the sub-folders of a SentenceTransformer, and of one that begins with a router."""

PIPELINE = "model_index.json"
"""The file of a pipeline of diffusers, whose parts are models of their own."""

ENDING = ".safetensors"


@dataclass(frozen=True)
class WeightFolders:
    """The folders of a model that have files of safetensors.

    `declared` are its own folder and the folders that it names as parts of itself; `others` are the rest.
    """

    declared: tuple[str, ...]
    others: tuple[str, ...] = ()


def weight_folders(names: Iterable[str], read: Callable[[str], str], where: str) -> WeightFolders:
    """Find the folders with weights among the names of all files of a model. `read` returns the text of a file.

    Raises CheckpointError if the model needs weights that are not read: then no output of it could be opened.
    """
    files: dict[str, list[str]] = {"": []}
    for name in names:
        folder, own = split(name)
        files.setdefault(folder, []).append(own)
    parts = _named(files[""], read, where)
    for part in parts:
        _refuse_unread(part, files.get(part, []), read, where)
    declared: list[str] = []
    others: list[str] = []
    for folder in sorted(files):
        if folder == "" or not _has_weights(files[folder]):
            continue
        if folder.startswith(parts):
            declared.append(folder)
        elif not _is_skipped(folder, files[folder]):
            others.append(folder)
    if not _has_weights(files[""]):
        _refuse_without_own(files[""], bool(declared), where)
    if _has_weights(files[""]) or not declared:
        declared.insert(0, "")
    return WeightFolders(tuple(declared), tuple(others))


def _refuse_without_own(files: Sequence[str], has_parts: bool, where: str) -> None:
    """Raise CheckpointError for a model without safetensors of its own that is a pipeline, or in several formats."""
    if PIPELINE in files:
        hint = "merge its parts one by one: name the sub-folders"
        raise CheckpointError(f"this is a pipeline of diffusers, by its {PIPELINE}", where=where, hint=hint)
    if has_parts and _unread(files):
        raise _not_read("", _unread(files), where)


def folders_on_disk(folder: Path, names: Iterable[str]) -> WeightFolders:
    """Find the folders with weights of a model in a folder. Raises CheckpointError, as `weight_folders` does."""
    return weight_folders(names, lambda name: _text(folder / name), str(folder))


def refuse_folders_of_weights(folder: Path, names: Iterable[str]) -> None:
    """Raise CheckpointError if a model that is not in safetensors has sub-folders with weights, too."""
    files = list(names)
    own = [name for name in files if "/" not in name]
    weights = [name for name in files if name.endswith(WEIGHTS)]
    for part in _named(own, lambda name: _text(folder / name), str(folder)):
        inside = [name for name in weights if name.startswith(part)]
        if inside:
            raise _not_read(part, inside, str(folder))


def refuse_sub_folders(files: Iterable[str], where: str, output: str) -> None:
    """Raise CheckpointError for a model that has weights in sub-folders, where the `output` can have none.

    `files` are the names of its files of weights.
    """
    folders = sorted({split(file)[0] for file in files} - {""})
    if folders:
        message = f"has weights in sub-folders, {', '.join(folders)}, for which {output} has no place"
        hint = "copy the model's own folder without them, and without the file that names them"
        raise CheckpointError(message, where=where, hint=hint)


def split(name: str) -> tuple[str, str]:
    """Split a file's or tensor's name into its folder, with the slash, and its own name there."""
    own = name.rpartition("/")[2]
    return name[: len(name) - len(own)], own


def _named(files: Sequence[str], read: Callable[[str], str], where: str) -> tuple[str, ...]:
    """List the sub-folders that a model names as parts of itself."""
    paths: list[Any] = []
    if MODULES in files:
        modules = _json(read(MODULES), f"{where}/{MODULES}")
        paths += _paths(modules)
    if ROUTER in files:
        router = _json(read(ROUTER), f"{where}/{ROUTER}")
        if isinstance(router, dict):
            paths += router.get("types", {})
    texts = [path for path in paths if isinstance(path, str)]
    folders = dict.fromkeys(text.strip("/") for text in texts)
    return tuple(f"{folder}/" for folder in folders if folder)


def _paths(modules: Any) -> list[Any]:
    entries = modules if isinstance(modules, list) else []
    return [entry.get("path") for entry in entries if isinstance(entry, dict)]


def _refuse_unread(folder: str, files: Sequence[str], read: Callable[[str], str], where: str) -> None:
    if not _has_weights(files) and _unread(files):
        raise _not_read(folder, _unread(files), where)
    if not _has_weights(files) or "config.json" not in files:
        return
    config = _json(read(f"{folder}config.json"), f"{where}/{folder}config.json")
    if isinstance(config, Mapping) and "model_type" in config:
        hint = (
            "load it with sentence-transformers and save it again, which puts the transformer into the folder itself, "
            "or merge the sub-folders one by one"
        )
        message = f"has a {config['model_type']} in the sub-folder {folder}, whose config a merge would not compare"
        raise CheckpointError(message, where=where, hint=hint)


def _not_read(folder: str, files: Sequence[str], where: str) -> CheckpointError:
    message = f"the weights of {folder or 'the folder itself'} are not read: {', '.join(files)}"
    hint = "load the model with sentence-transformers and save it again: all weights are then in safetensors"
    return CheckpointError(message, where=where, hint=hint)


def _has_weights(files: Iterable[str]) -> bool:
    return any(file.endswith(ENDING) for file in files)


def _unread(files: Iterable[str]) -> list[str]:
    weights = [file for file in files if file.endswith(WEIGHTS)]
    return [file for file in weights if not file.endswith(ENDING)]


def _is_skipped(folder: str, files: Sequence[str]) -> bool:
    """Say whether a sub-folder cannot be a network of the model's: hidden, or an adapter."""
    return ADAPTER in files or any(map(is_hidden, folder.split("/")))


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"not JSON: {error}", where=where) from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot be read: {error}", where=str(file)) from error
