"""Tensors that have a row for each token: embeddings and heads, told by name and by their number of rows."""

from collections.abc import Mapping
from typing import Any

from cuvee.checkpoint import TensorSpec
from cuvee.structure.layers import layer_of

_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "shared.weight", "tok_embeddings", "embedding")
_HEADS = ("lm_head", "embed_out", "output", "predictions", "logits_bias", "unembed", "decoder", "head")
_OTHERS = ("position", "wpe", "token_type", "norm", "ln_", "rotary", "patch")


def vocabulary_rows(tensors: Mapping[str, TensorSpec], config: Mapping[str, Any]) -> int | None:
    """Return how many rows the embedding of tokens has; None for a model without such an embedding."""
    rows = {name: spec.shape[0] for name, spec in tensors.items() if len(spec.shape) == 2}
    for word in _EMBEDDINGS:
        embeddings = [name for name in rows if word in name]
        outside = next(filter(_is_outside, embeddings), None)
        if outside is not None:
            return rows[outside]
    size = config.get("vocab_size")
    return size if isinstance(size, int) else None


def vocabulary_tensors(tensors: Mapping[str, TensorSpec], rows: int) -> list[str]:
    """List the tensors with a row, or for a bias a number, for each of `rows` tokens."""
    names = []
    for name, spec in tensors.items():
        if _is_outside(name) and _fits(name, spec.shape, rows):
            names.append(name)
    return names


def resized(config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return how config.json says the number of rows, also of the language part of a larger model."""
    changes: dict[str, Any] = {}
    for key, value in config.items():
        is_text_part = "text" in key and isinstance(value, Mapping)
        if key == "vocab_size":
            changes[key] = rows
        if is_text_part and "vocab_size" in value:
            changes[key] = {**value, "vocab_size": rows}
    return changes or {"vocab_size": rows}


def _is_outside(name: str) -> bool:
    if layer_of(name) is not None:
        return False
    return not any(word in name for word in _OTHERS)


def _fits(name: str, shape: tuple[int, ...], rows: int) -> bool:
    if shape[:1] == (rows,):
        return any(word in name for word in (*_EMBEDDINGS, *_HEADS))
    return shape == (1, rows) and "bias" in name
