"""The names of a folder's files of weights, on the way in and on the way out.

`start_of_weights` finds, among a folder's files, the file to open: a single file, or the index of several. `layout_of`
names an output's files like those of the model that it takes after.

transformers calls them `model`, diffusers `diffusion_pytorch_model`. A variant, such as fp16, stands before the ending:
`model.fp16.safetensors`, `model.fp16-00001-of-00002.safetensors`, `model.safetensors.index.fp16.json`.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cuvee.errors import CheckpointError

TRANSFORMERS, DIFFUSERS = "model", "diffusion_pytorch_model"

EXPLICIT = "transformers_weights"
"""The key of a config.json in which transformers looks for the name of the file or index."""

MOST_SHOWN = 12
"""Files in one message."""

INDICES = "*.safetensors.index*.json"
"""How indices are called, whatever the files are."""

_INDEX = re.compile(r"(?P<stem>.+)\.safetensors\.index(\.(?P<variant>[^.]+))?\.json")
_SHARD = re.compile(r"(?P<base>.+)-\d{5}-of-\d{5}(\.(?P<variant>[^.]+))?\.safetensors")
_SINGLE = re.compile(r"(?P<base>.+)\.safetensors")
_BASE = re.compile(rf"(?P<stem>{TRANSFORMERS}|{DIFFUSERS})\.(?P<variant>[^.]+)")

_TYPES = {"fp16": "F16", "float16": "F16", "bf16": "BF16", "bfloat16": "BF16", "fp32": "F32", "float32": "F32"}
"""Variants that say the type of the numbers."""


@dataclass(frozen=True)
class FileNames:
    """The names of the files of weights of a folder."""

    stem: str = TRANSFORMERS
    variant: str | None = None

    @property
    def single(self) -> str:
        """The name of the only file."""
        return f"{self._base}.safetensors"

    @property
    def index(self) -> str:
        """The name of the index of several files."""
        variant = f".{self.variant}" if self.variant else ""
        return f"{self.stem}.safetensors.index{variant}.json"

    def shard(self, number: int, count: int) -> str:
        """Return the name of a file, numbered from 1, of several."""
        return f"{self._base}-{number:05d}-of-{count:05d}.safetensors"

    @property
    def _base(self) -> str:
        return f"{self.stem}.{self.variant}" if self.variant else self.stem


Layout = Mapping[str, FileNames]
"""How files of weights are called, by sub-folder with a slash at its end; the model's own is the empty text."""

PLAIN: Layout = {"": FileNames()}


def start_of_weights(files: Collection[str], config: Mapping[str, Any], where: str) -> str:
    """Return which of a folder's own files to open: an index or a single file of safetensors.

    The config decides between the names of transformers and of diffusers, and a plain name goes before its variants.
    Raises CheckpointError if there is no such file, or if two are equally good.
    """
    starts = _starts(files)
    named = config.get(EXPLICIT)
    if isinstance(named, str) and named in starts:
        return named
    by_stem: dict[str, list[str]] = {}
    for file, names in starts.items():
        by_stem.setdefault(names.stem, []).append(file)
    for stem in _stems(config):
        if stem in by_stem:
            plain = [file for file in by_stem[stem] if starts[file].variant is None]
            return _only(plain or by_stem[stem], where)
    indices = [file for file in starts if file.endswith(".json")]
    others = indices or list(starts)  # what else there is, an index may list
    if len(others) == 1:
        return others[0]
    raise _nothing_stands_out(files, where)


def _starts(files: Iterable[str]) -> dict[str, FileNames]:
    """Return the indices and single files among others, with the names that they stand for."""
    starts: dict[str, FileNames] = {}
    for file in sorted(files):
        names = _names_of_start(file)
        if names is not None:
            starts[file] = names
    return starts


def _only(files: Sequence[str], where: str) -> str:
    if len(files) == 1:
        return files[0]
    both = "both " if len(files) == 2 else ""
    hint = "move what is not meant to another folder"
    raise CheckpointError(f"found {both}{' and '.join(files)}; which one counts?", where=where, hint=hint)


def _nothing_stands_out(files: Collection[str], where: str) -> CheckpointError:
    names = FileNames()
    message = f"expected {names.single} or {names.index}, found neither"
    weights = sorted(file for file in files if file.endswith((".bin", ".pt", ".pth", ".gguf", ".safetensors")))
    listed = ", ".join(weights[:MOST_SHOWN]) + (", ..." if len(weights) > MOST_SHOWN else "")
    if not weights:
        hint = "is it a model's folder?"
    elif any(file.endswith(".safetensors") for file in weights):
        hint = f"it holds {listed} and no index that says which belong together"
    else:
        hint = f"it holds {listed}; convert it to safetensors"
    return CheckpointError(message, where=where, hint=hint)


def is_of_diffusers(config: Mapping[str, Any]) -> bool:
    """Say whether a config.json is of diffusers."""
    return "_class_name" in config


def variant_of(start: str) -> str | None:
    """Return the variant that an index or a single file stands for, such as fp16; None for a plain name."""
    names = _names_of_start(start)
    return names.variant if names is not None else None


def layout_of(files: Iterable[str], config: Mapping[str, Any], dtype: str | None) -> Layout:
    """Name the files of an output that takes after a model with these `files` and this `config`.

    `dtype` is the type of most of the output's numbers: a variant that is called after another type is not kept.
    """
    by_folder: dict[str, set[FileNames]] = {"": set()}
    for file in files:
        own = file.rpartition("/")[2]
        folder = file[: len(file) - len(own)]
        if own.endswith(".safetensors"):
            by_folder.setdefault(folder, set()).add(_names_of_file(own))
    layout = {}
    for folder, names in by_folder.items():
        own_config = config if folder == "" else {}
        layout[folder] = _written(names, own_config, dtype)
    return layout


def _written(names: Collection[FileNames], config: Mapping[str, Any], dtype: str | None) -> FileNames:
    """Keep a name that all files have, unless the library that reads the config looks for another name."""
    looked_for = _stem_looked_for(config)
    if len(names) != 1:
        return FileNames(looked_for or TRANSFORMERS)
    (names_of_all,) = names
    variant = names_of_all.variant
    if dtype is not None and _TYPES.get(variant or "", dtype) != dtype:
        variant = None
    return FileNames(looked_for or names_of_all.stem, variant)


def _stem_looked_for(config: Mapping[str, Any]) -> str | None:
    """Return the name of weights in the library that a config belongs to; None if it belongs to neither."""
    if is_of_diffusers(config):
        return DIFFUSERS
    if "model_type" in config or "architectures" in config:
        return TRANSFORMERS
    return None


def _stems(config: Mapping[str, Any]) -> tuple[str, str]:
    if _stem_looked_for(config) == DIFFUSERS:
        return DIFFUSERS, TRANSFORMERS
    return TRANSFORMERS, DIFFUSERS


def _names_of_start(file: str) -> FileNames | None:
    """Return the names that an index or a single file stands for; None for anything else, shards included."""
    if match := _INDEX.fullmatch(file):
        return FileNames(match["stem"], match["variant"])
    if _SHARD.fullmatch(file) or not file.endswith(".safetensors"):
        return None
    return _names_of_file(file)


def _names_of_file(file: str) -> FileNames:
    """Return the names of which a file of safetensors, a shard or a single file, has its name."""
    match = _SHARD.fullmatch(file) or _SINGLE.fullmatch(file)
    if match is None:
        return FileNames(file)
    base = _BASE.fullmatch(match["base"])
    stem, variant = (base["stem"], base["variant"]) if base else (match["base"], None)
    return FileNames(stem, match.groupdict().get("variant") or variant)
