"""What a config.json says of sizes, wherever it says it: at the top or within the part of a sub-model."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

VOCABULARY = ("vocab_size", "padded_vocab_size")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
HIDDEN = ("hidden_size", "d_model", "n_embd", "embed_dim", "dim")
HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads")
KEY_HEADS = ("num_key_value_heads", "num_kv_heads")
TEXT_PARTS = ("text_config", "llm_config", "language_config")
_DEPTH = 4
"""How deep sub-models are looked for."""


def numbers(config: Mapping[str, Any], keys: tuple[str, ...]) -> frozenset[int]:
    """Return every whole number that a config has under one of the keys, at any level."""
    found = (part.get(key) for part in _parts(config, _DEPTH) for key in keys)
    return frozenset(value for value in found if type(value) is int)


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's own part of a config: the whole of it where there is no other."""
    key = text_part(config)
    part: Mapping[str, Any] = config if key is None else config[key]
    return part


def text_part(config: Mapping[str, Any]) -> str | None:
    """Return the key under which a config has the language model's own part; None if it has no such part."""
    return next((key for key in TEXT_PARTS if isinstance(config.get(key), dict)), None)


def number(config: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    """Return the first of the keys that a config has as a whole number."""
    return next((config[key] for key in keys if type(config.get(key)) is int), None)


def is_tied(config: Mapping[str, Any]) -> bool | None:
    """Return whether a config ties head and embedding; None if it does not say."""
    for part in (config, text_config(config)):
        said = part.get("tie_word_embeddings")
        if isinstance(said, bool):
            return said
    return None


def untied(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that make a config say that nothing is tied, wherever it says otherwise."""
    key = "tie_word_embeddings"
    changes: dict[str, Any] = {key: False}
    for part in TEXT_PARTS:
        if isinstance(config.get(part), dict):
            changes[part] = {**config[part], key: False}
    return changes


def hint(config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return what the hints say under a name of this config's family. They refine; nothing depends on them."""
    kinds = {part.get("model_type") for part in _parts(config, _DEPTH)}
    return tuple(word for kind in kinds if isinstance(kind, str) for word in _hints().get(kind, {}).get(name, ()))


def memory_names(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the words of module names that transformers replaces when it loads a model: in files and in memory."""
    pairs = [word.partition("=") for word in hint(config, "in_memory")]
    return tuple((stored, loaded) for stored, _, loaded in pairs)


def in_memory(name: str, config: Mapping[str, Any]) -> str:
    """Return the name that transformers has in memory for a module or tensor of a file."""
    for stored, loaded in memory_names(config):
        name = f".{name}.".replace(f".{stored}.", f".{loaded}.")[1:-1]
    return name


@cache
def _hints() -> dict[str, dict[str, list[str]]]:
    text = (Path(__file__).parent / "hints.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[str]]] = json.loads(text)
    return found


def _parts(config: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    yield config
    if depth:
        for value in config.values():
            if isinstance(value, dict):
                yield from _parts(value, depth - 1)
