"""Gathers the facts that rules look at: of the competition's own models, of folders, of models of a hub."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from cuvee.checkpoint import open_checkpoint
from cuvee.errors import CheckpointError
from cuvee.submission.competition import Competition, Model
from cuvee.submission.evidence import ModelFacts, Origin
from cuvee.submission.lock import LockedModel
from cuvee.tokenizers.read import read_tokenizer

CODE = (".py", ".so", ".pyc")
MERGE_MARKS = ("mergekit_config.yml", "mergekit_moe_config.yml", "cuvee.json")
"""Files that a merge leaves behind."""

ADAPTER_CONFIG = "adapter_config.json"
CONFIGS = (
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    ADAPTER_CONFIG,
)
"""Files besides config.json through which loaders would import what a model names."""

CODE_KEYS = ("auto_map", "custom_pipelines")
ADAPTER_CODE_KEYS = ("auto_mapping", "megatron_config", "megatron_core", "tokenizer_kwargs")
"""Keys of an adapter's config through which PEFT would import what the adapter names."""

HARMLESS = ("megatron.core",)
"""What PEFT itself writes under such a key."""


def competition_model(competition: Competition, locked: LockedModel) -> Model | None:
    """Return the competition's model that has the very files of a locked model, whatever either is called."""
    hashes = {name: file.sha256 for name, file in locked.files.items()}
    if not hashes:
        return None
    return next((model for model in competition.models if _same(hashes, model.files)), None)


def _same(locked: Mapping[str, str], files: Mapping[str, str]) -> bool:
    if not locked.items() <= files.items():
        return False
    weights = {name for name in files if name.endswith(".safetensors")}
    return weights <= locked.keys()


def competition_facts(competition: Competition, model: Model, reference: str) -> ModelFacts:
    """Return the facts of a model of the competition: those of its file, and those that headers show."""
    uploaded = datetime.combine(model.uploaded, time(), UTC) if model.uploaded else None
    place = competition.folder / model.folder
    return folder_facts(place, reference, "competition", licence=model.licence, uploaded=uploaded)


def bytes_of_weights(files: Mapping[str, int]) -> int:
    """Return how many bytes of the files are safetensors."""
    return sum(count for name, count in files.items() if name.endswith(".safetensors"))


def folder_facts(
    place: Path, reference: str, origin: Origin, *, licence: str | None = None, uploaded: datetime | None = None
) -> ModelFacts:
    """Return the facts of a model in a folder."""
    own = [file for file in sorted(place.iterdir()) if file.is_file()]
    files = {file.name: file.stat().st_size for file in own}
    try:
        with open_checkpoint(place) as checkpoint:
            counted: int | None = sum(spec.elements for spec in checkpoint.tensors.values())
            config = checkpoint.config
    except CheckpointError as error:
        return ModelFacts(reference, origin, files=files, missing=f"its headers cannot be read: {error.message}")
    return ModelFacts(
        reference,
        origin,
        created=uploaded,
        licence=licence,
        model_type=text_of(config.get("model_type")),
        vocabulary=vocabulary_in(place),
        parameters=counted,
        weight_bytes=bytes_of_weights(files),
        files=files,
        remote_code=code_in(files, {"config.json": config, **configs_in(place)}),
        looks_merged=tuple(name for name in MERGE_MARKS if name in files),
    )


def code_in(files: Mapping[str, int], configs: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Name the parts that would run as a program where the model is loaded: files, and keys of its configs."""
    programs = [name for name in files if name.endswith(CODE)]
    asked = []
    for file, config in configs.items():
        asked += [f"{file}: {key}" for key in CODE_KEYS if config.get(key)]
    adapter = configs.get(ADAPTER_CONFIG, {})
    return (*programs, *asked, *(f"{ADAPTER_CONFIG}: {key}" for key in ADAPTER_CODE_KEYS if _asks(adapter.get(key))))


def _asks(value: Any) -> bool:
    return bool(value) and value not in HARMLESS


def vocabulary_in(place: Path) -> str | None:
    """Return the SHA-256 of which token has which id in a folder's tokenizer; None if it has none that can be read."""
    try:
        ids = read_tokenizer(place).ids
    except CheckpointError:
        return None
    return hashlib.sha256(json.dumps(sorted(ids.items())).encode()).hexdigest()


def text_of(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def configs_in(place: Path) -> dict[str, Mapping[str, Any]]:
    """Read the other small JSON files that loaders look at; one that cannot be read counts as asking for code."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in CONFIGS:
        if (place / name).is_file():
            try:
                content = json.loads((place / name).read_text(encoding="utf-8"))
            except (ValueError, OSError, RecursionError):
                content = {"auto_map": "cannot be read"}
            found[name] = content if isinstance(content, dict) else {}
    return found
