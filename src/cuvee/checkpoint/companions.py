"""The files beside the weights: config, tokenizer, chat template, whatever else the donor has."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuvee.checkpoint.write import write_error

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".tflite")
REPLACED = ("config.json", "README.md", "cuvee.json", "recipe.yaml", "mergekit_config.yml")
"""Files that a merge writes anew."""


KNOWN = ("generation_config.json", "token*", "special_tokens_map.json", "vocab.*", "merges.txt", "*.jinja", "*.model")
"""What may be taken from beside a single file: its folder need not be a model's."""


def companion_files(place: Path) -> list[Path]:
    """List the files that belong to a copy of a model: all of its folder but weights, hidden and replaced ones.

    For a model that is a single file, only the known ones beside it.
    """
    folder = place if place.is_dir() else place.parent
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file()
        and (place.is_dir() or any(file.match(pattern) for pattern in KNOWN))
        and is_companion(file.name)
    )


def companion_names(place: Path) -> list[str]:
    """List the names of a model's companions."""
    return [file.name for file in companion_files(place)]


def is_companion(name: str) -> bool:
    """Say whether a file of a model's folder, by its name, belongs to a copy of the model."""
    kept = not name.startswith(".") and not name.endswith((*WEIGHTS, ".index.json"))
    return kept and name not in REPLACED and "/" not in name


def copy_companions(donor: Path, target: Path, *, wanted: Callable[[str], bool] = lambda _: True) -> list[str]:
    """Copy the `wanted` companions of a donor, a folder or file, and return their names. Links are followed."""
    files = [file for file in companion_files(donor) if wanted(file.name)]
    try:
        for file in files:
            shutil.copyfile(file, target / file.name)
    except OSError as error:
        raise write_error(error, target) from error
    return [file.name for file in files]


def merged_config(config: dict[str, Any], changes: dict[str, Any]) -> str:
    """Return the donor's config.json with `changes`; nothing else is touched."""
    return json.dumps({**config, **changes}, indent=2, ensure_ascii=False) + "\n"
