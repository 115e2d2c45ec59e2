"""How an embedding model makes a vector of a text, from sentence-transformers' files to GGUF's word for it."""

import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from cuvee.errors import CheckpointError
from cuvee.foreign.gguf_names import Family

POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}
"""sentence-transformers' words, and the numbers of `llama_pooling_type`."""

_FLAGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken"}

_HARMLESS = ("Transformer", "Pooling", "Normalize")


def pooling_settings(place: Path, known: Family, bare: bool) -> Generator[str, None, dict[str, Any]]:
    """Return how texts are pooled; yields notes.

    Raises CheckpointError for layers behind the pooling and ways llama.cpp lacks.
    """
    file = place / "modules.json"
    if not file.is_file():
        if bare:
            yield "the model has no head and does not say how texts become vectors: name --pooling to llama.cpp"
        return {}
    modules = _read(file)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    strange = [kind for kind in kinds if kind not in _HARMLESS]
    if strange:
        raise CheckpointError(f"has a module '{strange[0]}', which would be lost", where=str(file))
    if "Pooling" not in kinds:
        return {}
    folder = str(modules[kinds.index("Pooling")].get("path", "1_Pooling"))
    way = _way(_read(place / folder / "config.json"))
    if way not in POOLING:
        hint = f"llama.cpp knows {', '.join(POOLING)}"
        raise CheckpointError(f"pools texts by '{way}'", where=str(place / folder / "config.json"), hint=hint)
    return {f"{known.key}.pooling_type": POOLING[way]}


def _way(config: Mapping[str, Any]) -> str:
    if isinstance(config.get("pooling_mode"), str):
        return str(config["pooling_mode"])
    words = []
    for key, value in config.items():
        if key.startswith("pooling_mode_") and value is True:
            words.append(_FLAGS.get(key, key.removeprefix("pooling_mode_")))
    return " and ".join(words) or "nothing"


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot be read: {error}", where=str(file)) from error
