"""The files and sub-folders beside the weights: config, tokenizer, chat templates, whatever else the donor has.

Each is copied, or left out for a reason that the plan tells. Files of weights that a merge does not read are never
copied: beside merged weights they would pass for another form of them, which they are not.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cuvee.checkpoint.write import write_error

WEIGHTS = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".h5", ".msgpack", ".npz", ".ot", ".pkl", ".nemo",
    ".onnx", ".onnx_data", ".onnx.data", ".tflite", ".pb", ".engine", ".mlmodel", ".mlpackage", ".mlmodelc",
    ".llamafile",
)  # fmt: skip
"""How files of weights end, and folders that are one model in another library's form."""

REPLACED = ("config.json", "README.md", "cuvee.json", "recipe.yaml", "mergekit_config.yml")
"""Files of the top folder that a merge writes anew."""

KNOWN = ("generation_config.json", "token*", "special_tokens_map.json", "vocab.*", "merges.txt", "*.jinja", "*.model")
"""What may be taken from beside a single file: its folder need not be a model's."""

ADAPTER = "adapter_config.json"

_OF_WEIGHTS = re.compile(r".*\.index(\.[^.]+)?\.json|openvino_.*\.xml|adapter_(config|model).*")
"""Files that only speak of weights: indices, OpenVINO's graph, an adapter's config and weights."""

_OF_CODES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json", "quant_strategy.json")

UNMERGED = "weights that are not merged"
HIDDEN = "hidden"


@dataclass(frozen=True)
class Companions:
    """A model's files besides its merged weights: names to copy, and names that are left out, with the reasons.

    Names are relative to the model's folder, with slashes; a sub-folder that is left out as a whole ends with a slash.
    """

    copied: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def _is_known(file: Path) -> bool:
    return any(map(file.match, KNOWN))


def companions_of(place: Path, merged: Collection[str]) -> Companions:
    """Sort out the files that belong to a copy of a model. `merged` are its files whose numbers are merged.

    For a model that is a single file, only the known files beside it count.
    """
    if not place.is_dir():
        beside = [file.name for file in place.parent.iterdir() if _is_known(file)]
        return Companions(sort_out(beside, ()).copied)
    links: dict[str, str] = {}
    names = _walked(place, "", links)
    sorted_out = sort_out(names, merged)
    return Companions(sorted_out.copied, {**sorted_out.left_out, **links})


def sort_out(names: Iterable[str], merged: Collection[str]) -> Companions:
    """Sort out the companions among the names of all files of a model, as `companions_of` does."""
    names = sorted(names)
    stale = _folders_of_unmerged_weights(names, merged)
    copied: list[str] = []
    left_out: dict[str, str] = {}
    for name in names:
        if name in merged or name in REPLACED:
            continue
        reason = _reason(name, stale)
        if reason is None:
            copied.append(name)
        else:
            left_out.setdefault(*reason)
    indices = {name for name in left_out if _is_index(name, merged)}
    return Companions(tuple(copied), {name: why for name, why in left_out.items() if name not in indices})


def copy_companions(
    donor: Path, target: Path, merged: Collection[str], *, wanted: Callable[[str], bool] = lambda _: True
) -> list[str]:
    """Copy the `wanted` companions of a donor, a folder or file, and return their names. Links are followed."""
    folder = donor if donor.is_dir() else donor.parent
    names = [name for name in companions_of(donor, merged).copied if wanted(name)]
    try:
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target / name)
    except OSError as error:
        raise write_error(error, target) from error
    return names


def in_words(companions: Companions) -> str | None:
    """Name the files that are left out, by reason; None if there are none."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in companions.left_out.items():
        by_reason.setdefault(reason, []).append(name)
    if not by_reason:
        return None
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())


def merged_config(config: dict[str, Any], changes: dict[str, Any]) -> str:
    """Return the donor's config.json with `changes`; nothing else is touched."""
    return json.dumps({**config, **changes}, indent=2, ensure_ascii=False) + "\n"


def files_below(folder: Path) -> list[str]:
    """List the names of all files of a model's folder. Hidden folders and links to folders are not entered."""
    return list(_walked(folder, "", {}))


def is_hidden(part: str) -> bool:
    """Say whether a file or folder, by its own name, is nothing that a model is loaded by."""
    return part.startswith(".") or part == "__pycache__"


def _walked(folder: Path, prefix: str, links: dict[str, str]) -> Iterator[str]:
    """Give the names of all files; note in `links` the links that are not followed. Hidden folders are not entered."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = prefix + entry.name
        if entry.is_dir() and is_hidden(entry.name):
            links[f"{name}/"] = HIDDEN
        elif entry.is_dir() and entry.is_symlink():
            links[f"{name}/"] = "a link to a folder"
        elif entry.is_dir():
            yield from _walked(Path(entry.path), f"{name}/", links)
        elif entry.is_file():
            yield name
        else:
            links[name] = "not a file that can be read"


def _folders_of_unmerged_weights(names: Collection[str], merged: Collection[str]) -> set[str]:
    """List the sub-folders that hold weights of which none is merged: exports, copies, states of a training."""
    folders = set()
    for name in names:
        package = _PACKAGE.match(name)
        if package:
            folders.add(package.group())
        if name not in merged and _is_of_weights(_own(name)):
            folders.add(_folder(name))
    return folders - {"", *map(_folder, merged)}


_PACKAGE = re.compile(r".*?\.(mlpackage|mlmodelc)(?=/)")


def _reason(name: str, stale: Collection[str]) -> tuple[str, str] | None:
    """Return the name that is left out with a file, its own or a whole folder's, and why; None if it is copied."""
    parts = name.split("/")
    for end in range(1, len(parts)):
        folder = "/".join(parts[:end])
        if is_hidden(parts[end - 1]):
            return f"{folder}/", HIDDEN
        if folder in stale:
            return f"{folder}/", UNMERGED
    if is_hidden(parts[-1]):
        return name, HIDDEN
    if _is_of_weights(parts[-1]):
        return name, UNMERGED
    if parts[-1] in _OF_CODES:
        return name, "of quantised weights"
    return None


def _is_of_weights(name: str) -> bool:
    return name.endswith(WEIGHTS) or _OF_WEIGHTS.fullmatch(name) is not None


def _is_index(name: str, merged: Collection[str]) -> bool:
    """Say whether a file is the index of files that are merged: it is written anew, or not needed."""
    return fnmatch(name, "*.index*.json") and _folder(name) in set(map(_folder, merged))


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _own(name: str) -> str:
    return name.rpartition("/")[2]
