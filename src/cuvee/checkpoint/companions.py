"""The files beside the weights: config, tokenizer, chat template, whatever else the donor has."""

import json
import shutil
from pathlib import Path
from typing import Any

from cuvee.checkpoint.write import write_error

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".tflite")
REPLACED = ("config.json", "README.md", "cuvee.json", "recipe.yaml", "mergekit_config.yml")
"""Files that a merge writes anew."""


def companion_files(folder: Path) -> list[Path]:
    """List the files of a model's folder that belong to a copy of it: all but weights, hidden and replaced ones."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file()
        and file.suffix not in WEIGHTS
        and not file.name.endswith(".index.json")
        and not file.name.startswith(".")
        and file.name not in REPLACED
    )


def copy_companions(donor: Path, target: Path) -> list[str]:
    """Copy the donor's companions and return their names. Links are followed: a hub cache holds links."""
    files = companion_files(donor)
    try:
        for file in files:
            shutil.copyfile(file, target / file.name)
    except OSError as error:
        raise write_error(error, target) from error
    return [file.name for file in files]


def merged_config(config: dict[str, Any], changes: dict[str, Any]) -> str:
    """Return the donor's config.json with `changes`; nothing else is touched."""
    return json.dumps({**config, **changes}, indent=2, ensure_ascii=False) + "\n"
