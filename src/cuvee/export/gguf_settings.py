"""A config.json in GGUF's words. What llama.cpp would compute otherwise than transformers is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuvee.errors import CheckpointError
from cuvee.foreign.gguf_names import Family

NEEDED = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")


def model_settings(config: Mapping[str, Any], known: Family, place: Path) -> dict[str, Any]:
    """Return GGUF's settings of a model. Raises CheckpointError for what cannot be said there."""
    for key in NEEDED:
        if type(config.get(key)) is not int:
            raise CheckpointError(f"config.json has no '{key}', which a GGUF file needs", where=str(place))
    rotation = _rotation(config, place)
    flat = {**config, **rotation, "head_dim": _head_width(config)}
    flat["num_key_value_heads"] = config.get("num_key_value_heads") or config["num_attention_heads"]
    settings: dict[str, Any] = {}
    for theirs, ours in known.config.items():
        value = flat.get(ours)
        if value is not None:
            settings[f"{known.key}.{theirs}"] = value
    settings[f"{known.key}.attention.value_length"] = flat["head_dim"]
    settings[f"{known.key}.rope.dimension_count"] = flat["head_dim"]
    return settings


def _head_width(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _rotation(config: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """Return the base of the rotary embedding. Raises CheckpointError for one that is scaled."""
    said = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if any(isinstance(value, Mapping) for value in said.values()):
        said = next((value for key, value in said.items() if key == "full_attention"), {})
    kind = said.get("rope_type") or said.get("type") or "default"
    if kind != "default":
        hint = "llama.cpp's own convert_hf_to_gguf.py knows it"
        raise CheckpointError(
            f"a rotary embedding of the kind '{kind}' is not written here", where=str(place), hint=hint
        )
    base = said.get("rope_theta") or config.get("rope_theta")
    return {"rope_theta": float(base)} if base else {}
