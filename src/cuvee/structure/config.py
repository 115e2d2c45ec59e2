"""Sizes that a config.json states, wherever it states them: at the top or within the part of a sub-model."""

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
    """Return every whole number that a config has under any of the keys, at any level."""
    sizes = set()
    for sub_config in _sub_configs(config, _DEPTH):
        sizes |= {sub_config[key] for key in keys if type(sub_config.get(key)) is int}
    return frozenset(sizes)


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's own part of a config: the whole of it where there is no other."""
    key = text_part(config)
    if key is None:
        return config
    text: Mapping[str, Any] = config[key]
    return text


def text_part(config: Mapping[str, Any]) -> str | None:
    """Return the key under which a config has the language model's own part; None if it has no such part."""
    for key in TEXT_PARTS:
        if isinstance(config.get(key), dict):
            return key
    return None


def number(config: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    """Return the first of the keys that a config has as a whole number."""
    for key in keys:
        if type(config.get(key)) is int:
            return int(config[key])
    return None


def is_tied(config: Mapping[str, Any]) -> bool | None:
    """Return whether a config ties head and embedding; None if it does not say."""
    for level in (config, text_config(config)):
        ties = level.get("tie_word_embeddings")
        if isinstance(ties, bool):
            return ties
    return None


def untied(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that make a config say that nothing is tied, wherever it says otherwise."""
    key = "tie_word_embeddings"
    changes: dict[str, Any] = {key: False}
    for text in TEXT_PARTS:
        if isinstance(config.get(text), dict):
            changes[text] = {**config[text], key: False}
    return changes


def hint(config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the words of the hint `name` for this config's families. Hints refine; nothing depends on them."""
    words: list[str] = []
    for model_type in _model_types(config):
        words += _hints().get(model_type, {}).get(name, ())
    return tuple(words)


def _model_types(config: Mapping[str, Any]) -> list[str]:
    """List the model types of a config and of its parts, each once."""
    types = [level.get("model_type") for level in _sub_configs(config, _DEPTH)]
    stated = [model_type for model_type in types if isinstance(model_type, str)]
    return list(dict.fromkeys(stated))


def memory_names(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the words of module names that transformers replaces when it loads a model: in files and in memory.

    A word that begins with `^` is the beginning of names only.
    """
    pairs = [word.partition("=") for word in hint(config, "in_memory")]
    return tuple((stored, loaded) for stored, _, loaded in pairs)


def in_memory(name: str, config: Mapping[str, Any]) -> str:
    """Return the name that transformers has in memory for a module or tensor of a file."""
    for stored, loaded in memory_names(config):
        if not stored.startswith("^"):
            name = f".{name}.".replace(f".{stored}.", f".{loaded}.")[1:-1]
        elif f"{name}.".startswith(f"{stored[1:]}."):
            return loaded + name[len(stored) - 1 :]
    return name


@cache
def _hints() -> dict[str, dict[str, list[str]]]:
    text = (Path(__file__).parent / "hints.json").read_text(encoding="utf-8")
    hints: dict[str, dict[str, list[str]]] = json.loads(text)
    return hints


def _sub_configs(config: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    """Yield a config and the dictionaries within it, down to a depth."""
    yield config
    if not depth:
        return
    for value in config.values():
        if isinstance(value, dict):
            yield from _sub_configs(value, depth - 1)
